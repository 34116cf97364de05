"""From a set on disk, or from fresh scenes, to a resumable stream of batches."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags

from m3jax.data import captions, edgescenes, examples, prepare, scenes

_PREFETCHED = 4  # batches made ahead of the step that takes them


class Source(Protocol):
    """A sequence of examples, read in any order."""

    def __len__(self) -> int:
        """The number of examples."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """The features of one example."""


@dataclasses.dataclass
class DataConfig:
    """What to train or evaluate on.

    Attributes:
      name: the set; "edgescenes".
      config: its variant; "smoke", "laptop" or "video".
      data_dir: where sets live; ``prepare.default_data_dir()`` if None.
      seed: of the order of training examples, 0 to 2**32 - 1.
    """

    name: str = "edgescenes"
    config: str = "laptop"
    data_dir: str | None = None
    seed: int = 0

    def validate(self) -> None:
        """Raises ValueError naming the first field that can't be used."""
        if self.name != "edgescenes":
            raise ValueError(
                f"data.name is {self.name!r}; the only set is 'edgescenes'"
            )
        names = [known.name for known in edgescenes.EdgeScenes.BUILDER_CONFIGS]
        if self.config not in names:
            raise ValueError(f"data.config is {self.config!r}; choose one of {names}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"data.seed is {self.seed}; it must lie in [0, 2**32)")


def load(config: DataConfig, split: str) -> "Cached":
    """Opens a split, making the set first if it isn't on disk.

    Args:
      config: which set.
      split: "train", "validation" or "test".

    Returns:
      A source of the features in ``examples.FEATURES``.

    Raises:
      ValueError, OSError: as ``DataConfig.validate`` and ``prepare.prepare`` do.
    """
    config.validate()
    builder = prepare.prepare(config.config, config.data_dir)
    if split not in builder.info.splits:
        raise ValueError(
            f"no split {split!r}; choose one of {list(builder.info.splits)}"
        )
    return Cached(builder.as_data_source(split))


class Cached:
    """Keeps what it has decoded, as decoding costs more than a small model's step.

    The numeric features of an example take some 25 kB (50 kB with a clip), which makes
    400 MB of the laptop training split once all of it has been read.
    """

    def __init__(self, source: Source):
        names = [name for name in examples.FEATURES if name in source[0]]
        self._source = source
        self._present = np.zeros(len(source), np.bool_)
        self._arrays = {}
        for name in names:
            shape, dtype = examples.FEATURES[name]  # takes memory only as it is filled
            self._arrays[name] = np.empty((len(source), *shape), dtype)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not self._present[index]:
            example = self._source[index]
            for name, array in self._arrays.items():
                array[index] = example[name]
            self._present[index] = True  # last, for another thread may be reading
        return {name: array[index] for name, array in self._arrays.items()}


class FreshScenes:
    """Scenes drawn as they are asked for, so that no training example comes twice.

    Attributes:
      settings: the knobs of difficulty.
      seed: of all that is drawn; that of the stored sets is 0.
      size: how many there are; by default more than any run reads.
      split: whose handwriting is used; "train" shares none with evaluation.
    """

    def __init__(
        self,
        settings: scenes.SceneSettings,
        seed: int,
        size: int = 2**31 - 1,
        split: str = "train",
    ):
        self.settings, self.seed, self.size, self.split = settings, seed, size, split

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not 0 <= index < self.size:
            raise IndexError(f"scene {index} of {self.size}")
        scene = scenes.draw(self.settings, self.seed, self.split, index)
        return examples.encode(scene)


class Staged:
    """Fresh sources one after the other: a curriculum.

    Args:
      stages: (number of examples taken, source) of each stage, in order. The number of
        the last one does not matter: it goes on.
    """

    def __init__(self, stages: Sequence[tuple[int, FreshScenes]]):
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
      features: names of the features to keep; None keeps all of ``examples.FEATURES``
        that the source has.
      num_workers: processes that make the batches, which the iterator's ``close()``
        ends; scripts must then be guarded by ``if __name__ == "__main__"``. With 0 a
        thread of this process makes them, which is best for ``Cached`` sources.

    Returns:
      An iterator over dicts of arrays [batch_size, ...].

    Raises:
      ValueError: a size or count is not positive, or the source has too few examples.

    Example:
      >>> source = FreshScenes(scenes.SceneSettings(), seed=1)
      >>> stream = batches(source, batch_size=2, seed=0, shuffle=False)
      >>> next(stream)["image"].shape
      (2, 64, 64, 3)
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
    """Keeps the named features, or all that a model may read, and casts them.

    Captions, which are derived, can be named too, and "tokens" of cached encoders.
    """

    def __init__(self, names: Sequence[str] | None):
        self._names = names

    def map(self, element: Mapping[str, Any]) -> dict[str, np.ndarray]:
        names = self._names
        if names is None:
            names = [name for name in examples.FEATURES if name in element]
        stored = {n: examples.FEATURES[n][1] for n in names if n in examples.FEATURES}
        out = {n: np.asarray(element[n], dtype) for n, dtype in stored.items()}
        if "tokens" in names:
            out["tokens"] = element["tokens"]
        missing = [name for name in names if name not in out]
        if missing:  # captions are derived where they are not stored
            told = element if missing[0] in element else captions.make(element)
            out |= {name: told[name] for name in missing}
        return out


def as_arrays(
    source: Source, limit: int | None = None, features: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads a small set whole, for evaluation.

    Args:
      source: where examples come from.
      limit: read that many from the start; None reads all.
      features: names of the features to keep; None keeps all of ``examples.FEATURES``
        that the source has.

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
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
