"""Splits of a band for round trips: closed forms, SciPy, the dual, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from m3jax.ops import fair_round_trips, round_trips, sum_of_maxima
from m3jax.ops.latency_split import Status, fair_bandwidths

pytestmark = pytest.mark.usefixtures("quick_compilation")

BAND = np.float32(100e6)
BITS = 65536.0
NUM_BLOCKS, NUM_DEVICES = 32, 8
over_draws = {
    "block": jax.jit(jax.vmap(fair_round_trips.fair_bandwidths, (0, 0, None))),
    "sequence": jax.jit(jax.vmap(sum_of_maxima.sum_of_maxima, (0, 0, None))),
}
one_draw = {
    "block": jax.jit(fair_round_trips.fair_bandwidths, static_argnums=3),
    "sequence": jax.jit(sum_of_maxima.sum_of_maxima, static_argnums=3),
}
bounds = jax.jit(jax.vmap(sum_of_maxima.lower_bound, (0, 0, None, 0)))


def draw(num, seed=0):
    """Loads ``[num, I, K]`` and trips over 20 to 200 m, C_k over three decades."""
    rng = np.random.default_rng(seed)
    shape = (num, NUM_DEVICES)
    loss = 43.28 + 20.0 * np.log10(rng.uniform(20.0, 200.0, shape))
    gains = 10.0 ** (-loss / 10.0) * rng.exponential(size=shape)
    cn0 = gains / 10.0**-20.4
    likes = rng.dirichlet(np.full(NUM_DEVICES, 8.0), (num, 1))
    loads = rng.multinomial(256, np.repeat(likes, NUM_BLOCKS, 1)).astype(np.float32)
    fixed = 352e6 / 10.0 ** rng.uniform(10.5, 13.5, shape)
    bits = np.full(shape, BITS)
    trips = round_trips.Trips(bits, bits, 10.0 * cn0, 0.2 * cn0, fixed)
    return loads, jax.tree.map(lambda leaf: leaf.astype(np.float32), trips)


def token_seconds(trips, bandwidths):
    """In float64, independently of the package."""
    trips = [np.asarray(leaf, np.float64) for leaf in trips]
    down, up, cn0_down, cn0_up, fixed = trips
    rates = [bandwidths * np.log1p(c / bandwidths) for c in (cn0_down, cn0_up)]
    return np.log(2.0) * (down / rates[0] + up / rates[1]) + fixed


def slsqp(loads, trips, start, ftol=1e-13):
    """SciPy's value of ``sum_i max_k q_ik t_k`` in shares and T, in float64."""
    loads = np.asarray(loads, np.float64)
    num_blocks, num = loads.shape
    seconds = token_seconds(trips, start)
    unit = np.max(loads * seconds, axis=1).mean()
    total = float(BAND)

    def margins(x):
        times = loads * token_seconds(trips, x[:num] * total) / unit
        return (x[num:, None] - times).ravel()

    def jacobian(x):
        band = x[:num] * total
        slope = np.zeros(num)
        for bits, cn0 in ((trips[0], trips[2]), (trips[1], trips[3])):
            t = np.asarray(cn0, np.float64) / band
            log = np.log1p(t)
            slope -= (
                np.log(2) * bits / (band * log) * (1 - t / ((1 + t) * log)) / x[:num]
            )
        rows = np.zeros((num_blocks, num, num + num_blocks))
        rows[:, np.arange(num), np.arange(num)] = -loads * slope / unit
        rows[np.arange(num_blocks), :, num + np.arange(num_blocks)] = 1.0
        return rows.reshape(-1, num + num_blocks)

    gradient = np.r_[np.zeros(num), np.ones(num_blocks)]
    first = np.max(loads * seconds, axis=1) / unit
    found = optimize.minimize(
        lambda x: x[num:].sum(),
        np.r_[start / total, first],
        jac=lambda _: gradient,
        method="SLSQP",
        bounds=[(1e-6, 1.0)] * num + [(0.0, None)] * num_blocks,
        constraints=[
            {"type": "ineq", "fun": margins, "jac": jacobian},
            {
                "type": "eq",
                "fun": lambda x: x[:num].sum() - 1.0,
                "jac": lambda _: np.r_[np.ones(num), np.zeros(num_blocks)],
            },
        ],
        options={"ftol": ftol, "maxiter": 300},
    )
    return value(loads, trips, found.x[:num] / found.x[:num].sum() * total)


def value(loads, trips, bandwidths):
    times = np.asarray(loads, np.float64) * token_seconds(trips, bandwidths)
    return np.max(times, axis=-1).sum(axis=-1)


