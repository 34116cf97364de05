import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import topology, tr38901
from m3jax.channels.tr38901 import UMA, UMI
from m3jax.ops.quantities import Hertz
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

BOTH = pytest.mark.parametrize("scenario", [UMI, UMA], ids=["UMi", "UMa"])
DISTANCES = (10.0, 100.0, 1000.0, 5000.0)

# Worked out by hand from table 7.4.1-1 at 5 GHz for users at 1.5 m; the test vectors
# that the ns-3 simulator publishes for its own model are the same to four digits.
LOS = {
    "UMi street canyon": (69.8591, 88.4122, 119.3114, 147.2696),
    "UMa": (72.9380, 86.2362, 109.7252, 137.6794),
}
NLOS = {
    "UMi street canyon": (76.7563, 107.9432, 143.1886, 167.8617),
    "UMa": (82.5131, 106.1356, 144.7641, 172.0753),
}


def table(scenario, d_2d, f, h_ut, h_e=1.0):
    """Table 7.4.1-1 as printed, both branches, in float64: LOS and NLOS."""
    h_bs = {"UMi street canyon": 10.0, "UMa": 25.0}[scenario.name]
    d_3d = np.hypot(d_2d, h_bs - h_ut)
    d_bp = 4.0 * (h_bs - h_e) * (h_ut - h_e) * f / 3e8
    log_f = np.log10(f / 1e9)
    squares = np.log10(d_bp**2 + (h_bs - h_ut) ** 2)
    if scenario is UMI:
        pl_1 = 32.4 + 21.0 * np.log10(d_3d) + 20.0 * log_f
        pl_2 = 32.4 + 40.0 * np.log10(d_3d) + 20.0 * log_f - 9.5 * squares
        own = 35.3 * np.log10(d_3d) + 22.4 + 21.3 * log_f - 0.3 * (h_ut - 1.5)
    else:
        pl_1 = 28.0 + 22.0 * np.log10(d_3d) + 20.0 * log_f
        pl_2 = 28.0 + 40.0 * np.log10(d_3d) + 20.0 * log_f - 9.0 * squares
        own = 13.54 + 39.08 * np.log10(d_3d) + 20.0 * log_f - 0.6 * (h_ut - 1.5)
    los = np.where(d_2d <= d_bp, pl_1, pl_2)
    return los, np.maximum(los, own)


@BOTH
def test_path_loss_equals_numbers_worked_out_by_hand(scenario):
    distance, carrier = jnp.array(DISTANCES), Hertz(5e9)
    los = scenario.los(distance, carrier).value
    np.testing.assert_allclose(los, LOS[scenario.name], atol=1e-3)
    nlos = scenario.nlos(distance, carrier).value
    np.testing.assert_allclose(nlos, NLOS[scenario.name], atol=1e-3)


@BOTH
def test_path_loss_equals_the_table_for_all_distances_heights_and_carriers(scenario):
    d, f, h = np.meshgrid(
        np.geomspace(10.0, 5000.0, 60), [0.5e9, 3.5e9, 28e9, 100e9], [1.5, 12.0, 22.5]
    )
    los, nlos = table(scenario, d, f, h)

    @jax.jit
    def found(d, f, h):
        return scenario.los(d, Hertz(f), h), scenario.nlos(d, Hertz(f), h)

    found_los, found_nlos = found(d, f, h)
    np.testing.assert_allclose(found_los.value, los, atol=2e-3)
    np.testing.assert_allclose(found_nlos.value, nlos, atol=2e-3)
    assert (found_nlos.value >= found_los.value).all()


def test_a_raised_ground_moves_the_breakpoint_of_tall_users():
    distance = np.array([50.0, 400.0, 3000.0])
    los, nlos = table(UMA, distance, 2e9, 20.0, h_e=15.0)
    args = jnp.array(distance), Hertz(2e9), 20.0, 15.0
    np.testing.assert_allclose(UMA.los(*args).value, los, atol=1e-3)
    np.testing.assert_allclose(UMA.nlos(*args).value, nlos, atol=1e-3)
    assert float(UMA.breakpoint_distance(*args[1:])) == pytest.approx(
        4 * 10 * 5 * 20 / 3
    )


