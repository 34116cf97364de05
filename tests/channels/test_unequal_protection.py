import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from m3jax.channels import (
    awgn,
    fading,
    links,
    noise,
    rate_adaptation,
    unequal_protection,
)
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
IMPORTANCE = np.array([0.1, 4.0, 1.0, 9.0, 0.5, 2.0, 7.0, 0.0], np.float32)
MASK = np.array([1, 1, 1, 1, 0, 1, 0, 1], bool)
ALLOCATE = jax.jit(unequal_protection.allocate_power)
TABLE = rate_adaptation.MCSTable("four", (4, 4, 16, 64), (0.3, 0.6, 0.6, 0.8))


@pytest.mark.parametrize("snr", [0.0, 1e-3, 0.3, 1.0, 10.0, 1e4, np.inf])
def test_total_power_is_conserved(snr):
    powers = np.asarray(ALLOCATE(IMPORTANCE, MASK, snr))
    assert powers[MASK].mean() == pytest.approx(1.0, rel=1e-6)
    assert np.all(powers >= 0.0) and not powers[~MASK].any()


def test_powers_are_those_of_a_numeric_minimiser():
    weights, count, snr = IMPORTANCE[MASK].astype(float), MASK.sum(), 2.0
    found = optimize.minimize(
        lambda p: np.sum(weights / (1.0 + p * snr)),
        np.ones(count),
        jac=lambda p: -weights * snr / (1.0 + p * snr) ** 2,
        bounds=[(0.0, None)] * count,
        constraints={"type": "eq", "fun": lambda p: p.sum() - count},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 300},
    )
    assert found.success and (found.x < 1e-6).any()
    got = ALLOCATE(IMPORTANCE, MASK, snr)
    np.testing.assert_allclose(got[MASK], found.x, atol=1e-4)


def test_more_important_tokens_get_no_less_power():
    powers = np.asarray(ALLOCATE(IMPORTANCE, MASK, 1.0))[MASK]
    assert np.all(np.diff(powers[np.argsort(IMPORTANCE[MASK])]) >= 0.0)


def test_equal_importance_is_equal_power_and_its_scale_does_not_matter():
    equal = ALLOCATE(np.full(8, 3.0, np.float32), MASK, 1.0)
    np.testing.assert_allclose(equal, MASK.astype(float), rtol=1e-6)
    nothing = ALLOCATE(np.zeros(8, np.float32), MASK, 1.0)
    np.testing.assert_allclose(nothing, MASK.astype(float), rtol=1e-6)
    scaled = ALLOCATE(1e6 * IMPORTANCE, MASK, 1.0)
    np.testing.assert_allclose(scaled, ALLOCATE(IMPORTANCE, MASK, 1.0), rtol=1e-5)


def test_gradients_are_slopes_and_finite_at_the_edges():
    def loss(importance, snr):
        powers = unequal_protection.allocate_power(importance, MASK, snr)
        return jnp.sum(jnp.cos(powers) * jnp.arange(8.0))

    args = IMPORTANCE, np.float32(2.0)
    gradients.check_against_finite_differences(jax.jit(loss), args)
    slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))
    for snr in (0.0, 1.0, jnp.inf):
        for importance in (IMPORTANCE, np.zeros_like(IMPORTANCE)):
            gradients.assert_finite(slopes(importance, jnp.float32(snr)), f"at {snr}")
    nobody = ALLOCATE(IMPORTANCE, np.zeros(8, bool), 1.0)
    np.testing.assert_array_equal(nobody, 0.0)


def test_a_link_has_the_errors_that_the_powers_promise(key):
    snr, channel = 2.0, fading.RayleighBlock(block_length=1)
    value_key, link_key, gain_key = jax.random.split(key, 3)

    def send(powers):
        values = jax.random.normal(value_key, (8, 2000))
        link = links.AnalogLink(unequal_protection.Powered(channel, powers))
        sent = values / jnp.sqrt(jnp.mean(values[MASK] ** 2))
        out = link(link_key, values, MASK, 10.0 * jnp.log10(snr))
        return jnp.mean((out.values - sent) ** 2, axis=1), out.energy

    # E[1 / (1 + p |h|^2 snr)] over many gains of the channel.
    gains = np.abs(channel.generate(gain_key, (50_000,))) ** 2
    both = []
    for powers in (ALLOCATE(IMPORTANCE, MASK, snr), MASK.astype(np.float32)):
        measured, energy = jax.jit(send)(powers)
        expected = [np.mean(1.0 / (1.0 + p * gains * snr)) for p in powers]
        np.testing.assert_allclose(measured[MASK], np.array(expected)[MASK], rtol=0.15)
        assert float(energy) == pytest.approx(1000 * MASK.sum(), rel=1e-4)
        both.append(float(np.sum((IMPORTANCE * measured)[MASK])))
    assert both[0] < 0.95 * both[1]


def test_gradient_of_a_token_without_power_is_finite():
    def energy(powers):
        channel = unequal_protection.Powered(awgn.AWGN(), powers)
        h = channel.generate(jax.random.key(0), (2, 3))
        return jnp.sum(noise.add_noise(jax.random.key(1), h, 1.0).real)

    slope = jax.jit(jax.grad(energy))(jnp.array([2.0, 0.0]))
    gradients.assert_finite(slope, "gradient")


@pytest.fixture(scope="module")
def allocate_mcs():
    def allocate(importance, mask, snr, budget):
        return unequal_protection.allocate_mcs(
            importance, mask, snr, TABLE, bits_per_token=120, budget=budget
        )

    return jax.jit(allocate)


def test_mcs_are_optimal_for_the_channel_uses_that_they_take(allocate_mcs):
    """Against a search over all assignments."""
    importance, mask, snr = np.array([0.1, 8.0, 1.0, 3.0]), np.ones(4, bool), 6.0
    uses = np.ceil(120 / TABLE.rates)
    block_errors = jax.jit(rate_adaptation.block_errors, static_argnums=0)
    errors = np.asarray(block_errors(TABLE, snr, uses))
    every = np.array(list(itertools.product(range(4), repeat=4)))
    losses = (importance * errors[every]).sum(axis=1)
    costs = uses[every].sum(axis=1)
    seen = set()
    for budget in range(100, 850, 50):
        got = allocate_mcs(importance, mask, snr, budget)
        taken, index = int(got.channel_uses.sum()), np.asarray(got.index)
        np.testing.assert_array_equal(got.channel_uses, uses[index])
        assert bool(got.feasible) == (taken <= budget) == (costs.min() <= budget)
        best = losses[costs <= taken].min()
        assert (importance * errors[index]).sum() == pytest.approx(best, abs=1e-6)
        order = np.argsort(importance)
        assert np.all(np.diff(errors[index][order]) <= 0.0)
        seen.add(tuple(index))
    assert len(seen) >= 5


def test_mcs_of_padding_cost_nothing(allocate_mcs):
    importance, mask = np.array([5.0, 9.0, 1.0, 0.2]), np.array([1, 0, 1, 0], bool)
    got = allocate_mcs(importance, mask, 6.0, 250)
    assert np.all(got.index[~mask] == -1) and not got.channel_uses[~mask].any()
    assert not got.block_error[~mask].any()
    assert bool(got.feasible) and 0 < got.channel_uses.sum() <= 250
    assert got.block_error[0] <= got.block_error[2]
