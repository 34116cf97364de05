"""The answers of `retrieval` by FAISS, on the host; needs the extra ``retrieval``.

For pools that are searched from other programs too, or that have an index already.
Everything is exact, NumPy in and out. FAISS leaves open which of several equal items it
returns; here it is the one of lowest index, as in `retrieval`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from m3jax.ops import contrastive, retrieval


def make_index(items: np.ndarray) -> Any:
    """Makes a flat index of the directions of items ``[M, D]``, for `search`.

    Raises:
      RuntimeError: FAISS is not installed.
    """
    items = _directions(items)
    index = _faiss().IndexFlatIP(items.shape[1])
    index.add(items)
    return index


def search(index: Any, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k items of an index most like each query, the lowest index where equal.

    Args:
      index: as `make_index` makes it.
      queries: ``[Q, D]``.
      k: how many, 1 to as many as the index holds.

    Returns:
      Cosines float32 ``[Q, k]``, best first, and indices int32 ``[Q, k]``.
    """
    queries, num_items = _directions(queries), index.ntotal
    fetched = min(2 * k, num_items)
    scores, indices = index.search(queries, fetched)
    # While the last one fetched is as good as the k-th, there may be equals beyond it.
    while fetched < num_items and np.any(scores[:, -1] == scores[:, k - 1]):
        fetched = min(2 * fetched, num_items)
        scores, indices = index.search(queries, fetched)
    order = np.lexsort((indices, -scores), axis=-1)[:, :k]
    scores, indices = (np.take_along_axis(x, order, 1) for x in (scores, indices))
    return scores, indices.astype(np.int32)


def top_k(
    queries: np.ndarray, items: np.ndarray, k: int, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k items most like each query; see `retrieval.top_k`.

    Args:
      queries: ``[Q, D]``, of any length.
      items: ``[M, D]``, of any length.
      k: how many, 1 to M.
      mask: bool ``[M]`` or ``[Q, M]``: the items that may be found; None: all.

    Returns:
      Cosines float32 ``[Q, k]``, best first, and indices int32 ``[Q, k]``. Where a mask
      leaves fewer than k, the rest are ``-inf`` and ``-1``.

    Raises:
      ValueError: as `retrieval.top_k`.
      RuntimeError: FAISS is not installed.
    """
    retrieval.check(queries, items, mask)
    retrieval.check_k(k, len(items))
    scores = np.full((len(queries), k), -np.inf, np.float32)
    indices = np.full((len(queries), k), -1, np.int32)

    def fill(rows, allowed):
        num = min(k, len(allowed))
        index = make_index(np.asarray(items)[allowed])
        scores[rows, :num], at = search(index, np.asarray(queries)[rows], num)
        indices[rows, :num] = allowed[at]

    _for_each_mask(fill, len(queries), len(items), mask)
    return scores, indices


def above(
    queries: np.ndarray,
    items: np.ndarray,
    threshold: float,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """The items that reach a threshold, or the best one; see `retrieval.above`.

    Args:
      queries: ``[Q, D]``, of any length.
      items: ``[M, D]``, of any length.
      threshold: least cosine, in [-1, 1].
      mask: bool ``[M]`` or ``[Q, M]``: the items that may be found; None: all.

    Returns:
      bool ``[Q, M]``, at least one True for each query.

    Raises:
      ValueError: as `retrieval.above`.
      RuntimeError: FAISS is not installed.
    """
    retrieval.check(queries, items, mask)
    retrieval.check_threshold(threshold)
    found = np.zeros((len(queries), len(items)), bool)
    # FAISS wants more than its radius, and the threshold itself is enough.
    radius = float(np.nextafter(np.float32(threshold), np.float32(-2.0)))

    def fill(rows, allowed):
        index = make_index(np.asarray(items)[allowed])
        asked = np.asarray(queries)[rows]
        ends, _, at = index.range_search(_directions(asked), radius)
        counts = np.diff(ends.astype(np.int64))
        found[np.repeat(rows, counts), allowed[at]] = True
        _, best = search(index, asked, 1)
        lacking = counts == 0
        found[rows[lacking], allowed[best[lacking, 0]]] = True

    _for_each_mask(fill, len(queries), len(items), mask)
    return found


def top_k_mask(
    queries: np.ndarray, items: np.ndarray, k: int, mask: np.ndarray | None = None
) -> np.ndarray:
    """Marks the k items most like each query, bool ``[Q, M]``; see `top_k`."""
    _, indices = top_k(queries, items, k, mask)
    found = np.zeros((len(queries), len(items)), bool)
    rows, columns = np.nonzero(indices >= 0)
    found[rows, indices[rows, columns]] = True
    return found


def _for_each_mask(
    fill: Callable[[np.ndarray, np.ndarray], None],
    num_queries: int,
    num_items: int,
    mask: np.ndarray | None,
) -> None:
    """Calls ``fill(rows, allowed)`` for the queries that share a mask, as indices."""
    if mask is None:
        mask = np.ones(num_items, bool)
    masks, of_query = np.unique(
        np.atleast_2d(np.asarray(mask, bool)), axis=0, return_inverse=True
    )
    of_query = np.broadcast_to(of_query.reshape(-1), num_queries)
    for i, one in enumerate(masks):
        fill(np.flatnonzero(of_query == i), np.flatnonzero(one))


def _directions(x: np.ndarray) -> np.ndarray:
    """Unit vectors, as `retrieval` compares them."""
    return np.ascontiguousarray(contrastive.unit(jnp.asarray(x)), np.float32)


@functools.cache
def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise RuntimeError(
            "retrieval by FAISS needs faiss-cpu: pip install 'm3jax[retrieval]'"
        ) from error
    return faiss
