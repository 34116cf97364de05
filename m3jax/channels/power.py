"""Power constraints over the symbols that are really sent."""

import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import masks

_SILENCE = 1e-20
"""Mean power below which an example is taken as silent and left unscaled."""


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
      Array of the shape of ``x`` with exact zeros at padding. All-zero input stays zero
      and has finite gradients.
    """
    x = masks.keep(x, mask)
    power = masks.masked_mean_square(x, mask)
    safe_power = jnp.where(power > _SILENCE, power, 1.0)
    return x * lax.rsqrt(safe_power)
