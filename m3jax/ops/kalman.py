"""The Kalman filter: the best that any estimator can do on a linear-Gaussian model.

    x_0 ~ N(m_0, P_0),   x_{t+1} = A x_t + w_t,   w_t ~ N(0, Q)
    y_t = C x_t + v_t,   v_t ~ N(0, R)

(Kalman 1960; the recursions as in Särkkä, Bayesian Filtering and Smoothing, 2013,
theorems 4.2 and 8.2.) Functions take one sequence; ``vmap`` gives batches, of models
too. Entries of an observation may be missing: they are left out of the sums exactly.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import linalg

from m3jax import base
from m3jax.ops import numbers


class LinearGaussian(NamedTuple):
    """A linear-Gaussian state-space model of ``n`` states and ``p`` observed values.

    Attributes:
      initial_mean: m_0, ``[n]``.
      initial_cov: P_0, ``[n, n]``.
      transition: A, ``[n, n]``.
      transition_cov: Q, ``[n, n]``.
      observation: C, ``[p, n]``.
      observation_cov: R, ``[p, p]``, positive definite.
    """

    initial_mean: base.Array
    initial_cov: base.Array
    transition: base.Array
    transition_cov: base.Array
    observation: base.Array
    observation_cov: base.Array


class Filtered(NamedTuple):
    """What is known of the states while observations come in.

    Attributes:
      mean: ``E[x_t | y_0 ... y_t]``, ``[T, n]``.
      cov: its covariance, ``[T, n, n]``.
      predicted_mean: ``E[x_t | y_0 ... y_{t-1}]``, ``[T, n]``.
      predicted_cov: its covariance, ``[T, n, n]``.
      log_likelihood: ``log p(y_t | y_0 ... y_{t-1})`` in nats, ``[T]``; 0 where nothing
        was observed. The sum is that of the whole sequence.
    """

    mean: base.Array
    cov: base.Array
    predicted_mean: base.Array
    predicted_cov: base.Array
    log_likelihood: base.Array


class Smoothed(NamedTuple):
    """What is known of the states once all observations are in.

    Attributes:
      mean: ``E[x_t | y_0 ... y_{T-1}]``, ``[T, n]``.
      cov: its covariance, ``[T, n, n]``.
    """

    mean: base.Array
    cov: base.Array


class Forecast(NamedTuple):
    """Future states and observations; row ``k`` is ``k + 1`` steps ahead.

    Attributes:
      state_mean: ``[h, n]``.
      state_cov: ``[h, n, n]``.
      mean: of the observations, ``[h, p]``.
      cov: of the observations, their noise included, ``[h, p, p]``.
    """

    state_mean: base.Array
    state_cov: base.Array
    mean: base.Array
    cov: base.Array


def filter(
    model: LinearGaussian, observations: base.Array, mask: base.Array | None = None
) -> Filtered:
    """Runs the filter over a sequence.

    Args:
      model: what the sequence was made by.
      observations: ``[T, p]``; what is masked may be anything, NaN too.
      mask: bool ``[T, p]``, True where observed; None: everywhere.

    Returns:
      ``Filtered``. Where nothing is observed the filtered moments are the predicted.

    Raises:
      ValueError: if shapes disagree.
    """
    mask = _checked_mask(model, observations, mask)
    start = (model.initial_mean, model.initial_cov)

    def advance(predicted, inputs):
        mean, cov, log_likelihood = _update(model, *predicted, *inputs)
        return _predict(model, mean, cov), (mean, cov, *predicted, log_likelihood)

    _, outputs = lax.scan(advance, start, (jnp.asarray(observations), mask))
    return Filtered(*outputs)


def forecast(
    model: LinearGaussian, mean: base.Array, cov: base.Array, num_steps: int
) -> Forecast:
    """Forecasts from what is known now; by ``vmap``, from every step of a filter.

    Args:
      model: the model.
      mean: filtered mean of the present state, ``[n]``.
      cov: its covariance, ``[n, n]``.
      num_steps: h, how many steps ahead.

    Returns:
      ``Forecast`` of steps 1 to h.
    """

    def advance(known, _):
        mean, cov = _predict(model, *known)
        seen = model.observation @ cov @ model.observation.T + model.observation_cov
        return (mean, cov), Forecast(mean, cov, model.observation @ mean, seen)

    return lax.scan(advance, numbers.as_floats(mean, cov), length=num_steps)[1]


def smooth(model: LinearGaussian, filtered: Filtered) -> Smoothed:
    """Improves filtered states by what came later (Rauch, Tung and Striebel 1965).

        G_t = P_t A^T (P_{t+1|t})^-1
        m^s_t = m_t + G_t (m^s_{t+1} - m_{t+1|t})
        P^s_t = P_t + G_t (P^s_{t+1} - P_{t+1|t}) G_t^T

    Args:
      model: the model.
      filtered: what `filter` gave; its predicted covariances must be positive definite.

    Returns:
      ``Smoothed``; the last row is the filtered one.
    """

    def step_back(later, inputs):
        mean, cov, next_mean, next_cov = inputs
        gain = linalg.solve(next_cov, model.transition @ cov, assume_a="pos").T
        mean = mean + gain @ (later.mean - next_mean)
        cov = cov + gain @ (later.cov - next_cov) @ gain.T
        return (smoothed := Smoothed(mean, _symmetric(cov))), smoothed

    last = Smoothed(filtered.mean[-1], filtered.cov[-1])
    inputs = (
        *(filtered.mean[:-1], filtered.cov[:-1]),
        *(filtered.predicted_mean[1:], filtered.predicted_cov[1:]),
    )
    _, earlier = lax.scan(step_back, last, inputs, reverse=True)
    return jax.tree.map(lambda e, z: jnp.concatenate([e, z[None]]), earlier, last)


def _update(model, mean, cov, observation, mask):
    """The posterior given one observation, and the log-likelihood of that."""
    # A missing entry becomes one of pure unit noise that came out as 0: it tells
    # nothing of the state, and its determinant is 1.
    c = jnp.where(mask[:, None], model.observation, 0.0)
    both = mask[:, None] & mask[None]
    noise = jnp.where(both, model.observation_cov, jnp.eye(len(mask)))
    residual = jnp.where(mask, observation, 0.0) - c @ mean
    factor = linalg.cho_factor(c @ cov @ c.T + noise, lower=True)
    gain = linalg.cho_solve(factor, c @ cov).T
    log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor[0])))
    distance = residual @ linalg.cho_solve(factor, residual)
    constant = jnp.sum(mask) * jnp.log(2.0 * jnp.pi)
    # Joseph's form stays positive definite where rounding breaks the short one.
    kept = jnp.eye(len(mean)) - gain @ c
    cov = _symmetric(kept @ cov @ kept.T + gain @ noise @ gain.T)
    log_likelihood = -0.5 * (constant + log_det + distance)
    return mean + gain @ residual, cov, log_likelihood


def _predict(model, mean, cov):
    cov = model.transition @ cov @ model.transition.T + model.transition_cov
    return model.transition @ mean, _symmetric(cov)


def _symmetric(cov):
    return 0.5 * (cov + cov.T)


def _checked_mask(model, observations, mask):
    shape, num_observed = jnp.shape(observations), model.observation.shape[0]
    if len(shape) != 2 or shape[1] != num_observed:
        raise ValueError(
            f"observations must have the shape [T, {num_observed}] of one sequence of"
            f" this model, got {list(shape)}; vmap over batches."
        )
    if mask is None:
        return jnp.ones(shape, bool)
    if jnp.shape(mask) != shape:
        raise ValueError(
            f"mask of shape {list(jnp.shape(mask))} must have the shape of the"
            f" observations, {list(shape)}."
        )
    return jnp.asarray(mask, bool)
