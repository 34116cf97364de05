"""Exact retrieval by cosine similarity: which items are most like each query.

Stage 1 of M3LLM picks experts so, by their descriptors (section III-A); which of the
two rules it means is open, so both are here: the k best, or all above a threshold.

Items are taken a chunk after the other, which stays in the cache, and only the best of
each are kept; so a million items need no more memory than they take themselves. Items
that score the same are ranked by their index. A vector shorter than 1e-6 counts as
shorter than a unit vector, and a zero one has cosine 0 with everything.

Outside of a compiled program NaN and empty masks are errors. Inside, where values are
not known, an item or a query with NaN ranks below every other, and a mask without any
item counts as one of all: there is an answer always. Answers have no gradient.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.ops import cosine_chunks


def top_k(
    queries: base.Array,
    items: base.Array,
    k: int,
    mask: base.Array | None = None,
    *,
    unit_items: bool = False,
) -> tuple[base.Array, base.Array]:
    """The k items most like each query.

    Args:
      queries: ``[Q, D]``, of any length.
      items: ``[M, D]``, of any length.
      k: how many, 1 to M, static.
      mask: bool ``[M]``, or ``[Q, M]`` with one for each query: the items that may be
        found, such as live experts; None: all.
      unit_items: whether items are known to be of length 1 or 0, which saves time;
        static.

    Returns:
      Cosines float32 ``[Q, k]``, best first, and indices int32 ``[Q, k]``. Where a mask
      leaves fewer than k, the rest are ``-inf`` and ``-1``.

    Raises:
      ValueError: shapes disagree, ``k`` is out of range, there is NaN or infinity, or a
        mask is empty.

    Example:
      >>> items = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
      >>> scores, indices = top_k(jnp.array([[5.0, 0.0]]), items, k=2)
      >>> scores.round(3).tolist(), indices.tolist()
      ([[1.0, 0.7070000171661377]], [[0, 2]])
    """
    check(queries, items, mask)
    check_k(k, len(items))
    return _top_k(queries, items, mask, k, unit_items)


def above(
    queries: base.Array,
    items: base.Array,
    threshold: base.Array | float,
    mask: base.Array | None = None,
    *,
    unit_items: bool = False,
) -> base.Array:
    """The items whose cosine reaches a threshold, or the best one if none does.

    Args:
      queries: ``[Q, D]``, of any length.
      items: ``[M, D]``, of any length.
      threshold: least cosine, scalar in [-1, 1]; equal vectors reach 1 up to rounding.
      mask: as for `top_k`.
      unit_items: as for `top_k`.

    Returns:
      bool ``[Q, M]``, at least one True for each query.

    Raises:
      ValueError: shapes disagree, the threshold is out of range, there is NaN or
        infinity, or a mask is empty.

    Example:
      >>> items = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
      >>> above(jnp.array([[5.0, 0.0], [-1.0, -1.0]]), items, 0.5).tolist()
      [[True, False, True], [True, False, False]]
    """
    check(queries, items, mask)
    check_threshold(threshold)
    return _above(queries, items, mask, threshold, unit_items)


def top_k_mask(
    queries: base.Array,
    items: base.Array,
    k: int,
    mask: base.Array | None = None,
    *,
    unit_items: bool = False,
) -> base.Array:
    """Marks the k items most like each query: `top_k` in the form of `above`.

    Returns:
      bool ``[Q, M]``: k True for each query, or as many as its mask has.

    Example:
      >>> top_k_mask(jnp.ones((1, 2)), jnp.eye(2), k=1).tolist()
      [[True, False]]
    """
    _, indices = top_k(queries, items, k, mask, unit_items=unit_items)
    rows = jnp.arange(len(queries))[:, None]
    # Past the end, where writing has no effect.
    indices = jnp.where(indices < 0, len(items), indices)
    found = jnp.zeros((len(queries), len(items)), bool)
    return found.at[rows, indices].set(True, mode="drop")


def check(queries: base.Array, items: base.Array, mask: base.Array | None) -> None:
    """Raises ValueError naming what is wrong with the arguments of a retrieval."""
    shapes = [tuple(jnp.shape(x)) for x in (queries, items)]
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1:] != shapes[1][1:]:
        raise ValueError(
            "queries must be [Q, D] and items [M, D], got"
            f" {list(shapes[0])} and {list(shapes[1])}."
        )
    if 0 in (*shapes[0], *shapes[1]):
        raise ValueError(
            "queries and items must not be empty, nor of no numbers; got shapes"
            f" {list(shapes[0])} and {list(shapes[1])}."
        )
    for name, x in (("queries", queries), ("items", items)):
        if _known(x) and not _is_finite(x):
            raise ValueError(f"{name} hold NaN or infinity; mend or drop them first.")
    if mask is not None:
        _check_mask(mask, shapes[0][0], shapes[1][0])


def check_k(k: int, num_items: int) -> None:
    """Raises ValueError if there are not k items to find."""
    if not 1 <= k <= num_items:
        raise ValueError(f"k must lie between 1 and {num_items} items, got {k}.")


def check_threshold(threshold: base.Array | float) -> None:
    """Raises ValueError if a threshold, where known, is no cosine."""
    if _known(threshold) and not -1.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must be a cosine in [-1, 1], got {threshold}.")


def _check_mask(mask: base.Array, num_queries: int, num_items: int) -> None:
    shape = tuple(jnp.shape(mask))
    if shape not in ((num_items,), (num_queries, num_items)):
        raise ValueError(
            f"a mask must be [{num_items}] or [{num_queries}, {num_items}], got"
            f" {list(shape)}."
        )
    if _known(mask):
        empty = ~np.atleast_2d(np.asarray(mask, bool)).any(axis=-1)
        if empty.any():
            raise ValueError(
                f"{int(empty.sum())} of {len(empty)} masks are empty; every query needs"
                " an item that may be found"
            )


def _known(x: Any) -> bool:
    return not isinstance(x, jax.core.Tracer)


def _is_finite(x: base.Array) -> bool:
    # At once, even where a program is being traced.
    with jax.ensure_compile_time_eval():
        return bool(_all_finite(x))


@jax.jit
def _all_finite(x: base.Array) -> base.Array:
    return jnp.isfinite(x).all()


@functools.partial(jax.jit, static_argnames=("k", "unit_items"))
def _top_k(queries, items, mask, k, unit_items):
    def merge(best, ranks, start, num_seen):
        seen = jnp.arange(len(ranks))[:, None] < num_seen
        ranks, rows = cosine_chunks.best_rows(
            jnp.where(seen, -jnp.inf, ranks), min(k, len(ranks))
        )
        # What came before comes first, so that it wins where ranks are equal.
        ranks = jnp.concatenate([best[0], ranks], axis=1)
        indices = jnp.concatenate([best[1], start + rows], axis=1)
        ranks, at = lax.top_k(ranks, k)
        return ranks, jnp.take_along_axis(indices, at, axis=1)

    shape = len(queries), k
    nothing = jnp.full(shape, -jnp.inf), jnp.full(shape, -1, jnp.int32)
    ranks, indices = cosine_chunks.fold(
        merge, nothing, queries, items, mask, unit_items
    )
    scores = jnp.where(ranks == cosine_chunks.NAN_RANK, jnp.nan, ranks)
    return scores, jnp.where(ranks == -jnp.inf, -1, indices)


@functools.partial(jax.jit, static_argnames="unit_items")
def _above(queries, items, mask, threshold, unit_items):
    def mark(carry, ranks, start, num_seen):
        del num_seen  # Marking twice does no harm.
        found, best, best_at = carry
        reached = (ranks >= threshold).T
        found = lax.dynamic_update_slice_in_dim(found, reached, start, axis=1)
        top, at = jnp.max(ranks, axis=0), jnp.argmax(ranks, axis=0)
        best_at = jnp.where(top > best, start + at.astype(jnp.int32), best_at)
        return found, jnp.maximum(top, best), best_at

    num_queries, num_items = len(queries), len(items)
    nothing = (
        jnp.zeros((num_queries, num_items), bool),
        jnp.full(num_queries, -jnp.inf),
        jnp.zeros(num_queries, jnp.int32),
    )
    found, _, best_at = cosine_chunks.fold(
        mark, nothing, queries, items, mask, unit_items
    )
    is_best = jnp.arange(num_items) == best_at[:, None]
    return jnp.where(found.any(axis=1, keepdims=True), found, is_best)
