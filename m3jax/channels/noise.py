"""The SNR convention, stated here and nowhere else.

Every channel sends one complex symbol per channel use:

    y = h x + n,   E|x|^2 = 1,   E|h|^2 = 1,   n ~ CN(0, N0),   N0 = 1 / snr

``snr`` is Es/N0: linear, per complex symbol, averaged over fading. A complex symbol
carries two real values, and each of these sees noise of variance N0/2 against a signal
of mean square 1/2, so the SNR per real value is the same ``snr``. ``CN(0, v)`` is the
circular complex normal with ``E|n|^2 = v``. ``snr = inf`` means that the noise is
exactly zero.
"""

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base


def noise_power(snr: base.Array) -> base.Array:
    """N0 for a linear SNR.

        N0 = 1 / snr

    Args:
      snr: linear Es/N0, positive, any shape; ``inf`` gives 0.

    Returns:
      Noise power per complex symbol, in units of the mean symbol energy.
    """
    return 1.0 / jnp.asarray(snr)


def complex_normal(key: base.Array, shape: tuple[int, ...], dtype=None) -> base.Array:
    """Draws circular complex normal numbers CN(0, 1).

    Args:
      key: random key, consumed.
      shape: shape of the result.
      dtype: a complex type; by default the widest that is enabled.

    Returns:
      Complex array with ``E|z|^2 = 1``, half of it on each axis. A longer leading axis
      only appends numbers: padding does not change what the valid part meets.
    """
    if dtype is None:
        dtype = jnp.result_type(complex)
    return jax.random.normal(key, shape, dtype)


def add_noise(key: base.Array, x: base.Array, snr: base.Array) -> base.Array:
    """Adds white complex Gaussian noise.

        y = x + n,   n ~ CN(0, 1 / snr)

    Args:
      key: random key, consumed.
      x: complex symbols, any shape, as they arrive (after fading).
      snr: linear Es/N0, scalar or broadcastable to ``x``; ``inf`` adds exact zeros.

    Returns:
      Complex array of the shape of ``x``. The derivative by ``snr`` is finite for every
      positive ``snr`` and 0 at ``inf``.

    Raises:
      TypeError: if ``x`` is real.
    """
    if not jnp.iscomplexobj(x):
        raise TypeError(
            f"channels carry complex symbols, got {jnp.asarray(x).dtype}; pair real "
            "values first, or send them through a link."
        )
    n = complex_normal(key, x.shape, x.dtype)
    # rsqrt(snr) rather than sqrt(1/snr): the derivative of the latter is NaN at inf.
    std = lax.rsqrt(jnp.asarray(snr, n.real.dtype))
    return x + std * n
