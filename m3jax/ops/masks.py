"""Means over the valid part of an array; padding is as if it were not there.

A mask speaks about leading axes: a mask ``[L]`` on values ``[L, R]`` keeps or drops
whole rows. Masked entries are replaced, not multiplied, so even NaN in the padding does
no harm, neither to values nor to gradients.
"""

import math

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import numbers


def keep(x: base.Array, mask: base.Array) -> base.Array:
    """Sets masked entries to zero.

    Args:
      x: ``[*lead, *rest]``.
      mask: bool ``[*lead]``, True where ``x`` is valid.

    Returns:
      ``x`` with exact zeros where ``mask`` is False.

    Raises:
      ValueError: if the mask's shape is not the leading part of the shape of ``x``.
    """
    x, mask = jnp.asarray(x), jnp.asarray(mask)
    if mask.shape != x.shape[: mask.ndim]:
        raise ValueError(
            f"mask of shape {mask.shape} must match the leading axes of values of "
            f"shape {x.shape}."
        )
    mask = mask.astype(bool).reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
    return jnp.where(mask, x, jnp.zeros((), x.dtype))


def masked_mean(x: base.Array, mask: base.Array) -> base.Array:
    """Mean over all valid entries.

        sum_i m_i x_i / sum_i m_i,   0 if nothing is valid

    Args:
      x: ``[*lead, *rest]``.
      mask: bool ``[*lead]``, True where ``x`` is valid.

    Returns:
      Scalar.

    Example:
      >>> float(masked_mean(jnp.array([1.0, 3.0, 99.0]), jnp.array([1, 1, 0])))
      2.0
    """
    total = jnp.sum(keep(numbers.as_float(x), mask))
    rest = math.prod(jnp.shape(x)[jnp.ndim(mask) :])
    count = jnp.sum(jnp.asarray(mask).astype(bool)) * rest
    return total / jnp.maximum(count, 1)


def masked_mean_square(x: base.Array, mask: base.Array) -> base.Array:
    """Mean of ``|x|^2`` over all valid entries, real or complex.

    Args:
      x: ``[*lead, *rest]``, real or complex.
      mask: bool ``[*lead]``, True where ``x`` is valid.

    Returns:
      Real scalar, 0 if nothing is valid; its gradient is finite at ``x = 0``.
    """
    return masked_mean(abs_square(keep(x, mask)), mask)


def abs_square(x: base.Array) -> base.Array:
    """``|x|^2`` without the square root that makes the gradient of ``abs`` NaN at 0."""
    x = numbers.as_float(x)
    if jnp.iscomplexobj(x):
        return x.real**2 + x.imag**2
    return x**2
