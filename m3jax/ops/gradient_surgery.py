"""Whether the gradients of several objectives pull together, and what to do if not."""

import jax
import jax.numpy as jnp

from m3jax import base

_TINY = 1e-12


def cosines(gradients: base.Params) -> base.Array:
    """Cosines of the angles between gradients.

    Args:
      gradients: pytree of arrays ``[S, ...]``, a row for each objective.

    Returns:
      float32 ``[S, S]``; 0 where a gradient is zero, also with itself.

    Example:
      >>> cosines({"w": jnp.array([[1.0, 0.0], [-1.0, 1.0]])}).round(2)[0]
      Array([ 1.  , -0.71], dtype=float32)
    """
    products = _products(gradients)
    norms = jnp.sqrt(jnp.diagonal(products))
    return products / jnp.maximum(norms[:, None] * norms, _TINY)


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
    products = _products(gradients)
    num = products.shape[0]
    # Row i holds how much of every original gradient is left in g_i.
    mixes = []
    for i in range(num):
        mix = jnp.eye(num)[i]
        for j in range(num):
            if j != i:
                along = mix @ products[:, j]
                taken = jnp.minimum(along, 0.0) / jnp.maximum(products[j, j], _TINY)
                mix = mix.at[j].add(-taken)
        mixes.append(mix)
    mixed = jnp.stack(mixes)
    return jax.tree.map(lambda g: jnp.tensordot(mixed, g, axes=1), gradients)


def _products(gradients: base.Params) -> base.Array:
    """Inner products ``[S, S]``."""
    rows = [g.reshape(g.shape[0], -1) for g in jax.tree.leaves(gradients)]
    return sum(row @ row.T for row in rows)
