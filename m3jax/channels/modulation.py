"""BPSK and square QAM with Gray labels: bits to complex symbols and back.

A QAM symbol of order M carries ``log2 M`` bits, the first half on the real axis and the
second half on the imaginary one. Each axis has ``sqrt M`` evenly spaced levels whose
labels form a Gray code: neighbours differ in one bit. BPSK, order 2, has one bit and
the real axis alone: 0 is -1 and 1 is +1. The mean energy of all symbols is 1.

Decisions here are hard; ``channels/soft_bits.py`` has the soft ones.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.channels import bits as bits_lib
from m3jax.ops import numbers

ORDERS = (2, 4, 16, 64, 256)
"""The orders that are supported; 2 is BPSK, 4 is QPSK."""


def bits_per_symbol(order: int) -> int:
    """``log2`` of the order.

    Raises:
      ValueError: if the order is not one of ``ORDERS``.
    """
    if order not in ORDERS:
        raise ValueError(f"QAM order must be one of {ORDERS}, got {order!r}.")
    return order.bit_length() - 1


def num_axes(order: int) -> int:
    """Axes that carry bits: 1, the real one, for BPSK; 2 for QAM."""
    return 1 if bits_per_symbol(order) == 1 else 2


def axis_levels(order: int) -> np.ndarray:
    """The levels of one axis, ascending; the label of place ``i`` is ``i ^ (i >> 1)``.

    Args:
      order: M, one of ``ORDERS``.

    Returns:
      float64 ``[m]``, m = sqrt(M), or 2 for BPSK.

    Example:
      >>> axis_levels(16).round(4).tolist()
      [-0.9487, -0.3162, 0.3162, 0.9487]
    """
    last = _last_place(order)
    return _spacing(order) * (2 * np.arange(last + 1) - last)


def axis_labels(order: int) -> np.ndarray:
    """The Gray labels of ``axis_levels`` as bits.

    Args:
      order: M, one of ``ORDERS``.

    Returns:
      int64 ``[m, k]`` of 0 and 1: level, bit of this axis, in the order of sending.

    Example:
      >>> axis_labels(16).tolist()
      [[0, 0], [0, 1], [1, 1], [1, 0]]
    """
    num_bits = bits_per_symbol(order) // num_axes(order)
    places = np.arange(2**num_bits)
    shifts = np.arange(num_bits - 1, -1, -1)
    return ((places ^ (places >> 1))[:, None] >> shifts) & 1


def modulate(bits: base.Array, order: int) -> base.Array:
    """Maps groups of bits to symbols.

        QAM:   x = a ((2 i - m + 1) + j (2 q - m + 1))
               m = sqrt(M),   a = sqrt(3 / (2 (M - 1)))
        BPSK:  x = 2 i - 1

    with ``i`` and ``q`` the places of the half labels in the Gray sequence.

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
    num_bits, axes = bits_per_symbol(order), num_axes(order)
    if bits.shape[-1:] != (num_bits,):
        raise ValueError(
            f"QAM of order {order} takes {num_bits} bits per symbol on the last axis, "
            f"got bits of shape {bits.shape}."
        )
    labels = bits_lib.to_integers(
        bits.reshape(*bits.shape[:-1], axes, num_bits // axes)
    )
    return from_axes(level(labels, order))


def demodulate(x: base.Array, order: int) -> base.Array:
    """Hard decision: the bits of the nearest symbol.

    Args:
      x: complex ``[...]``, equalised without bias to the scale of ``modulate``.
      order: M, one of ``ORDERS``.

    Returns:
      int32 ``[..., log2 M]`` of 0 and 1; no gradient.
    """
    num_bits = bits_per_symbol(order)
    axes = to_axes(x, order)
    labels = nearest_label(axes, order)
    bits = bits_lib.from_integers(labels, num_bits // axes.shape[-1])
    return bits.reshape(*x.shape, num_bits)


def level(labels: base.Array, order: int) -> base.Array:
    """Levels of one axis, by their Gray labels.

    Args:
      labels: int, any shape, in [0, m) for m levels on the axis.
      order: M, one of ``ORDERS``.

    Returns:
      Real, of the same shape.
    """
    places = _gray_to_place(labels, bits_per_symbol(order) // num_axes(order))
    return _spacing(order) * (2 * places - _last_place(order))


def nearest_label(values: base.Array, order: int) -> base.Array:
    """Gray labels of the levels next to received values on one axis.

    Args:
      values: real, any shape.
      order: M, one of ``ORDERS``.

    Returns:
      int32 in [0, m), of the same shape; 0 for NaN; no gradient.
    """
    last = _last_place(order)
    values = numbers.as_float(values)
    values = jnp.where(jnp.isnan(values), -jnp.inf, values)  # integers have no NaN
    places = jnp.round(0.5 * (values / _spacing(order) + last))
    places = jnp.clip(places, 0, last).astype(jnp.int32)
    return places ^ (places >> 1)


def to_axes(x: base.Array, order: int) -> base.Array:
    """Complex ``[...]`` to the axes that carry bits, real ``[..., num_axes]``."""
    if num_axes(order) == 1:
        return x.real[..., None]
    return jnp.stack([x.real, x.imag], axis=-1)


def from_axes(levels: base.Array) -> base.Array:
    """Real ``[..., num_axes]`` to complex ``[...]``; the inverse of ``to_axes``."""
    real = levels[..., 0]
    two_axes = levels.shape[-1] == 2
    return lax.complex(real, levels[..., 1] if two_axes else jnp.zeros_like(real))


def _spacing(order: int) -> float:
    """Half the distance between neighbours, for unit mean energy."""
    return 1.0 if num_axes(order) == 1 else math.sqrt(1.5 / (order - 1))


def _last_place(order: int) -> int:
    """Places are 0 to this."""
    return 1 if num_axes(order) == 1 else math.isqrt(order) - 1


def _gray_to_place(labels: base.Array, num_bits: int) -> base.Array:
    """Inverse of ``place ^ (place >> 1)``: a running exclusive or from the top bit."""
    shift = 1
    while shift < num_bits:
        labels = labels ^ (labels >> shift)
        shift *= 2
    return labels