def exactly(loads, trips, amounts):
    """The value of amounts in float64, brought to the exact budget."""
    amounts = np.asarray(amounts, np.float64)
    return value(loads, trips, amounts / amounts.sum() * float(BAND))


def compare_with_slsqp(kind, num, seed):
    loads, trips = draw(num, seed)
    loads = np.maximum(loads, 1.0) if kind == "block" else loads
    loads = loads[:, 0] if kind == "block" else loads
    split = over_draws[kind](loads, trips, BAND)
    assert not np.asarray(split.status).any()
    assert float(np.max(split.gap / split.value)) < 5e-6
    for n in range(num):
        one = jax.tree.map(lambda leaf, n=n: leaf[n], trips)
        blocks = loads[n].reshape(-1, NUM_DEVICES)
        found = slsqp(blocks, one, np.full(NUM_DEVICES, float(BAND) / NUM_DEVICES))
        ours = exactly(blocks, one, split.amounts[n])
        assert ours <= found * (1.0 + 1e-4)
        assert ours == pytest.approx(float(split.value[n]), rel=2e-6)


@pytest.mark.parametrize(("kind", "num"), [("block", 50), ("sequence", 15)])
def test_never_worse_than_slsqp(kind, num):
    compare_with_slsqp(kind, num, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "num"), [("block", 1000), ("sequence", 1000)])
def test_never_worse_than_slsqp_a_thousand_times(kind, num):
    compare_with_slsqp(kind, num, seed=1)


def test_identical_devices_share_evenly_and_take_the_closed_form():
    trips = round_trips.Trips(BITS, BITS, jnp.full(8, 1e12), jnp.full(8, 2e10), 3e-5)
    band = 12.5e6
    rates = [band * np.log2(1.0 + c / band) for c in (1e12, 2e10)]
    expected = 7.0 * (BITS / rates[0] + BITS / rates[1] + 3e-5)
    block = one_draw["block"](jnp.full(8, 7.0), trips, 100e6)
    whole = one_draw["sequence"](jnp.full((3, 8), 7.0), trips, 100e6)
    np.testing.assert_allclose(block.amounts, band, rtol=1e-5)
    np.testing.assert_allclose(whole.amounts, band, rtol=1e-4)
    assert float(block.value) == pytest.approx(expected, rel=1e-6)
    assert float(whole.value) == pytest.approx(3 * expected, rel=2e-6)


@pytest.mark.parametrize("snr", [1e-3, 0.1, 5.0, 1e4, 1e9])
def test_needed_bandwidth_is_that_of_lambert(snr):
    """Of one direction: B = (P g / N_0) / x, x = -1 - W_{-1}(-c e^-c) / c."""
    cn0 = 1e9
    rate = cn0 / snr * np.log2(1.0 + snr)
    c = rate * np.log(2.0) / cn0
    x = -1.0 - special.lambertw(-c * np.exp(-c), -1).real / c
    trips = round_trips.Trips(BITS, 0.0, jnp.array([cn0]), jnp.array([1.0]), 0.0)
    found = round_trips.needed_bandwidths(trips, BITS / rate)
    np.testing.assert_allclose(found, cn0 / x, rtol=1e-3 if snr < 0.01 else 1e-5)


def test_no_band_is_faster_than_unlimited_band():
    _, trips = draw(1)
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), trips)
    floor = round_trips.unlimited_seconds(one)
    closed = BITS * np.log(2.0) * (1.0 / one.cn0_down + 1.0 / one.cn0_up) + one.fixed_s
    np.testing.assert_allclose(floor, closed, rtol=1e-6)
    wide = round_trips.seconds(one, jnp.full(NUM_DEVICES, 1e20))
    np.testing.assert_allclose(wide, floor, rtol=1e-5)
    assert np.isinf(round_trips.needed_bandwidths(one, 0.999 * floor)).all()
    assert np.isfinite(round_trips.needed_bandwidths(one, 1.001 * floor)).all()


def test_needed_bandwidth_is_the_inverse_of_seconds():
    _, trips = draw(20)
    band = 10.0 ** np.random.default_rng(1).uniform(4, 8, (20, NUM_DEVICES))
    token_s = jax.vmap(round_trips.seconds)(trips._replace(fixed_s=0 * band), band)
    again = jax.vmap(round_trips.needed_bandwidths)(
        trips._replace(fixed_s=0 * band), token_s
    )
    np.testing.assert_allclose(again, band, rtol=1e-4)


