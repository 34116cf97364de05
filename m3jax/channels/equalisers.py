"""One-tap equalisers: from received symbols back to estimates of what was sent.

Both take the gain as the receiver knows it (``channels/csi.py``) and stay finite, with
finite gradients, in the deepest fade: below -180 dB a gain counts as no signal,
estimate 0. So does an SNR for ``mmse``, down to ``-inf`` dB. NaN goes through.
"""

import jax.numpy as jnp

from m3jax import base
from m3jax.channels import noise
from m3jax.ops import masks

_NO_SIGNAL = 1e-18
"""Power below which the denominator counts as zero."""
_ALL_NOISE = 0.99 / noise.LEAST_SNR
"""Noise power from which on nothing is received; 0.99 for rounding."""


def mmse(
    y: base.Array, h: base.Array, no: base.Array, error_variance: base.Array = 0.0
) -> base.Array:
    """Linear estimate of least mean square error, for ``E|x|^2 = 1``.

        x_hat = conj(h) y / (|h|^2 + v),   E|x - x_hat|^2 = 1 / (1 + |h|^2 / v)
        v = N0 + E|e|^2

    where ``e`` is the error of the gain ``h``, 0 if the receiver knows it. For then
    ``y = h x + (e x + n)``: an error that does not depend on ``h`` is more noise.

    The estimate leans towards zero when the channel is bad: its size tells a learned
    receiver how far to trust it. That lean is wrong for fixed decision thresholds;
    there take ``zero_forcing``.

    Args:
      y: received symbols, complex.
      h: gains, complex, broadcastable to ``y``.
      no: noise power N0 per complex symbol; 0 is allowed.
      error_variance: ``E|e|^2``, as ``csi.Estimate`` has it.

    Returns:
      Complex estimates of the shape of ``y``.
    """
    matched = jnp.conj(h) * y
    # Noise this strong leaves nothing; NaN is not drowned.
    drowned = no >= _ALL_NOISE
    matched = jnp.where(drowned, jnp.zeros((), matched.dtype), matched)
    return safe_divide(matched, masks.abs_square(h) + (no + error_variance))


def zero_forcing(y: base.Array, h: base.Array) -> base.Array:
    """Estimate without bias: undoes the gain and nothing else.

        x_hat = y / h = conj(h) y / |h|^2 = x + n / h

    With one antenna and one tap this is also the *unbiased* MMSE estimate (the MMSE one
    divided by ``|h|^2 / (|h|^2 + N0)``), and nearest-point decisions on it are maximum
    likelihood. It is what a hard decision wants, hence no option on ``mmse``.

    Args:
      y: received symbols, complex.
      h: gains, complex, broadcastable to ``y``.

    Returns:
      Complex estimates of the shape of ``y``.
    """
    energy = masks.abs_square(h)
    # One real division: a complex one takes half the time of a simulated symbol.
    return y * (jnp.conj(h) * safe_divide(jnp.ones_like(energy), energy))


def safe_divide(numerator: base.Array, denominator: base.Array) -> base.Array:
    """The quotient, or 0 where the denominator, a power, counts as no signal."""
    # One where on both sides of the quotient, so that its gradient is finite too.
    # Asked this way round, NaN is usable and makes the quotient NaN.
    usable = ~(denominator <= _NO_SIGNAL)
    numerator = jnp.where(usable, numerator, jnp.zeros((), numerator.dtype))
    return numerator / jnp.where(usable, denominator, 1.0)
