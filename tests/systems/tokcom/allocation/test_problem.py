import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops.quantities import Dbm, Hertz, Watt
from m3jax.systems.tokcom.allocation import drops, loss_curve
from m3jax.systems.tokcom.allocation import problem as problems

GOOD = {
    "gains": [1e9, 1e8, 1e7],
    "curve": loss_curve.ExponentialLoss(0.5, 2.0, 8.0),
    "bits_per_token": 256,
    "bandwidth": Hertz(1e6),
    "power": Watt(0.2),
    "weight": 0.9,
    "max_length": 64,
}


def test_a_plan_costs_what_it_does_by_hand():
    problem = problems.make_problem(**GOOD)
    plan = problems.equal_plan(problem, 10.0)
    outcome = problems.evaluate(problem, plan)
    band, power = 1e6 / 3.0, 0.2 / 3.0
    rates = band * np.log2(1.0 + power * np.array([1e9, 1e8, 1e7]) / band)
    loss = 0.5 + 2.0 * np.exp(-10.0 / 8.0)
    np.testing.assert_allclose(outcome.latencies, 2560.0 / rates, rtol=1e-5)
    np.testing.assert_allclose(outcome.losses, loss, rtol=1e-5)
    cost = 0.9 * np.sum(2560.0 / rates) + 0.1 * 3.0 * loss
    assert float(outcome.cost) == pytest.approx(cost, rel=1e-5)


def test_users_may_differ_in_curve_and_bits():
    curve = loss_curve.PowerLoss(0.5, np.array([1.0, 2.0, 3.0]), 0.7)
    bits = np.array([64, 128, 256])
    problem = problems.make_problem(**(GOOD | {"curve": curve, "bits_per_token": bits}))
    outcome = problems.evaluate(problem, problems.equal_plan(problem, 1.0))
    np.testing.assert_allclose(outcome.losses, [1.5, 2.5, 3.5], rtol=1e-6)
    alone = problems.evaluate(
        problems.make_problem(**GOOD), problems.equal_plan(problem, 1.0)
    )
    np.testing.assert_allclose(outcome.latencies, alone.latencies * bits / 256, 1e-6)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("gains", [], "at least one user"),
        ("gains", 1e9, "at least one user"),
        ("gains", [1e9, np.nan, 1e8], "gains must be finite"),
        ("gains", [1e9, 0.0, 1e8], "gains must be positive"),
        ("bandwidth", Hertz(0.0), "bandwidth must be positive"),
        ("bandwidth", Hertz(np.ones(3)), "bandwidth must be a scalar"),
        ("power", Watt(-0.1), "power must be positive"),
        ("power", Watt(np.inf), "power must be finite"),
        ("bits_per_token", [1, 2], r"a scalar or \[3\], got shape \(2,\)"),
        ("bits_per_token", 0, "bits_per_token must be positive"),
        ("weight", 1.5, r"weight must lie in \[0, 1\]"),
        ("weight", -0.5, "weight must not be negative"),
        ("min_length", 0, "min_length must be positive"),
        ("min_length", 65, "must be whole numbers"),
        ("max_length", 10.5, "must be whole numbers"),
        ("curve", loss_curve.ExponentialLoss(0.5, -1.0, 8.0), "curve.drop"),
        ("curve", loss_curve.ExponentialLoss(0.5, 1.0, 0.0), "curve.scale"),
        ("curve", loss_curve.PowerLoss(np.nan, 1.0, 1.0), "curve.floor"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(field, value, told):
    with pytest.raises(ValueError, match=told):
        problems.make_problem(**(GOOD | {field: value}))


def test_budgets_without_their_unit_are_refused():
    with pytest.raises(TypeError, match="bandwidth must be Hertz"):
        problems.make_problem(**(GOOD | {"bandwidth": 1e6}))
    with pytest.raises(TypeError, match=r"power must be Watt, got Dbm.*to_w"):
        problems.make_problem(**(GOOD | {"power": Dbm(23.0)}))


def test_drawn_users_lie_in_the_ring_and_have_the_gain_of_their_budget(key):
    keys = jax.random.split(key, 500)
    users = jax.jit(jax.vmap(lambda k: drops.draw_users(k, 8)))(keys)
    assert users.gains.shape == (500, 8) and bool(jnp.all(users.gains > 0.0))
    distances = np.asarray(users.distances)
    assert 20.0 <= distances.min() and distances.max() <= 500.001
    # Uniform by area: the mean square is that of the ring, to 5 standard errors.
    expected = (20.0**2 + 500.0**2) / 2.0
    error = (500.0**2 - 20.0**2) / np.sqrt(12.0 * distances.size)
    assert np.mean(distances**2) == pytest.approx(expected, abs=5.0 * error)
    # Undo the budget: what is left of the gain is the shadowing of its state.
    noise_db = 10.0 * np.log10(1.380649e-23 * 290.0) + 7.0
    path_loss = jax.jit(lambda u: drops.tr38901.UMI.path_loss(*u[:2], drops.CARRIER))
    loss = path_loss(users).value
    left = np.asarray(10.0 * jnp.log10(users.gains) + loss) + noise_db
    for state, std in ((True, 4.0), (False, 7.82)):
        part = left[np.asarray(users.los) == state]
        assert part.std() == pytest.approx(std, abs=5.0 * std / np.sqrt(2 * part.size))
        assert part.mean() == pytest.approx(0.0, abs=5.0 * std / np.sqrt(part.size))


def test_a_drop_without_users_or_with_a_gap_is_refused(key):
    with pytest.raises(ValueError, match="num_users"):
        drops.draw_users(key, 0)
    with pytest.raises(ValueError, match="min_distance"):
        drops.draw_users(key, 2, min_distance=600.0)
    with pytest.raises(TypeError, match="noise_figure must be Db"):
        jax.eval_shape(lambda k: drops.draw_users(k, 2, noise_figure=7.0), key)