def test_one_direction_alone_is_the_split_of_latency_split():
    loads, trips = draw(1)
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), trips)
    one = one._replace(bits_up=jnp.zeros(8), fixed_s=jnp.zeros(8))
    ours = one_draw["block"](loads[0, 0], one, BAND)
    theirs = fair_bandwidths(loads[0, 0] * BITS, one.cn0_down, BAND)
    np.testing.assert_allclose(ours.amounts, theirs.amounts, rtol=1e-4)
    assert float(ours.value) == pytest.approx(float(theirs.value), rel=1e-5)
    assert float(ours.price) == pytest.approx(float(theirs.price), rel=1e-4)


def test_one_block_is_the_fair_split():
    loads, trips = draw(20, seed=3)
    block = over_draws["block"](loads[:, 0], trips, BAND)
    whole = over_draws["sequence"](loads[:, :1], trips, BAND)
    np.testing.assert_allclose(whole.value, block.value, rtol=3e-6)
    np.testing.assert_allclose(whole.amounts, block.amounts, rtol=2e-3)


def test_any_weights_bound_the_value_from_below_and_the_solvers_own_meet_it():
    loads, trips = draw(20, seed=4)
    split = over_draws["sequence"](loads, trips, BAND)
    own = bounds(loads, trips, BAND, split.weights)
    np.testing.assert_allclose(own, split.value, rtol=2e-6)
    rng = np.random.default_rng(0)
    for concentration in (0.05, 1.0, 20.0):
        weights = rng.dirichlet(np.full(8, concentration), (20, NUM_BLOCKS))
        other = bounds(loads, trips, BAND, weights.astype(np.float32))
        assert (np.asarray(other) <= split.value * (1.0 + 1e-6)).all()
    # No split of ours is below a bound either.
    random = rng.dirichlet(np.full(8, 1.0), 20) * float(BAND)
    for n in range(20):
        one = jax.tree.map(lambda leaf, n=n: leaf[n], trips)
        assert value(loads[n], one, random[n]) >= float(own[n]) * (1.0 - 1e-6)


def test_idle_devices_and_empty_blocks_take_nothing():
    loads, trips = draw(1, seed=5)
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), trips)
    loads = loads[0].copy()
    loads[:, 3], loads[7], loads[2, 5] = 0.0, 0.0, 0.0
    rest = jax.tree.map(lambda leaf: jnp.delete(leaf, 3), one)
    whole = one_draw["sequence"](loads, one, BAND)
    less = one_draw["sequence"](np.delete(np.delete(loads, 3, 1), 7, 0), rest, BAND)
    assert float(whole.value) == pytest.approx(float(less.value), rel=2e-6)
    assert float(whole.amounts[3]) == 0.0 and float(whole.block_s[7]) == 0.0
    block = one_draw["block"](loads[0], one, BAND)
    less = one_draw["block"](np.delete(loads[0], 3), rest, BAND)
    assert float(block.value) == pytest.approx(float(less.value), rel=1e-6)
    assert float(block.amounts[3]) == 0.0 == float(block.latencies[3])
    for split in (
        one_draw["block"](np.zeros(8), one, BAND),
        one_draw["sequence"](np.zeros((2, 8)), one, BAND),
    ):
        assert float(split.value) == 0.0 and int(split.status) == Status.OPTIMAL
        np.testing.assert_allclose(split.amounts, float(BAND) / 8, rtol=1e-6)


@pytest.mark.parametrize("kind", over_draws)
def test_who_cannot_send_makes_it_infeasible(kind):
    loads, trips = draw(3, seed=6)
    trips.cn0_up[0, 2] = 0.0
    loads = loads[:, 0] if kind == "block" else loads
    split = over_draws[kind](loads, trips, BAND)
    assert split.status.tolist() == [Status.INFEASIBLE, Status.OPTIMAL, Status.OPTIMAL]
    assert np.isinf(split.value[0]) and np.isinf(split.gap[0])
    assert np.isfinite(split.amounts).all()
    none = over_draws[kind](loads, trips, np.float32(0.0))
    assert (np.asarray(none.status) == Status.INFEASIBLE).all()


@pytest.mark.parametrize(("decades", "idle"), [(2, 0.3), (5, 0.5), (2, 0.9)])
def test_float32_bears_loads_and_gains_over_decades_and_idle_devices(decades, idle):
    rng = np.random.default_rng(decades)
    shape = (64, NUM_BLOCKS, NUM_DEVICES)
    loads = 10.0 ** rng.uniform(-2.0, decades - 2.0, shape)
    loads[rng.random(shape) < idle] = 0.0
    gains = 10.0 ** rng.uniform(10.5 - decades, 10.5 + decades, (64, NUM_DEVICES))
    fixed = 10.0 ** rng.uniform(-6.0, -1.0, (64, NUM_DEVICES))
    bits = np.full_like(gains, BITS)
    trips = round_trips.Trips(bits, bits, gains, gains / 50.0, fixed)
    trips = jax.tree.map(np.float32, trips)
    split = over_draws["sequence"](loads.astype(np.float32), trips, BAND)
    assert not np.asarray(split.status).any()
    assert float(np.max(split.gap / split.value)) < 5e-6
    own = bounds(loads.astype(np.float32), trips, BAND, split.weights)
    np.testing.assert_allclose(own, split.value, rtol=5e-6)


