"""The exponential integral E1, scaled so that it neither over- nor underflows."""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base

_SERIES_TERMS = 18
_FRACTION_LEVELS = 40


def scaled_exp1(x: base.Array) -> base.Array:
    """``exp(x) E1(x)``, the exponential integral without its exponential decay.

        E1(x) = int_x^inf exp(-t) / t dt
              = -gamma - log x - sum_k (-x)^k / (k k!)                      (x < 1)
        exp(x) E1(x) = 1/(x + 1 - 1/(x + 3 - 4/(x + 5 - 9/(x + 7 - ...))))  (x >= 1)

    Abramowitz and Stegun, Handbook of Mathematical Functions, 5.1.11 and 5.1.22.
    ``E1`` itself underflows float32 from x = 88 on, where the product still is ``1/x``.

    Args:
      x: positive, any shape; 0 gives ``inf``.

    Returns:
      Real array of this shape, right to rounding in float32, to 1e-10 in float64. Its
      derivative, by differentiation of these expressions, is as good.

    Example:
      >>> round(float(scaled_exp1(1000.0)), 7)
      0.000999
    """
    x = jnp.asarray(x, jnp.result_type(float, x))
    small = x < 1.0
    # Each branch sees only what it is made for, so that both gradients are finite.
    return jnp.where(
        small, _series(jnp.where(small, x, 0.5)), _fraction(jnp.where(small, 2.0, x))
    )


def _series(x: base.Array) -> base.Array:
    k = np.arange(1, _SERIES_TERMS + 1)
    terms = -((-1.0) ** k) / (k * np.array([math.factorial(i) for i in k], float))
    total = jnp.polyval(jnp.asarray([*terms[::-1], 0.0], x.dtype), x)
    return jnp.exp(x) * (total - np.euler_gamma - jnp.log(x))


def _fraction(x: base.Array) -> base.Array:
    """The continued fraction, from its innermost level outwards."""

    def outwards(i, tail):
        level = _FRACTION_LEVELS - i
        return level**2 / (x + (2 * level + 1) - tail)

    tail = lax.fori_loop(0, _FRACTION_LEVELS, outwards, jnp.zeros_like(x))
    return 1.0 / (x + 1.0 - tail)
