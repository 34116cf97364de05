import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from m3jax.ops import latency_split
from m3jax.ops.latency_split import Status
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

BAND, POWER = np.float32(2e6), np.float32(0.2)


def batched(split, in_axes):
    return jax.jit(jax.vmap(split, in_axes))


SPLITS = {
    "bandwidths": batched(latency_split.bandwidths, (0, 0, None)),
    "fair_bandwidths": batched(latency_split.fair_bandwidths, (0, 0, None)),
    "powers": batched(latency_split.powers, (0, 0, 0, None)),
}


@pytest.fixture(scope="module")
def draws():
    """400 times 8 senders: loads over 30 dB, gains over 70 dB; float32 numbers."""
    rng = np.random.default_rng(0)
    exponents = rng.uniform((3.0, 6.0, 4.0), (6.0, 13.0, 6.0), (400, 8, 3))
    loads, gains, bands = np.moveaxis(10.0**exponents, -1, 0).astype(np.float32)
    return loads, gains, bands


def arguments(name, draws):
    """What the splits take: (loads, cn0, total), or with bandwidths and gains."""
    loads, gains, bands = draws
    if name == "powers":
        return loads, bands, gains, POWER
    return loads, POWER / np.float32(8.0) * gains, BAND


def seconds(name, args, amounts):
    """Latencies in float64, independently of the package."""
    args = [np.asarray(arg, np.float64) for arg in args]
    loads, band, cn0 = args[0], amounts, args[1]
    if name == "powers":
        band, cn0 = args[1], args[2] * amounts
    return loads * np.log(2.0) / (band * np.log1p(cn0 / band))


def exactly(name, args, amounts):
    """The value of amounts in float64, brought to the exact budget."""
    amounts = np.asarray(amounts, np.float64)
    amounts = amounts / amounts.sum(-1, keepdims=True) * np.float64(args[-1])
    latencies = seconds(name, args, amounts)
    return latencies.max(-1) if name == "fair_bandwidths" else latencies.sum(-1)


def slsqp(name, args, start):
    """The best value that SLSQP finds in the logarithms of the shares."""
    total, unit = np.float64(args[-1]), exactly(name, args, start)

    def latencies(logs):
        shares = np.exp(logs - np.logaddexp.reduce(logs))
        return seconds(name, args, shares * total) / unit

    logs = np.log(np.asarray(start, np.float64) / total)
    options = {"ftol": 1e-14, "maxiter": 500}
    if name == "fair_bandwidths":
        below = {"type": "ineq", "fun": lambda x: x[-1] - np.log(latencies(x[:-1]))}
        found = optimize.minimize(
            lambda x: x[-1],
            np.append(logs, np.log(latencies(logs).max())),
            method="SLSQP",
            constraints=below,
            options=options,
        )
        return np.max(latencies(found.x[:-1])) * unit
    found = optimize.minimize(
        lambda x: np.sum(latencies(x)), logs, method="SLSQP", options=options
    )
    return found.fun * unit


@pytest.mark.parametrize("name", SPLITS)
def test_value_agrees_with_slsqp_to_a_millionth(name, draws):
    args = arguments(name, draws)
    split = SPLITS[name](*args)
    values = exactly(name, args, split.amounts)
    np.testing.assert_allclose(split.value, values, rtol=1e-6)
    for i in range(5):
        one = [arg if np.ndim(arg) == 0 else arg[i] for arg in args]
        found = slsqp(name, one, np.full(8, one[-1] / 8.0))
        assert values[i] <= found * (1.0 + 1e-6)
        # Better than SLSQP by more than it may fail by would not be the same problem.
        assert values[i] >= found * (1.0 - 1e-3)
        near = slsqp(name, one, split.amounts[i])
        assert values[i] == pytest.approx(near, rel=1e-6)


@pytest.mark.parametrize("name", SPLITS)
def test_the_conditions_of_the_optimum_hold_for_every_draw(name, draws):
    args = arguments(name, draws)
    split = SPLITS[name](*args)
    amounts = np.asarray(split.amounts, np.float64)
    assert (amounts > 0.0).all() and not np.asarray(split.status).any()
    np.testing.assert_allclose(amounts.sum(-1), args[-1], rtol=1e-6)
    assert np.max(split.gap / split.value) < 3e-6 and np.max(split.residual) < 1e-5
    assert np.max(split.num_iterations) < 20
    equal = seconds(name, args, amounts)
    if name != "fair_bandwidths":  # marginal latencies, by a central difference
        step = 1e-5 * amounts
        below, above = (seconds(name, args, amounts + s) for s in (-step, step))
        equal = (below - above) / (2.0 * step)
        np.testing.assert_allclose(split.price, equal.mean(-1), rtol=1e-4)
    np.testing.assert_allclose(equal, equal[:, :1] + 0.0 * equal, rtol=1e-4)