@BOTH
def test_the_branches_meet_at_the_breakpoint_and_the_slope_is_between_theirs(scenario):
    carrier = Hertz(3.5e9)
    bend = float(scenario.breakpoint_distance(carrier))

    def loss(d):
        return scenario.los(d, carrier).value

    around = bend * jnp.array([0.9999, 1.0, 1.0001])
    (before, at, after), slopes = jax.jit(jax.vmap(jax.value_and_grad(loss)))(around)
    assert before < at < after and after - before < 5e-3
    # d(B log10 d_3D)/dd = B d / (ln 10 d_3D^2), 40 dB per decade beyond.
    height = scenario.base_height - 1.5
    by_hand = bend / (np.log(10.0) * (bend**2 + height**2))
    # At the breakpoint itself rounding decides which branch is taken.
    ends = scenario.los_slope * by_hand * (1 - 1e-5), 40.0 * by_hand * (1 + 1e-5)
    assert ends[0] <= slopes[1] <= ends[1]
    assert float(slopes[0]) == pytest.approx(scenario.los_slope * by_hand, rel=5e-3)
    assert float(slopes[2]) == pytest.approx(40.0 * by_hand, rel=5e-3)


def test_los_probability_equals_numbers_worked_out_by_hand():
    for scenario, height, distance, expected in [
        (UMI, 1.5, 36.0, 0.5 + 0.5 * np.exp(-1.0)),
        (UMI, 22.5, 180.0, 0.1 + 0.9 * np.exp(-5.0)),
        (UMA, 1.5, 63.0, 2.0 / 7.0 + 5.0 / 7.0 * np.exp(-1.0)),
        (UMA, 13.0, 630.0, 18.0 / 630.0 + (1.0 - 18.0 / 630.0) * np.exp(-10.0)),
        # C'(17 m) = 0.4^1.5; (d / 100)^3 = 3.375 at 150 m.
        (
            *(UMA, 17.0, 150.0),
            (0.12 + 0.88 * np.exp(-150.0 / 63.0))
            * (1.0 + 0.4**1.5 * 1.25 * 3.375 * np.exp(-1.0)),
        ),
    ]:
        found = scenario.los_probability(distance, height)
        assert float(found) == pytest.approx(expected, rel=1e-5)


@BOTH
def test_los_probability_is_one_up_to_18_m_and_falls_to_zero(scenario):
    distance = np.concatenate([[0.0, 1.0, 10.0, 18.0], np.geomspace(18.01, 1e6, 200)])
    short, tall = jax.jit(scenario.los_probability)(distance, np.array([[1.5], [22.5]]))
    for p in (short, tall):
        np.testing.assert_array_equal(p[:4], 1.0)
        assert (p <= 1.0).all() and p[-1] < 1e-4
    assert (np.diff(short) <= 0.0).all()
    assert (tall > short).any() == (scenario is UMA)


def test_drawn_states_are_as_frequent_as_their_probability(key):
    num = 20_000
    distance = jnp.broadcast_to(jnp.array([15.0, 40.0, 200.0]), (num, 3))
    drawn, p = jax.jit(
        lambda: (UMI.draw_los(key, distance), UMI.los_probability(distance)[0])
    )()
    p = np.asarray(p)
    error = 4.5 * np.sqrt(p * (1.0 - p) / num)
    assert (np.abs(np.mean(drawn, axis=0) - p) <= error).all()
    assert drawn[:, 0].all()


def test_the_drawn_state_chooses_the_loss():
    distance, carrier = jnp.array([100.0, 100.0]), Hertz(3.5e9)
    los = jnp.array([True, False])
    loss, yes, no = jax.jit(
        lambda: (
            UMI.path_loss(distance, los, carrier).value,
            UMI.los(100.0, carrier).value,
            UMI.nlos(100.0, carrier).value,
        )
    )()
    np.testing.assert_allclose(loss, [yes, no], rtol=1e-6)
    assert no > yes + 10.0


def test_expected_path_loss_is_the_mean_over_draws(key):
    distance, carrier = jnp.full(20_000, 60.0), Hertz(3.5e9)

    @jax.jit
    def both(key):
        drawn = UMI.path_loss(distance, UMI.draw_los(key, distance), carrier)
        return drawn.value, UMI.expected_path_loss(60.0, carrier).value

    drawn, expected = (np.asarray(loss, np.float64) for loss in both(key))
    assert abs(drawn.mean() - expected) < 4.5 * drawn.std() / np.sqrt(drawn.size)


