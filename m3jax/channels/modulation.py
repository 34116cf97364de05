"""Square QAM with Gray labels: bits to complex symbols and back.

A symbol of order M carries ``log2 M`` bits, the first half on the real axis and the
second half on the imaginary one. Each axis has ``sqrt M`` evenly spaced levels whose
labels form a Gray code: neighbours differ in one bit. The mean energy of all symbols
is 1.
"""

import math

import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.channels import bits as bits_lib

ORDERS = (4, 16, 64, 256)
"""The orders that are supported; 4 is QPSK."""


def bits_per_symbol(order: int) -> int:
    """``log2`` of the order.

    Raises:
      ValueError: if the order is not one of ``ORDERS``.
    """
    if order not in ORDERS:
        raise ValueError(f"QAM order must be one of {ORDERS}, got {order!r}.")
    return order.bit_length() - 1


def modulate(bits: base.Array, order: int) -> base.Array:
    """Maps groups of bits to symbols.

        x = a ((2 i - m + 1) + j (2 q - m + 1))
        m = sqrt(M),   a = sqrt(3 / (2 (M - 1)))

    with ``i`` and ``q`` the places of the two half labels in the Gray sequence.

    Args:
      bits: ``[..., log2 M]`` of 0 and 1.
      order: M, one of ``ORDERS``.

    Returns:
      Complex ``[...]``; mean energy 1 over equally likely bits.

    Raises:
      ValueError: for an unknown order, or a last axis that is not ``log2 M`` long.

    Example:
      >>> x = modulate(jnp.array([[0, 0], [1, 1]]), 4)
      >>> [complex(round(v.real, 2), round(v.imag, 2)) for v in x.tolist()]
      [(-0.71-0.71j), (0.71+0.71j)]
    """
    num_bits = bits_per_symbol(order)
    if bits.shape[-1:] != (num_bits,):
        raise ValueError(
            f"QAM of order {order} takes {num_bits} bits per symbol on the last axis, "
            f"got bits of shape {bits.shape}."
        )
    labels = bits_lib.to_integers(bits.reshape(*bits.shape[:-1], 2, num_bits // 2))
    places = _gray_to_place(labels, num_bits // 2)
    levels = _spacing(order) * (2 * places - _last_place(order))
    return lax.complex(levels[..., 0], levels[..., 1])


def demodulate(x: base.Array, order: int) -> base.Array:
    """Hard decision: the bits of the nearest symbol.

    Args:
      x: complex ``[...]``, equalised without bias to the scale of ``modulate``.
      order: M, one of ``ORDERS``.

    Returns:
      int32 ``[..., log2 M]`` of 0 and 1; no gradient.
    """
    num_bits = bits_per_symbol(order)
    last = _last_place(order)
    axes = jnp.stack([x.real, x.imag], axis=-1)
    places = jnp.round(0.5 * (axes / _spacing(order) + last))
    places = jnp.clip(places, 0, last).astype(jnp.int32)
    labels = places ^ (places >> 1)
    bits = bits_lib.from_integers(labels, num_bits // 2)
    return bits.reshape(*x.shape, num_bits)


def _spacing(order: int) -> float:
    """Half the distance between neighbours, for unit mean energy."""
    return math.sqrt(1.5 / (order - 1))


def _last_place(order: int) -> int:
    return math.isqrt(order) - 1


def _gray_to_place(labels: base.Array, num_bits: int) -> base.Array:
    """Inverse of ``place ^ (place >> 1)``: a running exclusive or from the top bit."""
    shift = 1
    while shift < num_bits:
        labels = labels ^ (labels >> shift)
        shift *= 2
    return labels
