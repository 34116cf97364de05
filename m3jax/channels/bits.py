"""Integers to bits and back, most significant bit first."""

import jax.numpy as jnp
import numpy as np

from m3jax import base


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