def test_environment_heights_follow_note_1(key):
    num, user_heights = 20_000, jnp.array([22.5, 16.0, 13.4, 13.0, 22.5])
    distances = jnp.array([200.0, 200.0, 200.0, 200.0, 18.0])

    def draw(scenario):
        distance = jnp.broadcast_to(distances, (num, 5))
        return scenario.draw_environment_height(key, distance, user_heights)

    uma, umi = jax.jit(lambda: (draw(UMA), draw(UMI)))()
    heights, counts = np.unique(uma[:, 0], return_counts=True)
    np.testing.assert_array_equal(heights, [1.0, 12.0, 15.0, 18.0, 21.0])
    tall = 0.95**1.5 * 1.25 * 8.0 * np.exp(-200.0 / 150.0)
    p = np.array([1.0] + 4 * [tall / 4.0]) / (1.0 + tall)
    assert (np.abs(counts / num - p) < 4.5 * np.sqrt(p * (1.0 - p) / num)).all()
    for user in (1, 2):  # 15 m would be above h_UT - 1.5
        np.testing.assert_array_equal(np.unique(uma[:, user]), [1.0, 12.0])
    np.testing.assert_array_equal(uma[:, 3:], 1.0)
    np.testing.assert_array_equal(umi, 1.0)


def test_shadowing_of_the_tables():
    los = jnp.array([True, False])
    np.testing.assert_allclose(UMI.shadowing_std(los).value, [4.0, 7.82])
    np.testing.assert_allclose(UMA.shadowing_std(los).value, [4.0, 6.0])
    np.testing.assert_allclose(UMI.correlation_distance(los), [10.0, 13.0])
    np.testing.assert_allclose(UMA.correlation_distance(los), [37.0, 50.0])


def losses(scenario, users, carrier, height):
    """Expected loss, of which all others are parts, and LOS probability."""
    distance = topology.distance_2d(users, jnp.zeros(2))
    carrier = carrier * 1e9
    return jnp.stack(
        [
            scenario.expected_path_loss(distance, carrier, height).value,
            scenario.los_probability(distance, height),
        ]
    )


@BOTH
def test_gradients_by_position_carrier_and_height_equal_finite_differences(scenario):
    users = np.array([[12.0, 9.0], [-60.0, 80.0], [500.0, -900.0]])
    weights = jnp.array([[1.0, 2.0, 3.0], [400.0, 500.0, 600.0]])

    @jax.jit
    def total(users, carrier, height):
        return jnp.sum(weights * losses(scenario, users, carrier, height))

    args = users, Hertz(3.5), np.array([1.7, 19.0, 14.0])
    gradients.check_against_finite_differences(total, args, rtol=1e-4)


@BOTH
def test_every_gradient_by_position_is_there_and_points_outwards(scenario):
    users = jnp.array([[30.0, 40.0], [-300.0, 400.0]])

    def loss(users):
        return jnp.sum(losses(scenario, users, Hertz(3.5), 1.5)[0])

    slope = jax.jit(jax.grad(loss))(users)
    assert (np.sum(slope * users, axis=1) > 0.02 * np.linalg.norm(users, axis=1)).all()


@BOTH
def test_values_and_gradients_are_finite_at_the_mast_at_18_m_and_at_the_antenna(
    scenario,
):
    users = jnp.array([[0.0, 0.0], [18.0, 0.0]])

    def twice(*args):
        value = losses(scenario, *args)
        return value, value

    both = jax.jit(jax.jacrev(twice, argnums=(0, 1, 2), has_aux=True))
    for height in (1.5, 13.0, scenario.base_height):
        jacobian, value = both(users, Hertz(3.5), height)
        gradients.assert_finite(jacobian, "jacobian")
        gradients.assert_finite(value, "losses")


def test_jit_vmap_and_eager_agree(key):
    distances = jnp.array([40.0, 150.0, 600.0])

    def all_of(key, distance):
        los = UMA.draw_los(key, distance)
        return UMA.path_loss(distance, los, Hertz(2e9)).value

    keys = jax.random.split(key, 3)
    mapped = jax.jit(jax.vmap(all_of))(keys, distances)
    eager = [all_of(*each) for each in zip(keys, distances, strict=True)]
    np.testing.assert_allclose(mapped, eager, rtol=1e-6)


def test_values_outside_the_report_are_named():
    UMI.check_range([10.0, 5000.0], Hertz(28e9), [1.5, 22.5])
    for args, message in [
        (([5.0, 50.0], Hertz(2e9)), "UMi .* distance of 10 to 5000 m, got 5 to 50"),
        ((50.0, Hertz(3.5)), "carrier of 5e.08 to 1e.11 Hz, got 3.5"),
        ((50.0, Hertz(2e9), 30.0), "user_height of 1.5 to 22.5 m"),
        ((float("nan"), Hertz(2e9)), "distance"),
    ]:
        with pytest.raises(ValueError, match=message):
            UMI.check_range(*args)
    for method in (UMI.check_range, UMI.los, UMI.nlos):
        with pytest.raises(TypeError, match="carrier must be Hertz"):
            method(50.0, 2e9)


def test_the_scenarios_are_hashable_settings():
    assert hash(tr38901.UMI) != hash(tr38901.UMA)
