"""Weights of mixtures against closed forms, and certificates against long runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from m3jax.ops import mixtures

pytestmark = pytest.mark.usefixtures("quick_compilation")

fit = jax.jit(jax.vmap(mixtures.fit, in_axes=(None, None, 0)))
THREE = np.log([[0.8, 0.1, 0.3], [0.1, 0.8, 0.3], [0.1, 0.1, 0.4]]).astype(np.float32)
LABELS = np.array([0.51, 0.30, 0.19], np.float32)


@functools.cache
def drawn(num_rows=60, num=5, spread=2.0):
    rng = np.random.default_rng(0)
    log_probs = -np.logaddexp(0, rng.normal(0, spread, (num_rows, num)))
    weights = rng.dirichlet(np.ones(num_rows))
    return log_probs.astype(np.float32), weights.astype(np.float32)


@pytest.mark.parametrize("mean", [0.05, 0.12, 0.3, 0.62, 0.78, 0.97])
def test_two_experts_and_binary_labels_have_a_closed_form(mean):
    p, q = 0.8, 0.1  # what each gives to label 1
    rows = np.log([[p, q], [1 - p, 1 - q]]).astype(np.float32)
    shares = np.array([mean, 1 - mean], np.float32)
    found = fit(rows, shares, np.ones((1, 2), bool))
    best = np.clip((mean - q) / (p - q), 0, 1)
    np.testing.assert_allclose(found.weights[0], [best, 1 - best], atol=2e-5)


def test_the_counter_example_to_theorem_1():
    """Restricting the best weights of all is not best on a subset."""
    found = fit(THREE, LABELS, np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1]], bool))
    np.testing.assert_allclose(found.weights[0], [0.5, 0.2, 0.3], atol=1e-4)
    restricted = mixtures.loss(jnp.array([0.0, 0.4, 0.6]), THREE, LABELS)
    assert float(restricted) == pytest.approx(1.2220, abs=5e-5)
    assert float(found.loss[1]) == pytest.approx(1.1492, abs=5e-5)
    # Restricted to {3} it is 1.1493: to add expert 2 makes it worse.
    assert float(found.loss[2]) == pytest.approx(1.1493, abs=5e-5)


def test_the_certificate_bounds_what_a_long_run_still_gains():
    log_probs, rows = drawn()
    best = float(fit(log_probs, rows, np.ones((1, 5), bool)).loss[0])
    step = jax.jit(mixtures.em_step)
    weights, before = jnp.full(5, 0.2), np.inf
    for _ in range(12):
        loss = float(mixtures.loss(weights, log_probs, rows))
        f = np.exp(log_probs)
        ratios = rows @ (f / (f @ np.asarray(weights))[:, None])
        bound = float(mixtures.certificate(ratios, np.ones(5, bool)))
        assert loss <= before + 1e-6  # no step of EM loses
        assert loss - best <= bound + 2e-6 and bound <= ratios.max() - 1 + 1e-6
        weights, before = step(weights, log_probs, rows), loss
    assert before - best > 1e-5  # EM alone is not there yet


def test_it_agrees_with_a_general_optimiser():
    log_probs, rows = drawn()
    f = np.exp(log_probs.astype(np.float64))
    found = optimize.minimize(
        lambda w: -rows @ np.log(f @ w),
        np.full(5, 0.2),
        jac=lambda w: -rows @ (f / (f @ w)[:, None]),
        bounds=[(0, 1)] * 5,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    ours = fit(log_probs, rows, np.ones((1, 5), bool))
    assert float(ours.gap[0]) <= 1e-6
    assert float(ours.loss[0]) == pytest.approx(found.fun, abs=3e-6)
    np.testing.assert_allclose(ours.weights[0], found.x, atol=2e-3)


def test_weights_stay_on_the_subset_and_nobody_has_no_loss():
    log_probs, rows = drawn()
    members = np.array([[0, 1, 0, 0, 0], [1, 0, 0, 1, 1], [0, 0, 0, 0, 0]], bool)
    found = fit(log_probs, rows, members)
    assert not np.asarray(found.weights)[~members].any()
    np.testing.assert_allclose(found.weights[:2].sum(axis=1), 1.0, rtol=1e-6)
    assert float(found.loss[0]) == pytest.approx(-rows @ log_probs[:, 1], rel=1e-5)
    assert np.isposinf(found.loss[2])
    assert (np.asarray(found.gap) <= 1e-6).all()


def test_tiny_probabilities_do_no_harm():
    rng = np.random.default_rng(3)
    log_probs = rng.uniform(-300, -200, (40, 3)).astype(np.float32)
    log_probs[:, 2] = -1.0  # outside the subset, and greater by far
    found = fit(
        log_probs, np.full(40, 1 / 40, np.float32), np.array([[True, True, False]])
    )
    # So far apart, each row has one owner: the weights are the owners' shares.
    first = np.mean(log_probs[:, 0] > log_probs[:, 1])
    np.testing.assert_allclose(found.weights[0, 0], first, atol=0.03)
    assert float(found.gap[0]) <= 1e-6 and np.isfinite(found.loss[0])


def test_groups_keep_every_row_once():
    log_probs, _ = drawn()
    groups = np.random.default_rng(1).integers(0, 3, 60)
    groups[groups == 1] = 3  # group 1 is empty
    stacked, rows, shares = mixtures.by_group(log_probs, groups, 4)
    np.testing.assert_allclose(rows.sum(axis=1), [1, 0, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(shares, np.bincount(groups, minlength=4) / 60)
    means = np.einsum("gr,grn->gn", rows, stacked)
    expected = log_probs[groups == 3].mean(axis=0)
    np.testing.assert_allclose(means[3], expected, rtol=1e-5)


def test_a_row_without_a_group_is_refused():
    with pytest.raises(ValueError, match="group from 0 to 2"):
        mixtures.by_group(np.zeros((2, 2)), np.array([0, 3]), 3)
