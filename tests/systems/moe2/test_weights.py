"""Losses of all subsets against loops, and the gap of theorem 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops import mixtures, subsets
from m3jax.systems.moe2 import weights

pytestmark = pytest.mark.usefixtures("quick_compilation")

MASKS = subsets.masks(4)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 3, 90)
    logits = rng.normal(0, 1.5, (90, 4)) + 2.0 * (groups[:, None] == np.arange(4))
    log_probs = -np.logaddexp(0, -logits).astype(np.float32)
    return log_probs, groups, weights.make_rows(log_probs, groups, 3)


def test_restricted_losses_are_those_of_a_loop(drawn):
    log_probs = drawn[0]
    gates = np.random.default_rng(1).dirichlet(np.ones(4), 90).astype(np.float32)
    table = weights.restrict_losses(gates, log_probs)
    assert np.isposinf(table[0])
    for row, mask in list(enumerate(MASKS))[1:]:
        kept = gates * mask
        mixed = (kept / kept.sum(axis=1, keepdims=True) * np.exp(log_probs)).sum(axis=1)
        assert float(table[row]) == pytest.approx(-np.log(mixed).mean(), rel=1e-5)


def test_refitted_losses_are_those_of_a_loop(drawn):
    log_probs, groups, rows = drawn
    refits = weights.refit_losses(rows)
    assert np.isposinf(refits.losses[0]) and float(refits.gaps.max()) <= 1e-6
    fit = jax.jit(mixtures.fit)
    for row in (1, 6, 11, 15):
        found = 0.0
        for group in range(3):
            mine = log_probs[groups == group]
            alone = fit(
                mine, jnp.full(len(mine), 1 / len(mine)), jnp.asarray(MASKS[row])
            )
            found += len(mine) / 90 * float(alone.loss)
        assert float(refits.losses[row]) == pytest.approx(found, abs=3e-6)


def test_with_refitted_weights_more_experts_never_lose(drawn):
    losses = np.asarray(weights.refit_losses(drawn[2]).losses)
    for expert in range(4):
        without = np.flatnonzero(~MASKS[:, expert])
        assert (losses[without + 2**expert] <= losses[without] + 2e-6).all()


def test_hindsight_is_a_bound_of_both_kinds(drawn):
    log_probs, _, rows = drawn
    bound = np.asarray(weights.hindsight_losses(log_probs))
    expected = [-log_probs[:, m].max(axis=1).mean() for m in MASKS[1:]]
    np.testing.assert_allclose(bound[1:], expected, rtol=1e-5)
    gates = np.full(4, 0.25, np.float32)
    for losses in (
        weights.refit_losses(rows).losses,
        weights.restrict_losses(gates, log_probs),
    ):
        assert (bound[1:] <= np.asarray(losses)[1:] + 1e-6).all()


def test_restricted_weights_are_renormalised_or_equal():
    gates = np.array([0.5, 0.2, 0.3, 0.0], np.float32)
    found = weights.restrict(
        gates, np.array([[0, 1, 1, 0], [0, 0, 0, 1], [0] * 4], bool)
    )
    expected = [[0, 0.4, 0.6, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_the_meter_of_theorem_1_reads_the_counter_example():
    log_probs = np.log([[[0.8, 0.1, 0.3], [0.1, 0.8, 0.3], [0.1, 0.1, 0.4]]])
    rows = weights.Rows(
        jnp.asarray(log_probs, jnp.float32),
        jnp.array([[0.51, 0.30, 0.19]]),
        jnp.ones(1),
    )
    meter = weights.theorem_gap(rows)
    assert meter.compares == (
        "refit on all experts, then restrict",
        "refit on the subset",
    )
    # Row 5 is the subset {2, 3}: 1.2220 against 1.1492.
    assert meter.gaps[5] == pytest.approx(1.2220 - 1.1492, abs=1e-4)
    assert meter.quantiles[1.0] == pytest.approx(meter.gaps.max())
    assert meter.num_undefined == 0 and meter.certificate <= 1e-6
    assert (meter.gaps >= -2e-6).all()


def test_where_restricting_says_nothing_is_told(drawn):
    # The third expert is worse everywhere: the best weights of all give it nothing.
    log_probs = np.log([[[0.9, 0.2, 0.1], [0.3, 0.8, 0.2]]])
    rows = weights.Rows(
        jnp.asarray(log_probs, jnp.float32), jnp.full((1, 2), 0.5), jnp.ones(1)
    )
    assert weights.theorem_gap(rows).num_undefined == 1
