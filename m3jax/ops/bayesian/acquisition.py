"""How much is gained by trying a point, for minimisation."""

import jax.numpy as jnp
from jax.scipy import special
from jax.scipy.stats import norm

from m3jax import base
from m3jax.ops import numbers

_TINY = 1e-12
_NEAR = 1.5
"""Standard deviations up to which an improvement's law is summed as it is."""
_LEVELS = 24
"""Of the continued fraction beyond."""


def expected_improvement(
    mean: base.Array, std: base.Array, best: base.Array, xi: base.Array = 0.0
) -> base.Array:
    """Mean of ``max(best - xi - y, 0)`` for a normal y.

        (b - xi - mu) Phi(z) + sigma phi(z),   z = (b - xi - mu) / sigma

    Jones, Schonlau and Welch, "Efficient global optimization of expensive black-box
    functions", J. Global Optimization 13, 1998. Greater xi looks further from what is
    known to be good.

    Args:
      mean: mu, any shape.
      std: sigma, not negative.
      best: the least value so far.
      xi: what an improvement must at least be, in the unit of the values.

    Example:
      >>> expected_improvement(jnp.array([1.0, 0.0]), jnp.array([0.0, 0.0]), 0.5)
      Array([0. , 0.5], dtype=float32)
    """
    mean, std, best = numbers.as_floats(mean, std, best)
    gain = best - xi - mean
    safe = jnp.maximum(std, _TINY)
    z = gain / safe
    found = gain * special.ndtr(z) + safe * norm.pdf(z)
    sure = std <= _TINY  # not if it is NaN
    return jnp.where(sure, jnp.maximum(gain, 0.0), jnp.maximum(found, 0.0))


def log_expected_improvement(
    mean: base.Array, std: base.Array, best: base.Array, xi: base.Array = 0.0
) -> base.Array:
    """Logarithm of `expected_improvement`, with slopes where that underflows.

    With ``t = -z > 0`` and Mills' ratio as Laplace's continued fraction
    ``R(t) = 1 / (t + 1 / L)``, ``L = t + 2 / (t + 3 / (t + ...))``,

        phi(z) + z Phi(z) = phi(t) (1 - t R(t)) = phi(t) / (1 + t L),

    which cancels nothing; above ``z = -1.5`` the sum is taken as it is. Why logarithms:
    Ament et al., "Unexpected improvements to expected improvement for Bayesian
    optimization", NeurIPS 2023. Relative error of the improvement below 1e-4.

    Args:
      mean: mu, any shape.
      std: sigma, above 0.
      best: the least value so far.
      xi: what an improvement must at least be, in the unit of the values.

    Example:
      >>> expected_improvement(jnp.float32(2.0), jnp.float32(0.1), 0.0).item()
      0.0
      >>> log_expected_improvement(jnp.float32(2.0), jnp.float32(0.1), 0.0).round()
      Array(-209., dtype=float32)
    """
    mean, std, best = numbers.as_floats(mean, std, best)
    std = jnp.maximum(std, _TINY)
    z = (best - xi - mean) / std
    far = z < -_NEAR
    near_z, t = jnp.where(far, -_NEAR, z), jnp.where(far, -z, _NEAR)
    near = jnp.log(norm.pdf(near_z) + near_z * special.ndtr(near_z))
    tail = t
    for level in range(_LEVELS, 1, -1):
        tail = t + level / tail
    beyond = norm.logpdf(t) - jnp.log1p(t * tail)
    return jnp.log(std) + jnp.where(far, beyond, near)


def log_probability_below(mean: base.Array, std: base.Array) -> base.Array:
    """Logarithm of `probability_below`."""
    mean, std = numbers.as_floats(mean, std)
    return special.log_ndtr(-mean / jnp.maximum(std, _TINY))


def probability_below(mean: base.Array, std: base.Array) -> base.Array:
    """Probability that a normal number is not above 0: of keeping a constraint."""
    mean, std = numbers.as_floats(mean, std)
    return special.ndtr(-mean / jnp.maximum(std, _TINY))


def constrained(
    mean: base.Array,
    std: base.Array,
    best: base.Array,
    xi: base.Array = 0.0,
    log: bool = False,
) -> base.Array:
    """Expected improvement times the probability of keeping all constraints.

    Args:
      mean: ``[1 + C, ...]`` of the value and of each excess, which is kept up to 0.
      std: likewise.
      best: the least value that kept all; inf if none did: the probability alone.
      xi: what an improvement must at least be.
      log: its logarithm, with slopes where it underflows.
    """
    numbers.require_some(mean, "mean")
    mean, std, best = numbers.as_floats(mean, std, best)
    known = ~jnp.isinf(best)  # NaN goes through
    if not log:
        gain = jnp.where(known, expected_improvement(mean[0], std[0], best, xi), 1.0)
        return gain * jnp.prod(probability_below(mean[1:], std[1:]), axis=0)
    # Where, not inf: the slope of what is not taken must be finite, too.
    safe = jnp.where(known, best, 0.0)
    gain = log_expected_improvement(mean[0], std[0], safe, xi)
    gain = jnp.where(known, gain, 0.0)
    return gain + jnp.sum(log_probability_below(mean[1:], std[1:]), axis=0)
