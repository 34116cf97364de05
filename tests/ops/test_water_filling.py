import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops import water_filling
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
FILL = jax.jit(water_filling.powers)
SLOPES = jax.jit(jax.jacobian(water_filling.powers, argnums=(0, 1)))


@pytest.fixture(scope="module")
def gains():
    """1000 sets of eight channels over 80 dB."""
    draws = np.random.default_rng(0).uniform(-4.0, 4.0, (1000, 8))
    return (10.0**draws).astype(np.float32)


@pytest.mark.parametrize("total", [1e-3, 1.0, 1e3])
def test_powers_meet_the_conditions_of_the_optimum(gains, total):
    """Karush, Kuhn and Tucker: one slope where power is, smaller slopes elsewhere."""
    p = np.asarray(FILL(gains, jnp.float32(total)), np.float64)
    assert (p >= 0.0).all()
    np.testing.assert_allclose(p.sum(-1), total, rtol=1e-6)
    slope = gains / (1.0 + gains.astype(np.float64) * p)
    price = slope.max(-1, keepdims=True)
    used = p > 0.0
    assert 1 < used.sum(-1).max() and used.sum(-1).min() < 8
    np.testing.assert_allclose(np.where(used, slope / price, 1.0), 1.0, rtol=1e-4)


def test_powers_equal_those_of_a_bisection_for_the_level(gains):
    total = 2.0
    low, high = np.zeros(1000), total + 1.0 / gains.max(-1).astype(np.float64)
    for _ in range(100):
        middle = 0.5 * (low + high)
        poured = np.maximum(middle[:, None] - 1.0 / gains, 0.0).sum(-1)
        low, high = np.where(poured < total, (middle, high), (low, middle))
    expected = np.maximum(high[:, None] - 1.0 / gains, 0.0)
    np.testing.assert_allclose(FILL(gains, 2.0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([0.0, 3.0, 0.0], [0.0, 2.0, 0.0]),
        ([0.0, 0.0, 0.0], [2 / 3, 2 / 3, 2 / 3]),
        ([5.0, 5.0, 5.0], [2 / 3, 2 / 3, 2 / 3]),
        ([1e18, 1e18, 1e-18], [1.0, 1.0, 0.0]),
        ([1e-18, 1e-18, 0.0], [1.0, 1.0, 0.0]),
        ([1e-18, 0.9e-18, 0.0], [2.0, 0.0, 0.0]),
    ],
)
def test_extreme_gains_get_finite_shares_and_gradients(gains, expected):
    gains = np.array(gains, np.float32)
    np.testing.assert_allclose(FILL(gains, 2.0), expected, rtol=1e-6)
    gradients.assert_finite(SLOPES(gains, 2.0), "gradients")


def test_weighted_powers_meet_the_conditions_of_the_optimum(gains):
    weights = np.random.default_rng(1).uniform(0.0, 2.0, gains.shape)
    weights[:, 3] = 0.0
    p = np.asarray(FILL(gains, 2.0, weights.astype(np.float32)), np.float64)
    assert (p >= 0.0).all() and not p[:, 3].any()
    np.testing.assert_allclose(p.sum(-1), 2.0, rtol=5e-6)
    slope = weights * gains / (1.0 + gains.astype(np.float64) * p)
    price = slope.max(-1, keepdims=True)
    used = p > 0.0
    assert 1 < used.sum(-1).max() and used.sum(-1).min() < 7
    np.testing.assert_allclose(np.where(used, slope / price, 1.0), 1.0, rtol=1e-4)


def test_gradients_equal_finite_differences():
    @jax.jit
    def loss(gains, total, weights):
        plain = water_filling.powers(gains, total)
        weighted = water_filling.powers(gains, total, weights)
        return jnp.sum(jnp.cos(plain + 2.0 * weighted) * jnp.arange(4))

    gains, weights = np.array([1.0, 0.2, 0.7, 2.5]), np.array([0.5, 3.0, 1.0, 0.1])
    gradients.check_against_finite_differences(loss, (gains, 1.5, weights))
