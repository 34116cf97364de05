"""Scores of probabilistic forecasts: how sharp they are, and whether they are honest.

A forecast is a mixture of K normal distributions of equal weight, along the first axis,
as sampled paths of a model give. One normal distribution is the case K = 1.

The logarithmic score and the CRPS are proper: in expectation, no forecast beats the
true distribution (Gneiting and Raftery, J. Am. Stat. Assoc. 102, 2007).
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy import special

from m3jax import base
from m3jax.ops import numbers

_FAR = 1e3
"""Standard deviations from which on a normal distribution is a point."""


def negative_log_likelihood(
    mean: base.Array, std: base.Array, values: base.Array
) -> base.Array:
    """Logarithmic score: ``-log sum_k N(y; m_k, s_k^2) / K``.

    Args:
      mean: ``[K, *shape]``.
      std: above 0, ``[K, *shape]``.
      values: y, what came true, ``[*shape]``.

    Returns:
      Nats, ``[*shape]``; lower is better.

    Raises:
      ValueError: if shapes disagree.

    Example:
      >>> one = jnp.ones((1, 1))
      >>> round(float(negative_log_likelihood(0 * one, one, jnp.zeros(1))[0]), 4)
      0.9189
    """
    mean, std, values = _checked(mean, std, values)
    z = (values - mean) / std
    log_density = -0.5 * z**2 - jnp.log(std) - 0.5 * math.log(2.0 * math.pi)
    return math.log(len(mean)) - special.logsumexp(log_density, axis=0)


def crps(mean: base.Array, std: base.Array, values: base.Array) -> base.Array:
    """Continuous ranked probability score, in closed form.

        CRPS = integral (F(x) - 1[x >= y])^2 dx = E|X - y| - E|X - X'| / 2

    where ``E|m + s N| = 2 s phi(m / s) + m (2 Phi(m / s) - 1)`` (Grimit et al., Q. J.
    R. Meteorol. Soc. 132, 2006, equation 5). Of a forecast without spread it is the
    absolute error. It takes K^2 operations.

    Args:
      mean: ``[K, *shape]``.
      std: above 0, ``[K, *shape]``.
      values: y, what came true, ``[*shape]``.

    Returns:
      ``[*shape]`` in the unit of the values; lower is better.

    Raises:
      ValueError: if shapes disagree.

    Example:
      >>> one = jnp.ones((1, 1))
      >>> round(float(crps(0 * one, one, jnp.zeros(1))[0]), 4)
      0.2337
    """
    mean, std, values = _checked(mean, std, values)

    def mean_distance_to(other):
        spread = jnp.sqrt(std**2 + other[1] ** 2)
        return jnp.mean(_mean_absolute(mean - other[0], spread), axis=0)

    # One component at a time: K^2 values at once would not fit for long forecasts.
    between = jnp.mean(jax.lax.map(mean_distance_to, (mean, std)), axis=0)
    return jnp.mean(_mean_absolute(values - mean, std), axis=0) - 0.5 * between


def probability_transform(
    mean: base.Array, std: base.Array, values: base.Array
) -> base.Array:
    """The forecast's own probability of a value no greater than what came true.

    Over many honest forecasts it is uniform on [0, 1] (Dawid 1984).

    Args:
      mean: ``[K, *shape]``.
      std: above 0, ``[K, *shape]``.
      values: y, what came true, ``[*shape]``.

    Returns:
      ``F(y)`` in [0, 1], ``[*shape]``.

    Raises:
      ValueError: if shapes disagree.
    """
    mean, std, values = _checked(mean, std, values)
    return jnp.mean(special.ndtr((values - mean) / std), axis=0)


def covered(transform: base.Array, level: float) -> base.Array:
    """Whether the central interval of a forecast held what came true.

        |F(y) - 1/2| <= level / 2

    The mean over many honest forecasts is ``level``; a smaller one says that they are
    too sure.

    Args:
      transform: ``F(y)`` of `probability_transform`, any shape.
      level: probability that the interval claims, in (0, 1).

    Returns:
      bool, of the same shape.

    Raises:
      ValueError: if ``level`` is not in (0, 1).

    Example:
      >>> covered(jnp.array([0.04, 0.5, 0.96]), level=0.9).tolist()
      [False, True, False]
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1), got {level}.")
    return jnp.abs(transform - 0.5) <= 0.5 * level


def _mean_absolute(mean, std):
    # Without spread it is |mean|, also where the square of z overflows.
    sharp = std <= 0.0
    z = jnp.where(sharp, jnp.sign(mean) * _FAR, mean / jnp.where(sharp, 1.0, std))
    z = jnp.clip(z, -_FAR, _FAR)
    density = jnp.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    return 2.0 * std * density + mean * special.erf(z / math.sqrt(2.0))


def _checked(mean, std, values):
    mean, std, values = numbers.as_floats(mean, std, values)
    shapes = [list(jnp.shape(v)) for v in (mean, std, values)]
    if shapes[0] != shapes[1] or shapes[0][1:] != shapes[2] or not shapes[0]:
        raise ValueError(
            "mean and std must have one shape, components first, and values the rest of"
            f" it; got {shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    numbers.require_some(mean, "mean")
    return mean, std, values
