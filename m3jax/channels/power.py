"""Power constraints over the symbols that are really sent."""

import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import masks, numbers


def normalise(x: base.Array, mask: base.Array) -> base.Array:
    """Scales one example to unit mean power over its valid symbols.

        x_i <- m_i x_i / sqrt(P),   P = sum_i m_i |x_i|^2 / sum_i m_i

    Padding neither counts in P nor is sent. (Averaging over padding too would let a
    short example of ``n`` tokens in ``N`` slots send ``N / n`` times the power it
    declares: 10 dB for 25 tokens in 256 slots.)

    Args:
      x: symbols ``[L, ...]``, complex or real.
      mask: bool ``[L]``, True where a token is sent.

    Returns:
      Array of the shape of ``x`` with exact zeros at padding, the same at every scale
      of ``x``. All-zero input stays zero and has finite gradients; one NaN or infinity
      among the valid symbols makes all of them NaN or zero.
    """
    x = masks.keep(numbers.as_float(x), mask)
    x = x * numbers.unit_scale(numbers.peak(x))  # squares neither overflow nor vanish
    power = masks.masked_mean_square(x, mask)
    silent = power <= 0.0  # False for NaN, which goes on
    return x * lax.rsqrt(jnp.where(silent, 1.0, power))
