"""Whether the gradients of several objectives pull together, and what to do if not."""

import functools

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import numbers


def cosines(gradients: base.Params) -> base.Array:
    """Cosines of the angles between gradients.

    Args:
      gradients: pytree of arrays ``[S, ...]``, a row for each objective.

    Returns:
      float32 ``[S, S]``, the same at every scale of a gradient; 0 where one is zero,
      also with itself.

    Example:
      >>> cosines({"w": jnp.array([[1.0, 0.0], [-1.0, 1.0]])}).round(2)[0]
      Array([ 1.  , -0.71], dtype=float32)
    """
    products = _products(_scaled(gradients)[0])
    norms = jnp.sqrt(_nonzero(jnp.diagonal(products)))
    return products / (norms[:, None] * norms)


def project_conflicting(gradients: base.Params) -> base.Params:
    """Takes out of every gradient what works against another one (PCGrad).

    For each objective i, over the others j in turn: where ``g_i . g_j < 0``,

        g_i <- g_i - (g_i . g_j) / |g_j|^2  g_j

    with g_j as it was (Yu et al. 2020, algorithm 1; there in random order, which
    matters from three objectives on).

    Args:
      gradients: pytree of arrays ``[S, ...]``, a row for each objective.

    Returns:
      The same, projected; their sum over S is what to descend.

    Example:
      >>> project_conflicting(jnp.array([[1.0, 0.0], [-1.0, 1.0]]))
      Array([[0.5, 0.5],
             [0. , 1. ]], dtype=float32)
    """
    gradients, scales = _scaled(gradients)
    products = _products(gradients)
    num = products.shape[0]
    # Row i holds how much of every original gradient is left in g_i.
    mixes = []
    for i in range(num):
        mix = jnp.eye(num)[i]
        for j in range(num):
            if j != i:
                along = mix @ products[:, j]
                taken = jnp.minimum(along, 0.0) / _nonzero(products[j, j])
                mix = mix.at[j].add(-taken)
        mixes.append(mix)
    mixed = jnp.stack(mixes)
    projected = jax.tree.map(lambda g: jnp.tensordot(mixed, g, axes=1), gradients)
    return _rows_by(projected, 1.0 / scales)


def _scaled(gradients: base.Params) -> tuple[base.Params, base.Array]:
    """Gradients of sizes about 1, and the powers of two ``[S]`` that made them so."""
    for leaf in jax.tree.leaves(gradients):
        numbers.require_some(leaf, "gradients")
    gradients = jax.tree.map(numbers.as_float, gradients)
    peaks = [
        numbers.peak(g.reshape(g.shape[0], -1), axis=1)
        for g in jax.tree.leaves(gradients)
    ]
    scales = numbers.unit_scale(functools.reduce(jnp.maximum, peaks))
    return _rows_by(gradients, scales), scales


def _rows_by(gradients: base.Params, factors: base.Array) -> base.Params:
    """Multiplies the gradient of each objective by a factor of its own."""
    return jax.tree.map(
        lambda g: g * factors.astype(g.dtype).reshape(-1, *(1,) * (g.ndim - 1)),
        gradients,
    )


def _nonzero(square: base.Array) -> base.Array:
    """1 in place of 0; NaN stays."""
    return jnp.where(square == 0.0, 1.0, square)


def _products(gradients: base.Params) -> base.Array:
    """Inner products ``[S, S]``."""
    rows = [g.reshape(g.shape[0], -1) for g in jax.tree.leaves(gradients)]
    return sum(row @ row.T for row in rows)
