"""From a source of examples to a resumable stream of batches."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import grain
import jax
import numpy as np
from absl import flags

_PREFETCHED = 4  # batches made ahead of the step that takes them


class Source(Protocol):
    """A sequence of examples, read in any order."""

    def __len__(self) -> int:
        """The number of examples."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """The features of one example."""


class Cached:
    """Keeps what it has decoded, as decoding costs more than a small model's step.

    The numeric features of an example of EdgeScenes take some 25 kB (50 kB with a
    clip), which makes 400 MB of the laptop training split once all of it has been read.

    Args:
      source: where examples come from.
      features: name -> shape and dtype of those that are kept.
    """

    def __init__(self, source: Source, features: Mapping[str, jax.ShapeDtypeStruct]):
        self._source = source
        self._present = np.zeros(len(source), np.bool_)
        # Takes memory only as it is filled.
        self._arrays = {
            name: np.empty((len(source), *leaf.shape), leaf.dtype)
            for name, leaf in features.items()
        }

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not self._present[index]:
            example = self._source[index]
            for name, array in self._arrays.items():
                array[index] = example[name]
            self._present[index] = True  # last, for another thread may be reading
        return {name: array[index] for name, array in self._arrays.items()}


class Staged:
    """Sources one after the other: a curriculum.

    Args:
      stages: (number of examples taken, source) of each stage, in order. The number of
        the last one does not matter: it goes on.
    """

    def __init__(self, stages: Sequence[tuple[int, Source]]):
        counts = [count for count, _ in stages[:-1]]
        self._ends = np.cumsum([*counts, 2**62])
        self._sources = [source for _, source in stages]

    def __len__(self) -> int:
        return min(len(source) for source in self._sources)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        stage = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[stage][index]


def batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    shuffle: bool,
    num_epochs: int | None = None,
    features: Sequence[str] | None = None,
    num_workers: int = 0,
) -> grain.DatasetIterator[dict[str, np.ndarray]]:
    """Streams batches in an order that depends on nothing but the arguments.

    The iterator's ``get_state()`` is a small dict of JSON values. An iterator made by
    the same call that is given it by ``set_state`` goes on with the batch that is next.

    Args:
      source: where examples come from.
      batch_size: examples in a batch; those left over at the end are dropped.
      seed: of the shuffling, 0 to 2**32 - 1.
      shuffle: whether each epoch has an order of its own; else by index.
      num_epochs: passes over the source; None goes on forever.
      features: names of the features to keep; None keeps all that the source shows.
      num_workers: processes that make the batches, which the iterator's ``close()``
        ends; scripts must then be guarded by ``if __name__ == "__main__"``. With 0 a
        thread of this process makes them, which is best for ``Cached`` sources.

    Returns:
      An iterator over dicts of arrays [batch_size, ...].

    Raises:
      ValueError: a size or count is not positive, or the source has too few examples.

    Example:
      >>> source = [{"x": np.float32(i)} for i in range(8)]
      >>> stream = batches(source, batch_size=2, seed=0, shuffle=False)
      >>> next(stream)["x"].tolist()
      [0.0, 1.0]
    """
    if not 0 < batch_size <= len(source):
        raise ValueError(
            f"batch_size is {batch_size}; it must lie between 1 and the {len(source)} "
            "examples of the source"
        )
    if num_epochs is not None and num_epochs < 1:
        raise ValueError(f"num_epochs is {num_epochs}; it must be positive, or None")
    stream = grain.MapDataset.source(source).seed(seed)
    if shuffle:
        stream = stream.shuffle()
    stream = stream.repeat(num_epochs).map(_Keep(features))
    stream = stream.batch(batch_size, drop_remainder=True)
    stream = stream.to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=_PREFETCHED)
    )
    if num_workers:
        if not flags.FLAGS.is_parsed():  # a notebook; grain's workers ask for theirs
            flags.FLAGS.mark_as_parsed()
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers, per_worker_buffer_size=_PREFETCHED
            )
        )
    return iter(stream)


class _Keep(grain.transforms.Map):
    """Keeps the named features of an example, or all that it shows."""

    def __init__(self, names: Sequence[str] | None):
        self._names = names

    def map(self, element: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {name: element[name] for name in self._names or element}
        except KeyError as error:
            raise ValueError(
                f"the data have no {error.args[0]!r}, which the system reads; they have"
                f" {sorted(element)}"
            ) from error


def as_arrays(
    source: Source, limit: int | None = None, features: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads a small set whole, for evaluation.

    Args:
      source: where examples come from.
      limit: read that many from the start; None reads all.
      features: names of the features to keep; None keeps all that the source shows.

    Returns:
      Name -> array [n, ...] in the order of the index.

    Raises:
      ValueError: there is nothing to read.
    """
    keep = _Keep(features)
    size = len(source) if limit is None else min(limit, len(source))
    if size < 1:
        raise ValueError(f"limit is {limit} of {len(source)} examples; nothing to read")
    rows = [keep.map(source[index]) for index in range(size)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def split_batches(arrays: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """Cuts arrays [n, ...], nested or not, into batches; the last may be shorter."""
    count = len(jax.tree.leaves(arrays)[0])
    return [
        jax.tree.map(lambda array, at=at: np.asarray(array[at : at + size]), arrays)
        for at in range(0, count, size)
    ]
