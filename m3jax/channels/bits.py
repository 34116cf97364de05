"""Integers to bits and back, most significant bit first; scrambling."""

import math

import jax.numpy as jnp
import numpy as np

from m3jax import base

_GOLDEN = 2654435769
"""2^32 over the golden ratio: its multiples fill the 32-bit circle evenly."""


def from_integers(values: base.Array, num_bits: int) -> base.Array:
    """Writes integers as bits.

    Args:
      values: non-negative int ``[...]`` below ``2**num_bits``.
      num_bits: bits per integer.

    Returns:
      int32 ``[..., num_bits]`` of 0 and 1.

    Example:
      >>> from_integers(jnp.array([6]), 3).tolist()
      [[1, 1, 0]]
    """
    shifts = np.arange(num_bits - 1, -1, -1, dtype=np.int32)
    return (jnp.asarray(values, jnp.int32)[..., None] >> shifts) & 1


def to_integers(bits: base.Array) -> base.Array:
    """Reads bits as integers; the inverse of ``from_integers``.

    Args:
      bits: ``[..., num_bits]`` of 0 and 1, ``num_bits`` at most 31.

    Returns:
      int32 ``[...]``.
    """
    shifts = np.arange(bits.shape[-1] - 1, -1, -1, dtype=np.int32)
    return jnp.sum(jnp.asarray(bits, jnp.int32) << shifts, axis=-1, dtype=jnp.int32)


def scramble(bits: base.Array) -> base.Array:
    """Flips bits by a fixed sequence that both ends know; its own inverse.

        b_{s,k} <- b_{s,k} xor (k-th leading bit of  s 2^32 / golden ratio  mod 2^32)

    Like the scramblers of radio standards: whatever the data, all symbols are used
    equally often, so a constellation sends the mean energy it declares.

    Args:
      bits: int ``[..., K]`` of 0 and 1, K at most 32; the leading axes are counted
        in order, so appending groups does not change the earlier ones.

    Returns:
      int32, same shape.
    """
    places = np.arange(math.prod(bits.shape[:-1]), dtype=np.uint32)
    words = (jnp.asarray(places) * jnp.uint32(_GOLDEN)).reshape(bits.shape[:-1])
    shifts = np.arange(31, 31 - bits.shape[-1], -1, dtype=np.uint32)
    return bits ^ ((words[..., None] >> shifts) & 1).astype(jnp.int32)
