"""Separation: the classical way to send tokens, with an ideal code, as a baseline.

Tokens are quantised to bits, the bits of a message make one codeword of a QAM
constellation that fills the same channel uses as the analog link, and the codeword
arrives whole or not at all. Its error probability is that of an ideal code of this
length over the fading it meets,

    p = Q((mean_b I(g_b snr) - R) sqrt(n / mean_b U(g_b snr)))

with I and U the mean and dispersion of what a symbol carries
(``channels/bit_information.py``), R the bits per use, n the uses and g_b the gains of
the blocks: more than any real code does. The transmitter knows the mean SNR, and takes
the constellation that fails least there.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special

from m3jax import base
from m3jax.channels import bit_information, modulation

ORDERS = (2, 4, 16, 64, 256)
_LEAST_VARIANCE = 1e-9
# Smooth in decibels, so that a table spares a quadrature for each gain.
_GRID_DB = np.linspace(-40.0, 50.0, 361, dtype=np.float32)


def codeword_errors(
    key: base.Array,
    snr_db: base.Array,
    *,
    num_messages: int,
    num_bits: int,
    num_uses: int,
    block_length: int | None,
) -> base.Array:
    """Error probabilities of messages over Rayleigh block fading.

    Args:
      key: of the gains.
      snr_db: mean Es/N0 in dB, scalar.
      num_messages: B, each with gains of its own.
      num_bits: of a message.
      num_uses: n, complex symbols of a message.
      block_length: uses that share a gain; None: no fading.

    Returns:
      float32 [B]; 1 where no constellation can carry so many bits.

    Example:
      >>> errors = codeword_errors(
      ...     jax.random.key(0), 10.0, num_messages=3, num_bits=300, num_uses=300,
      ...     block_length=None,
      ... )
      >>> bool((errors < 1e-6).all())
      True
    """
    rate = num_bits / num_uses
    orders = [m for m in ORDERS if modulation.bits_per_symbol(m) >= rate]
    if not orders:
        return jnp.ones(num_messages)
    snr = 10.0 ** (jnp.asarray(snr_db, jnp.float32) / 10.0)
    gains = jnp.ones((num_messages, 1))
    if block_length is not None:
        shape = num_messages, -(-num_uses // block_length)
        gains = jax.random.exponential(key, shape)
    log_gains = 10.0 * jnp.log10(gains * snr)
    errors = []
    for order in orders:
        mean, variance = (
            jnp.interp(log_gains, _GRID_DB, part) for part in _table(order)
        )
        surplus = jnp.mean(mean, axis=1) - rate
        spread = jnp.maximum(jnp.mean(variance, axis=1), _LEAST_VARIANCE)
        errors.append(special.ndtr(-surplus * jnp.sqrt(num_uses / spread)))
    stacked = jnp.stack(errors)
    return stacked[jnp.argmin(jnp.mean(stacked, axis=1))]


@functools.cache
def _table(order: int) -> bit_information.BitInformation:
    """What a symbol carries at each SNR of the grid, float32 [G]."""
    with jax.ensure_compile_time_eval():
        carried = jax.jit(
            jax.vmap(lambda snr: bit_information.bit_information(snr, order))
        )(10.0 ** (_GRID_DB / 10.0))
    return bit_information.BitInformation(*map(np.asarray, carried))


def expected_score(
    arrives: base.Array, is_lost: base.Array, errors: base.Array
) -> base.Array:
    """The mean score over whether a message arrives.

    Args:
      arrives: [B], score of what the server says when it does.
      is_lost: [B], score when it has the question alone.
      errors: [B], probability of that.

    Returns:
      [B].
    """
    return (1.0 - errors) * arrives + errors * is_lost