def test_like_senders_share_equally_and_faint_ones_by_the_root_of_the_load(draws):
    """At low SNR a rate is ``c - c^2 / 2 B``: bandwidth goes as the root of the load,
    and power as the root of load over gain."""
    loads, gains, _ = draws
    alike = SPLITS["bandwidths"](np.ones_like(loads), np.ones_like(gains), BAND)
    np.testing.assert_allclose(alike.amounts, BAND / 8.0, rtol=1e-6)
    split = SPLITS["bandwidths"](loads, gains * np.float32(1e-13), BAND)
    roots = np.sqrt(loads)
    shares = roots / roots.sum(-1, keepdims=True)
    np.testing.assert_allclose(split.amounts / BAND, shares, rtol=1e-3)
    split = SPLITS["powers"](loads, np.full_like(loads, 1e20), gains, POWER)
    roots = np.sqrt(loads / gains)
    shares = roots / roots.sum(-1, keepdims=True)
    np.testing.assert_allclose(split.amounts / POWER, shares, rtol=1e-3)


@pytest.mark.parametrize("name", SPLITS)
def test_a_load_of_0_is_as_if_nobody_were_there(name, draws):
    loads, *rest = arguments(name, draws)
    loads = loads.copy()
    loads[:, 3] = 0.0
    split = SPLITS[name](loads, *rest)
    assert not np.asarray(split.amounts[:, 3]).any()
    assert not np.asarray(split.latencies[:, 3]).any()
    args = [a if np.ndim(a) == 0 else np.delete(a, 3, 1)[0] for a in (loads, *rest)]
    amounts = np.delete(split.amounts[0], 3)
    found = slsqp(name, args, amounts)
    assert exactly(name, args, amounts) == pytest.approx(found, rel=1e-6)
    assert float(split.value[0]) == pytest.approx(found, rel=2e-6)
    nobody = SPLITS[name](0.0 * loads, *rest)
    np.testing.assert_allclose(nobody.amounts, rest[-1] / 8.0, rtol=1e-6)
    assert not np.asarray(nobody.value).any() and not np.asarray(nobody.status).any()


@pytest.mark.parametrize("name", SPLITS)
def test_what_cannot_be_solved_has_a_status(name, draws):
    loads, *rest, total = (np.copy(arg) for arg in arguments(name, draws))
    rest[-1][:3, 2] = np.nan, 0.0, np.inf
    loads[3, 2] = -1.0
    split = SPLITS[name](loads, *rest, total)
    assert split.status[:5].tolist() == [*[Status.INFEASIBLE] * 4, Status.OPTIMAL]
    assert np.isinf(split.gap[:4]).all() and np.isinf(split.value[:2]).all()
    others = np.delete(np.asarray(split.amounts, np.float64)[:4], 2, axis=1)
    np.testing.assert_allclose(others.sum(-1), total, rtol=1e-6)
    for bad_total in (0.0, -1.0, np.nan, np.inf):
        split = SPLITS[name](*arguments(name, draws)[:-1], np.float32(bad_total))
        assert (np.asarray(split.status) == Status.INFEASIBLE).all()


def splits_of(loads, cn0, bands, total):
    return (
        latency_split.bandwidths(loads, cn0, total),
        latency_split.fair_bandwidths(loads, cn0, total),
        latency_split.powers(loads, bands, cn0, total),
    )


def mixed(split):
    mix = jnp.sin(jnp.arange(1.0, 1.0 + split.amounts.shape[0]))
    amounts, latencies = mix @ split.amounts, mix @ split.latencies
    return amounts + 0.3 * split.value + split.price + 0.1 * latencies


ARGS = (
    np.array([1.0, 4.0, 0.3, 2.0]),
    np.array([3.0, 0.5, 20.0, 1.0]),
    np.array([0.5, 2.0, 1.0, 0.7]),
    1.5,
)


def test_implicit_gradients_equal_finite_differences():
    gradients.check_against_finite_differences(
        jax.jit(lambda *args: sum(map(mixed, splits_of(*args)))), ARGS
    )


def test_the_price_of_a_fair_split_is_what_one_more_hertz_saves():
    @jax.jit
    def value_and_price(total):
        split = latency_split.fair_bandwidths(*ARGS[:2], total)
        return split.value, split.price

    with jax.enable_x64(True):
        low, middle, high = (value_and_price(1.5 + e) for e in (-1e-5, 0.0, 1e-5))
        saved = (low[0] - high[0]) / 2e-5
        np.testing.assert_allclose(middle[1], saved, rtol=1e-7)


@pytest.mark.parametrize("name", SPLITS)
def test_float32_bears_200_db_and_gradients_stay_finite(name, draws):
    rng = np.random.default_rng(1)
    loads, gains = 10.0 ** rng.uniform([[[0.0]], [[-10.0]]], 10.0, (2, 400, 8))
    loads, gains = loads.astype(np.float32), gains.astype(np.float32)
    loads[:, 0] = 0.0
    rest = (np.ones_like(gains), gains) if name == "powers" else (gains,)

    @jax.jit
    def slope(*args):
        def both(*args):
            split = jax.vmap(getattr(latency_split, name), (*[0] * len(rest), 0, None))
            split = split(*args, jnp.float32(1.0))
            value = jnp.sum(split.amounts[:, :4]) + jnp.sum(jnp.log(split.value))
            return value, split

        return jax.grad(both, argnums=(0, 1), has_aux=True)(*args)

    grads, split = slope(loads, *rest)
    gradients.assert_finite((grads, split), "gradients and split")
    assert not np.asarray(split.status).any()
    assert np.asarray(grads[1][:, 1:]).any(axis=0).all()
