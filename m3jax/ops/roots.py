"""The square root with a gradient that is finite everywhere."""

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import numbers


def sqrt(x: base.Array) -> base.Array:
    """``sqrt(x)`` whose slope at 0 is taken as 0 instead of infinity.

    A power of exactly 0 (a channel left dry by water-filling) then passes no NaN back.

    Args:
      x: real, any shape; below 0 counts as 0, NaN stays NaN.

    Returns:
      Same shape.

    Example:
      >>> import jax
      >>> [float(jax.grad(sqrt)(x)) for x in (0.0, 4.0)]
      [0.0, 0.25]
    """
    x = numbers.as_float(x)
    positive = ~(x <= 0.0)
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
