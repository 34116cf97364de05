"""Uniform quantisation, plain or dithered, with a straight-through gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import numbers

MAX_BITS = 16
"""Most bits per value; float32 holds these levels exactly enough."""


class Quantised(NamedTuple):
    """What a quantiser gives.

    Attributes:
      values: the quantised values, same shape and scale as the input.
      indices: int32, which level each value fell on, in ``[0, 2**num_bits)``.
    """

    values: base.Array
    indices: base.Array


def check(num_bits: int, limit: float) -> None:
    """Checks the static settings of a quantiser.

    Raises:
      ValueError: if ``num_bits`` is no integer in [1, 16] or ``limit`` not positive.
    """
    if type(num_bits) is not int or not 1 <= num_bits <= MAX_BITS:
        raise ValueError(
            f"bits per value must be an integer from 1 to {MAX_BITS}, got {num_bits!r}."
        )
    if not 0.0 < limit < float("inf"):
        raise ValueError(f"quantiser limit must be positive and finite, got {limit!r}.")


def uniform(x: base.Array, num_bits: int, limit: float = 1.0) -> Quantised:
    """Rounds to the nearest of ``2**num_bits`` even levels on ``[-limit, limit]``.

        k = floor((clip(x) + limit) / d),   x_q = (k + 1/2) d - limit
        d = 2 limit / 2^b

    The range is fixed and known to both ends, so no side information is sent; the
    caller brings the input to a known scale. (A range taken from each example would
    have to be sent beside it without error, and one outlier would coarsen all other
    values; a tanh would bend the values that are well inside.) A full-range uniform
    input is quantised at an SNR of ``6.02 b`` dB.

    Surrogate gradient: that of ``clip(x)``, that is 1 inside the range and 0 outside.

    Args:
      x: real, any shape.
      num_bits: b, bits per value, 1 to 16.
      limit: half the range, in the unit of ``x``.

    Returns:
      ``Quantised(values, indices)``; of NaN the value is NaN and the index 0.

    Example:
      >>> uniform(jnp.array([-2.0, 0.1, 0.6]), num_bits=2).values.tolist()
      [-0.75, 0.25, 0.75]
    """
    check(num_bits, limit)
    clipped = jnp.clip(numbers.as_float(x), -limit, limit)
    step = 2.0 * limit / 2**num_bits
    places = jnp.floor((clipped + limit) / step)
    places = jnp.where(jnp.isnan(places), 0.0, places)  # integers have no NaN
    indices = jnp.clip(places, 0, 2**num_bits - 1).astype(jnp.int32)
    levels = dequantise(indices, num_bits, limit).astype(clipped.dtype)
    return Quantised(straight_through(levels, clipped), indices)


def dithered(
    key: base.Array, x: base.Array, num_bits: int, limit: float = 1.0
) -> Quantised:
    """Quantises with subtractive dither, which both ends draw from the same key.

        x_q = Q(x + u) - u,   u ~ U(-d/2, d/2)

    For ``|x| <= limit - d/2`` the error is uniform on half a step to each side and
    independent of ``x`` (Schuchman 1964; Lipshitz, Wannamaker and Vanderkooy 1992), so
    ``E x_q = x``: there the straight-through gradient, 1, is the exact one of the mean
    over the dither.

    Args:
      key: random key, consumed; the receiver draws ``dither`` from the same.
      x: real, any shape.
      num_bits: b, bits per value, 1 to 16.
      limit: half the range, in the unit of ``x``.

    Returns:
      ``Quantised(values, indices)``; the receiver gets the values as
      ``dequantise(indices, num_bits, limit) - dither(key, ...)``.

    Example:
      >>> x = jnp.full((2000,), 0.1)  # between the levels -0.25 and 0.25
      >>> round(float(dithered(jax.random.key(0), x, num_bits=2).values.mean()), 2)
      0.1
    """
    x = numbers.as_float(x)
    u = dither(key, x.shape, num_bits, limit, x.dtype)
    values, indices = uniform(x + u, num_bits, limit)
    return Quantised(values - u, indices)


def dither(
    key: base.Array, shape: tuple[int, ...], num_bits: int, limit: float, dtype=float
) -> base.Array:
    """Draws dither of one quantiser step: ``u ~ U(-d/2, d/2)``, ``d = 2 limit / 2^b``.

    Args:
      key: random key, consumed.
      shape: shape of the values.
      num_bits: b, bits per value.
      limit: half the quantiser's range.
      dtype: a real type.

    Returns:
      Real array of this shape.
    """
    check(num_bits, limit)
    half_step = limit / 2**num_bits
    return jax.random.uniform(key, shape, dtype, -half_step, half_step)


def dequantise(indices: base.Array, num_bits: int, limit: float = 1.0) -> base.Array:
    """The level of each index: ``(k + 1/2) d - limit`` with ``d = 2 limit / 2^b``.

    Args:
      indices: int, any shape, in ``[0, 2**num_bits)``.
      num_bits: b, bits per value.
      limit: half the range.

    Returns:
      Real array of the shape of ``indices``.
    """
    return (indices + 0.5) * (2.0 * limit / 2**num_bits) - limit


def straight_through(value: base.Array, surrogate: base.Array) -> base.Array:
    """``value`` exactly, with the gradient of ``surrogate``.

    Args:
      value: what the result is; its own gradient is dropped.
      surrogate: same shape and type; where the gradient goes.

    Returns:
      Array equal to ``value``.
    """
    return lax.stop_gradient(value) + (surrogate - lax.stop_gradient(surrogate))
