"""Simulated rewards and reports for the reliability weights, with known errors."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.systems.m3llm import reliability

STD_RANGE = (0.01, 0.3)
"""Deviations of the rewards that `simulate` draws."""


class Simulated(NamedTuple):
    """Histories whose noise is known.

    Attributes:
      histories: ``[H, 2 T, ...]``.
      error: the expected squared errors of both streams, ``[H, 2]``.
    """

    histories: reliability.History
    error: base.Array


def expected_error(
    std: base.Array, correlation: base.Array, drift: base.Array, window: int
) -> base.Array:
    """Expected squared error of a stream ``r_t = m + drift t + x_t``, in closed form.

        E[e^2] = s^2 / T^2 sum_{ij} c_i c_j r^|i-j| + (drift T)^2

    where x_t is a Gauss-Markov process of deviation s and correlation r, and c_i is -1
    in the present window and 1 in the next; 2 s^2 / T for white noise.

    Args:
      std: s, scalar.
      correlation: r in [0, 1], scalar.
      drift: change in a step, scalar.
      window: T.

    Returns:
      Scalar, in the squared unit of the rewards.

    Example:
      >>> float(expected_error(2.0, 0.0, 0.5, window=4))
      6.0
    """
    signs = np.repeat([-1.0, 1.0], window)
    # How often each lag occurs, with its signs; but for lag 0 on both sides.
    pairs = np.correlate(signs, signs, "full")[2 * window - 1 :]
    pairs[1:] *= 2.0
    covariance = jnp.sum(pairs * correlation ** np.arange(2.0 * window))
    return std**2 * covariance / window**2 + (drift * window) ** 2


def simulate(
    key: base.Array,
    num_histories: int,
    window: int,
    num_links: int = 7,
    max_correlation: float = 0.9,
    drift_share: float = 0.5,
) -> Simulated:
    """Draws histories of linear-Gaussian streams, each with noise of its own.

    Both rewards are ``m + drift t + x_t`` as in `expected_error`, with deviations in
    ``STD_RANGE``, uniform in the logarithm, and uniform correlations. Reports are
    Gauss-Markov with the correlation of the channel's reward, and one in ten is lost.

    Args:
      key: PRNG key, consumed.
      num_histories: H.
      window: T.
      num_links: N.
      max_correlation: of the streams, in [0, 1); 0 makes them white.
      drift_share: probability that a history's streams drift.

    Returns:
      The histories and their expected squared errors.
    """
    keys = jax.random.split(key, num_histories)
    one = functools.partial(
        _simulate_one,
        window=window,
        num_links=num_links,
        max_correlation=max_correlation,
        drift_share=drift_share,
    )
    return jax.vmap(one)(keys)


def _simulate_one(
    key: base.Array,
    window: int,
    num_links: int,
    max_correlation: float,
    drift_share: float,
) -> Simulated:
    keys = jax.random.split(key, 7)
    low, high = jnp.log(jnp.array(STD_RANGE))
    std = jnp.exp(jax.random.uniform(keys[0], (2,), minval=low, maxval=high))
    correlation = jax.random.uniform(keys[1], (2,), maxval=max_correlation)
    drift = std * jax.random.normal(keys[2], (2,)) / window
    drift *= jax.random.bernoulli(keys[3], drift_share)
    mean = jax.random.uniform(keys[4], (2,), minval=0.2, maxval=0.8)
    time = jnp.arange(2 * window)[:, None]
    noise = jax.random.normal(keys[5], (2 * window, 2 + num_links))
    of_links = jnp.full(num_links, correlation[1])
    paths = _gauss_markov(noise, jnp.concatenate([correlation, of_links]))
    rewards = mean + drift * time + std * paths[:, :2]
    seen = jax.random.bernoulli(keys[6], 0.9, (2 * window, num_links))
    snr = jnp.where(seen, jnp.clip(0.5 + 0.2 * paths[:, 2:], 0.0, 1.0), 0.0)
    error = jax.vmap(expected_error, (0, 0, 0, None))(std, correlation, drift, window)
    history = reliability.History(rewards[:, 0], rewards[:, 1], snr, seen)
    return Simulated(history, error)


def _gauss_markov(noise: base.Array, correlation: base.Array) -> base.Array:
    """Stationary processes ``[T, P]`` of variance 1 from white noise of that shape."""
    fresh = jnp.sqrt(1.0 - correlation**2)

    def advance(x, w):
        x = correlation * x + fresh * w
        return x, x

    _, paths = lax.scan(advance, noise[0], noise[1:])
    return jnp.concatenate([noise[:1], paths])
