"""The oracle is the joint normal distribution of all states and observations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops import kalman
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

T, N, P = 5, 2, 3
RNG = np.random.default_rng(0)


def covariance(size):
    root = RNG.normal(size=(size, size))
    return root @ root.T + 0.3 * np.eye(size)


EXACT = kalman.LinearGaussian(
    initial_mean=RNG.normal(size=N),
    initial_cov=covariance(N),
    transition=0.6 * RNG.normal(size=(N, N)),
    transition_cov=covariance(N),
    observation=RNG.normal(size=(P, N)),
    observation_cov=covariance(P),
)
MODEL = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), EXACT)
OBSERVATIONS = RNG.normal(size=(T, P)).astype(np.float32)
MASK = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0]], bool)
ALL = np.ones((T, P), bool)


def joint(length):
    """Moments of ``x_0 ... x_{L-1}, y_0 ... y_{L-1}``, by unrolling the recursions."""
    a, c = EXACT.transition, EXACT.observation
    means, covs = [EXACT.initial_mean], [EXACT.initial_cov]
    for _ in range(length - 1):
        means.append(a @ means[-1])
        covs.append(a @ covs[-1] @ a.T + EXACT.transition_cov)
    power = np.linalg.matrix_power
    states = np.block(
        [
            [
                power(a, i - j) @ covs[j] if i >= j else covs[i] @ power(a, j - i).T
                for j in range(length)
            ]
            for i in range(length)
        ]
    )
    mean = np.concatenate(means)
    emit = np.kron(np.eye(length), c)
    noise = np.kron(np.eye(length), EXACT.observation_cov)
    cross = states @ emit.T
    full = np.block([[states, cross], [cross.T, emit @ cross + noise]])
    return np.concatenate([mean, emit @ mean]), full


def condition(mean, cov, wanted, known, values):
    """Moments of the entries ``wanted``, given the entries ``known``."""
    gain = np.linalg.solve(cov[np.ix_(known, known)], cov[np.ix_(known, wanted)]).T
    return (
        mean[wanted] + gain @ (values - mean[known]),
        cov[np.ix_(wanted, wanted)] - gain @ cov[np.ix_(known, wanted)],
    )


def given(mask, up_to, wanted, length=T):
    """Moments of the entries ``wanted``, given what is observed before ``up_to``."""
    known = [
        length * N + t * P + i for t in range(up_to) for i in range(P) if mask[t, i]
    ]
    values = [OBSERVATIONS[t, i] for t in range(up_to) for i in range(P) if mask[t, i]]
    return condition(*joint(length), wanted, np.array(known, int), np.array(values))


@jax.jit
def run(observations, mask):
    filtered = kalman.filter(MODEL, observations, mask)
    smoothed = kalman.smooth(MODEL, filtered)
    ahead = jax.vmap(lambda m, c: kalman.forecast(MODEL, m, c, 3))
    return filtered, smoothed, ahead(filtered.mean, filtered.cov)


def close(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("mask", [ALL, MASK], ids=["whole", "gaps"])
def test_the_filter_is_the_joint_conditioned_on_the_past(mask):
    filtered, _, _ = run(OBSERVATIONS, mask)
    for t in range(T):
        x = np.arange(t * N, (t + 1) * N)
        close((filtered.mean[t], filtered.cov[t]), given(mask, t + 1, x))
        predicted = filtered.predicted_mean[t], filtered.predicted_cov[t]
        close(predicted, given(mask, t, x))


@pytest.mark.parametrize("mask", [ALL, MASK], ids=["whole", "gaps"])
def test_the_smoother_is_the_joint_conditioned_on_everything(mask):
    _, smoothed, _ = run(OBSERVATIONS, mask)
    for t in range(T):
        x = np.arange(t * N, (t + 1) * N)
        close((smoothed.mean[t], smoothed.cov[t]), given(mask, T, x))


def test_forecasts_are_the_joint_of_the_future_conditioned_on_the_past():
    _, _, ahead = run(OBSERVATIONS, MASK)
    length = T + 3
    for t, k in [(0, 0), (1, 2), (4, 0), (4, 2)]:
        future = t + 1 + k
        y = length * N + np.arange(future * P, (future + 1) * P)
        close((ahead.mean[t, k], ahead.cov[t, k]), given(MASK, t + 1, y, length))
        x = np.arange(future * N, (future + 1) * N)
        states = ahead.state_mean[t, k], ahead.state_cov[t, k]
        close(states, given(MASK, t + 1, x, length))


@pytest.mark.parametrize("mask", [ALL, MASK], ids=["whole", "gaps"])
def test_the_log_likelihood_is_the_density_of_what_was_observed(mask):
    filtered, _, _ = run(OBSERVATIONS, mask)
    mean, cov = joint(T)
    known = T * N + np.flatnonzero(mask)
    residual = OBSERVATIONS[mask] - mean[known]
    block = cov[np.ix_(known, known)]
    expected = -0.5 * (
        residual @ np.linalg.solve(block, residual)
        + np.linalg.slogdet(2.0 * np.pi * block)[1]
    )
    assert float(filtered.log_likelihood.sum()) == pytest.approx(expected, rel=1e-4)
    nothing_seen = ~mask.any(axis=1)
    np.testing.assert_array_equal(filtered.log_likelihood[nothing_seen], 0.0)


def test_what_is_masked_may_be_anything():
    clean = run(OBSERVATIONS, MASK)
    spoilt = run(np.where(MASK, OBSERVATIONS, np.nan), MASK)
    jax.tree.map(np.testing.assert_array_equal, clean, spoilt)


def test_the_likelihood_is_differentiable_by_the_model_with_gaps():
    spoilt = np.where(MASK, OBSERVATIONS, np.nan)

    @jax.jit
    def loss(model):
        symmetric = {
            name: 0.5 * (value + value.T)
            for name, value in model._asdict().items()
            if name.endswith("_cov")
        }
        model = model._replace(**symmetric)
        return kalman.filter(model, spoilt, MASK).log_likelihood.sum()

    gradients.check_against_finite_differences(loss, (MODEL,))


@pytest.mark.parametrize(
    ("observations", "mask", "named"),
    [
        (np.zeros((T, P + 1)), None, "observations"),
        (np.zeros((2, T, P)), None, "vmap"),
        (np.zeros((T, P)), np.ones(T, bool), "mask"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(observations, mask, named):
    with pytest.raises(ValueError, match=named):
        kalman.filter(MODEL, observations, mask)
