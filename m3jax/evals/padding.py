"""Batches of one size from batches of several, so that one program serves them all."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from m3jax import base


def to_first_size(
    batches: Iterable[base.Batch],
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Fills up smaller batches with repeats of their last example.

    Args:
      batches: host batches, pytrees of arrays ``[b, ...]``; the first sets the size B.

    Yields:
      The batch with arrays ``[B, ...]``, and float32 weights ``[B]``: 1 for an example,
      0 for a repeat.

    Raises:
      ValueError: a batch is empty, its arrays differ in length, or it is larger than
        the first one.
    """
    size = None
    for batch in batches:
        batch = jax.tree.map(np.asarray, dict(batch), is_leaf=_is_array)
        num = _num_examples(batch)
        size = num if size is None else size
        if num > size:
            raise ValueError(
                f"a batch has {num} examples and the first one has {size}; "
                "the first must be the largest."
            )
        weights = (np.arange(size) < num).astype(np.float32)
        if num < size:
            rows = np.minimum(np.arange(size), num - 1)
            batch = jax.tree.map(lambda array, rows=rows: array[rows], batch)
        yield batch, weights


def _is_array(part: Any) -> bool:
    return not isinstance(part, Mapping)  # lists of numbers are arrays too


def _num_examples(batch: base.Batch) -> int:
    lengths = {array.shape[:1] for array in jax.tree.leaves(batch)}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        shapes = jax.tree.map(lambda array: array.shape, batch)
        raise ValueError(
            f"the arrays of a batch need one length above 0; their shapes are {shapes}."
        )
    return lengths.pop()[0]