def test_too_few_steps_are_told():
    loads, trips = draw(1, seed=7)
    one = jax.tree.map(lambda leaf: leaf[0], trips)
    split = one_draw["sequence"](loads[0], one, BAND, 2)
    assert int(split.status) == Status.MAX_ITERATIONS and int(split.num_iterations) == 2
    split = one_draw["block"](loads[0, 0], one, BAND, 1)
    assert int(split.status) == Status.MAX_ITERATIONS


SOLVERS = {
    "block": lambda q, trips, band: fair_round_trips.fair_bandwidths(q[0], trips, band),
    "sequence": sum_of_maxima.sum_of_maxima,
}


@pytest.mark.parametrize("kind", SOLVERS)
def test_gradients_agree_with_finite_differences(kind):
    with jax.enable_x64():
        loads, trips = draw(1, seed=8)
        loads, trips = jax.tree.map(lambda x: jnp.asarray(x[0], float), (loads, trips))
        loads = loads[:4].at[:, 2].set(0.0).at[1, 5].set(0.0)
        weights = jnp.linspace(-1.0, 1.0, 8) / 1e8

        def outcome(logs):
            moved = trips._replace(
                cn0_down=trips.cn0_down * jnp.exp(logs[:8]),
                cn0_up=trips.cn0_up * jnp.exp(logs[:8]),
                fixed_s=trips.fixed_s * jnp.exp(logs[8]),
                bits_up=trips.bits_up * jnp.exp(logs[9]),
            )
            tokens = loads * jnp.exp(logs[10:18])
            split = SOLVERS[kind](tokens, moved, 1e8 * jnp.exp(logs[18]))
            return jnp.stack([split.value, split.amounts @ weights])

        logs = jnp.zeros(19)
        found = jax.jit(jax.jacrev(outcome))(logs)
        forward = jax.jit(jax.jacfwd(outcome))(logs)
        np.testing.assert_allclose(found, forward, rtol=1e-8, atol=1e-12)
        step = 1e-4
        both = jax.jit(jax.vmap(outcome))(
            jnp.concatenate([step * jnp.eye(19), -step * jnp.eye(19)])
        )
        expected = ((both[:19] - both[19:]) / (2 * step)).T
        scale = np.abs(expected).max(axis=1, keepdims=True)
        np.testing.assert_allclose(found / scale, expected / scale, atol=2e-5)
        assert np.abs(found[:, 12]).max() == 0.0  # by the tokens of an idle device


def test_by_a_load_of_0_and_at_a_needless_tie_gradients_are_finite():
    """Alike devices and blocks: each multiplier could be another, too."""
    trips = round_trips.Trips(*(jnp.full(8, x) for x in (BITS, BITS, 1e12, 2e10, 3e-5)))
    loads = jnp.full((2, 8), 5.0).at[0, 1].set(0.0).at[:, 3].set(0.0)

    @jax.jit
    @jax.value_and_grad
    def seconds(loads):
        return sum_of_maxima.sum_of_maxima(loads, trips, 1e8).value

    value, slopes = seconds(loads)
    assert np.isfinite(slopes).all() and float(slopes[0, 1]) == 0.0
    assert not np.asarray(slopes[:, 3]).any()
    # More tokens are never faster; a tenth more of all are at most a tenth slower.
    assert (np.asarray(slopes) >= -1e-6).all()
    assert 0.0 < float(jnp.sum(slopes * loads)) <= float(value) * (1 + 1e-3)
    block = jax.jit(
        jax.grad(lambda q: fair_round_trips.fair_bandwidths(q, trips, 1e8).value)
    )(loads[0])
    assert np.isfinite(block).all() and float(block[3]) == 0.0


def test_price_is_the_slope_by_the_band():
    loads, trips = draw(1, seed=9)
    one = jax.tree.map(lambda leaf: leaf[0], trips)
    for kind, solve in SOLVERS.items():

        def outcome(band, solve=solve):
            split = solve(loads[0], one, band)
            return split.value, split.price

        slope, price = jax.jit(jax.grad(outcome, has_aux=True))(BAND)
        assert float(-slope) == pytest.approx(float(price), rel=1e-3), kind
