"""How much is gained by trying a point, for minimisation."""

import jax.numpy as jnp
from jax.scipy import special
from jax.scipy.stats import norm

from m3jax import base

_TINY = 1e-12


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
    gain = best - xi - mean
    safe = jnp.maximum(std, _TINY)
    z = gain / safe
    found = gain * special.ndtr(z) + safe * norm.pdf(z)
    return jnp.where(std > _TINY, jnp.maximum(found, 0.0), jnp.maximum(gain, 0.0))


def probability_below(mean: base.Array, std: base.Array) -> base.Array:
    """Probability that a normal number is not above 0: of keeping a constraint."""
    return special.ndtr(-mean / jnp.maximum(std, _TINY))
