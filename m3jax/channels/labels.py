"""Symbols named by one integer each: what long error counts need, and no more.

The label of a symbol holds its bits, the first one highest. ``modulation`` gives one
array element to each bit, which is what links and codes want; a simulation that only
counts errors is several times faster if the bits of a symbol stay together. Symbols
and decisions are those of ``modulation``, bit for bit.
"""

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.channels import modulation
from m3jax.ops import random


def draw(key: base.Array, shape: tuple[int, ...], order: int) -> base.Array:
    """Draws equally likely labels.

    Args:
      key: random key, consumed.
      shape: shape of the symbols.
      order: M, one of ``modulation.ORDERS``.

    Returns:
      int32 labels in [0, M).
    """
    modulation.bits_per_symbol(order)  # refuses an unknown order
    bits = jax.random.bits(random.fusible(key), shape, "uint32")
    return (bits & (order - 1)).astype(jnp.int32)


def modulate(labels: base.Array, order: int) -> base.Array:
    """Maps labels to symbols; ``modulation.modulate`` says how.

    Args:
      labels: int, any shape, in [0, M).
      order: M, one of ``modulation.ORDERS``.

    Returns:
      Complex symbols of the same shape.

    Example:
      >>> x = modulate(jnp.array([0, 3]), 4)
      >>> [complex(round(v.real, 2), round(v.imag, 2)) for v in x.tolist()]
      [(-0.71-0.71j), (0.71+0.71j)]
    """
    if modulation.num_axes(order) == 1:
        real = modulation.level(labels, order)
        return lax.complex(real, jnp.zeros_like(real))
    half = modulation.bits_per_symbol(order) // 2
    upper, lower = labels >> half, labels & (2**half - 1)
    return lax.complex(modulation.level(upper, order), modulation.level(lower, order))


def demodulate(x: base.Array, order: int) -> base.Array:
    """Hard decision: the label of the nearest symbol.

    Args:
      x: complex, any shape, equalised without bias to the scale of ``modulate``.
      order: M, one of ``modulation.ORDERS``.

    Returns:
      int32 labels in [0, M) of the same shape; no gradient.
    """
    upper = modulation.nearest_label(x.real, order)
    if modulation.num_axes(order) == 1:
        return upper
    lower = modulation.nearest_label(x.imag, order)
    return (upper << (modulation.bits_per_symbol(order) // 2)) | lower


def bit_errors(sent: base.Array, received: base.Array) -> base.Array:
    """Number of bits in which labels differ.

    Args:
      sent: int labels, any shape.
      received: int labels of the same shape.

    Returns:
      int32 of the same shape.

    Example:
      >>> bit_errors(jnp.array([0b0000, 0b1010]), jnp.array([0b0001, 0b0101])).tolist()
      [1, 4]
    """
    return lax.population_count(sent ^ received).astype(jnp.int32)
