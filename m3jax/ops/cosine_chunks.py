"""Cosines of queries with many items, a chunk after the other, and the best of them."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import contrastive

CHUNK = 4096
"""Items that are scored at once, at most."""
NAN_RANK = -2.0
"""What NaN counts as: below every cosine, and above what is masked."""
# The best of so many neighbours is found first, by a maximum, which unlike sorting is
# vectorised: the k best items lie in the k best groups.
_GROUP = 32


def fold(
    step: Callable[..., Any],
    carry: Any,
    queries: base.Array,
    items: base.Array,
    mask: base.Array | None,
    unit_items: bool,
) -> Any:
    """Ranks one chunk of items after the other.

    A rank is a cosine, or ``NAN_RANK``, or ``-inf`` where an item is masked. The last
    chunk may reach back into the one before: to pad the items would copy them.

    Args:
      step: ``(carry, ranks [C, Q], start, num_seen) -> carry``; ``start`` is the index
        of the first item, and the first ``num_seen`` were in the chunk before.
      carry: to start with.
      queries: ``[Q, D]``.
      items: ``[M, D]``.
      mask: bool ``[M]`` or ``[Q, M]``; None, or one without any item: all.
      unit_items: whether items are of length 1 or 0.

    Returns:
      The last carry. No gradient flows into it.
    """
    queries, items = lax.stop_gradient((jnp.asarray(queries), jnp.asarray(items)))
    queries, num_items = contrastive.unit(queries), len(items)
    if mask is not None:
        mask = jnp.asarray(mask, bool)
        mask = mask | ~mask.any(axis=-1, keepdims=True)
    num_chunks = -(-num_items // CHUNK)
    size = -(-num_items // num_chunks)

    def visit(carry, planned):
        start = jnp.minimum(planned, num_items - size)
        chunk = lax.dynamic_slice_in_dim(items, start, size)
        allowed = mask
        if mask is not None:
            allowed = lax.dynamic_slice_in_dim(mask, start, size, axis=-1)
        ranks = _rank(queries, chunk, allowed, unit_items)
        return step(carry, ranks, start, planned - start), None

    return lax.scan(visit, carry, size * jnp.arange(num_chunks, dtype=jnp.int32))[0]


def best_rows(ranks: base.Array, k: int) -> tuple[base.Array, base.Array]:
    """The k best entries of each column, best first, the lowest row where equal.

    Args:
      ranks: ``[C, Q]``, without NaN and -0.
      k: at most C, static.

    Returns:
      Ranks and their int32 rows, ``[Q, k]`` each. Rows of ``-inf`` mean nothing.
    """
    num_groups = -(-len(ranks) // _GROUP)
    if num_groups <= 2 * k:
        return lax.top_k(ranks.T, k)
    padding = ((0, num_groups * _GROUP - len(ranks)), (0, 0))
    padded = jnp.pad(ranks, padding, constant_values=-jnp.inf)
    groups = padded.reshape(num_groups, _GROUP, -1)
    _, chosen = lax.top_k(groups.max(axis=1).T, k)
    # In their order, so that the lowest row wins where ranks are equal.
    chosen = jnp.sort(chosen, axis=-1)
    columns = jnp.arange(ranks.shape[1])[:, None]
    candidates = groups[chosen, :, columns].reshape(len(chosen), -1)
    best, at = lax.top_k(candidates, k)
    groups_of = jnp.take_along_axis(chosen, at // _GROUP, axis=1)
    return best, groups_of * _GROUP + at % _GROUP


def _rank(
    queries: base.Array, chunk: base.Array, mask: base.Array | None, unit_items: bool
) -> base.Array:
    chunk = chunk.astype(queries.dtype) if unit_items else contrastive.unit(chunk)
    # Queries last: what follows is then vectorised over them.
    cosines = jnp.matmul(chunk, queries.T, precision=lax.Precision.HIGHEST)
    ranks = jnp.where(jnp.isnan(cosines), NAN_RANK, cosines)
    # Sorting tells -0 from 0, which are one cosine.
    ranks = jnp.where(ranks == 0.0, 0.0, ranks)
    if mask is None:
        return ranks
    return jnp.where(mask.T if mask.ndim == 2 else mask[:, None], ranks, -jnp.inf)
