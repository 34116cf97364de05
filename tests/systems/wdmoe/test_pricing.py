"""Prices: top-k where nothing costs, and a gradient towards what is cheaper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.systems.wdmoe import pricing, selection

PROBS = jax.nn.softmax(jax.random.normal(jax.random.key(0), (40, 6)))
MASK = jnp.arange(40) < 33
TOKEN_S = jnp.array([1.0, 2.0, 4.0, 1.0, 3.0, 1.0]) * 1e-3


def prices(price, margin):
    return pricing.Prices(jnp.float32(price), jnp.float32(np.log(np.expm1(margin))))


@pytest.mark.parametrize("k", [1, 2, 6])
def test_without_a_price_and_with_a_wide_margin_it_is_top_k(k):
    found = pricing.usage(PROBS, MASK, TOKEN_S, prices(0.0, 50.0), k)
    plain = selection.vanilla(PROBS, MASK, TOKEN_S, k=k)
    np.testing.assert_array_equal(found > 0.5, plain.weights > 0.0)
    assert set(np.unique(found)) <= {0.0, 1.0}


@pytest.mark.parametrize("spare", [0.1, 0.3, 0.45])
def test_a_margin_alone_is_dynamic_selection(spare):
    """Of two experts the second goes where its share is below ``spare``."""
    margin = np.log((1 - spare) / spare)
    found = pricing.usage(PROBS, MASK, TOKEN_S, prices(0.0, margin), 2)
    plain = selection.dynamic(PROBS, MASK, TOKEN_S, k=2, spare=spare)
    np.testing.assert_array_equal(found > 0.5, plain.weights > 0.0)


def test_with_a_high_price_all_ask_the_fastest():
    found = pricing.usage(PROBS, MASK, TOKEN_S, prices(100.0, 50.0), 3)
    fastest = jnp.array([True, False, False, True, False, True])
    np.testing.assert_array_equal(found > 0.5, MASK[:, None] & fastest)


def test_nobody_without_a_link_is_asked():
    lost = TOKEN_S.at[0].set(jnp.inf)
    found = pricing.usage(PROBS, MASK, lost, prices(0.0, 50.0), 2)
    assert float(jnp.sum(found[:, 0])) == 0.0
    np.testing.assert_array_equal(jnp.sum(found, axis=1), 2.0 * MASK)


def test_loads_fall_on_slow_devices_as_the_price_rises():
    def loads(price):
        found = pricing.usage(PROBS, MASK, TOKEN_S, prices(price, 3.0), 2)
        return jnp.sum(found, axis=0)

    slope = jax.jacfwd(loads)(0.5)
    assert slope[2] < 0.0 < slope[jnp.array([0, 3, 5])].min()
    jumps = loads(1.0) - loads(0.0)
    assert jumps[2] < 0.0 < jumps[jnp.array([0, 3, 5])].sum()


def test_the_soft_step_has_the_slope_of_a_sigmoid():
    """Of the weaker of two experts with k = 1: both stand half a gap from the level."""
    logits = jnp.array([[0.3, 0.0]])

    def second(shift):
        probs = jax.nn.softmax(logits + shift * jnp.array([0.0, 1.0]))
        return pricing.usage(
            probs, jnp.array([True]), jnp.ones(2), prices(0.0, 50.0), 1
        )[0, 1]

    away = -0.15 / pricing.SOFTNESS
    gate = 1 / (1 + np.exp(-away))
    expected = gate * (1 - gate) / pricing.SOFTNESS * 0.5  # the level moves by half
    assert float(jax.grad(second)(0.0)) == pytest.approx(expected, rel=1e-4)
