"""Batches of one size from batches of several, so that one program serves them all."""

from collections.abc import Iterable, Iterator

import numpy as np

from m3jax import base


def to_first_size(
    batches: Iterable[base.Batch],
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Fills up smaller batches with repeats of their last example.

    Args:
      batches: host batches, each array ``[b, ...]``; the first one sets the size B.

    Yields:
      The batch with arrays ``[B, ...]``, and float32 weights ``[B]``: 1 for an example,
      0 for a repeat.

    Raises:
      ValueError: a batch is empty, its arrays differ in length, or it is larger than
        the first one.
    """
    size = None
    for batch in batches:
        batch = {name: np.asarray(array) for name, array in batch.items()}
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
            batch = {name: array[rows] for name, array in batch.items()}
        yield batch, weights


def _num_examples(batch: base.Batch) -> int:
    lengths = {array.shape[:1] for array in batch.values()}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        shapes = {name: array.shape for name, array in batch.items()}
        raise ValueError(
            f"the arrays of a batch need one length above 0; their shapes are {shapes}."
        )
    return lengths.pop()[0]
