"""EdgeText as a data set that an experiment names: stored splits, or fresh items."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import grain
import jax
import numpy as np

from m3jax.data import pipeline, prepare
from m3jax.data.edgetext import builder, examples
from m3jax.data.edgetext import domains as domains_lib

_FRESH_SEED = 1  # that of the stored sets is 0
_PARTS = ("all", "common")
_TRAINING_SPLITS = ("train", "experts")


@dataclasses.dataclass
class Config:
    """What to train or evaluate on.

    What narrows training (``part``, ``domains``) never narrows what is measured.

    Attributes:
      config: the variant; "smoke" or "laptop".
      data_dir: where sets live; ``prepare.default_data_dir()`` if None.
      seed: of the order of training examples, or of fresh ones, 0 to 2**32 - 1.
      fresh: train on examples drawn as they are needed, of the prompts of "experts", in
        place of a stored split.
      part: "all", or "common" to leave the special examples out of training.
      domains: names of those to train on; () for all nine.
      training_split: the stored split to train on: "train", or "experts" for what is
        pretrained or tuned.
    """

    config: str = "laptop"
    data_dir: str | None = None
    seed: int = 0
    fresh: bool = False
    part: str = "all"
    domains: tuple[str, ...] = ()
    training_split: str = "train"

    groups: ClassVar[tuple[str, ...]] = domains_lib.DOMAINS
    group_key: ClassVar[str] = "domain"

    @property
    def version(self) -> str:
        """Name, version and variant, and what training is narrowed to."""
        told = [f"edge_text {builder.EdgeText.VERSION} {self.config}"]
        if self.training_split != "train":
            told.append(f"{self.training_split} split")
        if self.part != "all":
            told.append(f"{self.part} part")
        if self.domains:
            told.append(" ".join(self.domains))
        return ", ".join(told)

    @property
    def features(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Name -> shape and dtype of what an example may be asked for."""
        return {
            name: jax.ShapeDtypeStruct(shape, np.dtype(dtype))
            for name, (shape, dtype) in examples.FEATURES.items()
        }

    def validate(self) -> None:
        """Raises ValueError naming the first field that can't be used."""
        for field, known in (
            ("config", [known.name for known in builder.EdgeText.BUILDER_CONFIGS]),
            ("part", _PARTS),
            ("training_split", _TRAINING_SPLITS),
        ):
            value = getattr(self, field)
            if value not in known:
                raise ValueError(
                    f"data.{field} is {value!r}; choose one of {list(known)}"
                )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"data.seed is {self.seed}; it must lie in [0, 2**32)")
        unknown = [name for name in self.domains if name not in self.groups]
        if unknown:
            raise ValueError(
                f"data.domains has {unknown[0]!r}; choose some of {list(self.groups)}"
            )
        if len(set(self.domains)) < len(self.domains):
            raise ValueError(f"data.domains is {self.domains}; name each domain once")

    def source(self, split: str) -> pipeline.Source:
        """Opens a stored split, making the set first if it isn't on disk.

        Args:
          split: "experts", "train", "validation" or "test". "train" is what training
            reads: ``training_split``, narrowed to ``domains`` and ``part``.

        Returns:
          A source of ``features``.

        Raises:
          ValueError, OSError: as `validate` and ``prepare.prepare`` do.
        """
        self.validate()
        return self._narrowed() if split == "train" else self._split(split)

    def _split(self, split: str) -> pipeline.Source:
        place = prepare.root(self.data_dir)
        made = prepare.prepare(self.config, place, builder.EdgeText)
        return pipeline.Cached(prepare.Records(made, split), self.features)

    def batches(
        self, features: Sequence[str], batch_size: int, seed: int
    ) -> grain.DatasetIterator:
        """Training batches without end; see ``pipeline.batches``.

        Args:
          features: names of those that a batch holds.
          batch_size: examples of a batch.
          seed: of the run, beside the set's own.
        """
        self.validate()
        seed = (self.seed + seed) % 2**32
        return pipeline.batches(
            self._fresh(seed) if self.fresh else self._narrowed(),
            batch_size=batch_size,
            seed=seed,
            shuffle=not self.fresh,
            features=features,
        )

    def _fresh(self, seed: int) -> pipeline.Source:
        settings = domains_lib.Settings(domains=tuple(self.domains) or self.groups)
        if self.part == "common":
            settings = dataclasses.replace(settings, special=0.0)
        return Fresh(settings, _FRESH_SEED + seed)

    def _narrowed(self) -> pipeline.Source:
        source = self._split(self.training_split)
        if self.part == "all" and not self.domains:
            return source
        wanted = {self.groups.index(name) for name in self.domains or self.groups}
        indices = [
            index
            for index in range(len(source))
            if int(source[index]["domain"]) in wanted
            and not (self.part == "common" and source[index]["special"])
        ]
        return Chosen(source, indices)


class Fresh:
    """Examples drawn as they are asked for.

    A prompt may come again by chance, as prompts are many but not without end.

    Attributes:
      settings: what is asked.
      seed: of all that is drawn; that of the stored sets is 0.
      size: how many there are; by default more than any run reads.
      split: whose prompts are asked.
    """

    def __init__(
        self,
        settings: domains_lib.Settings,
        seed: int,
        size: int = 2**31 - 1,
        split: str = "experts",
    ):
        self.settings, self.seed, self.size, self.split = settings, seed, size, split

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if not 0 <= index < self.size:
            raise IndexError(f"example {index} of {self.size}")
        drawn = domains_lib.draw(self.settings, self.seed, self.split, index)
        return examples.encode(drawn)


class Chosen:
    """Some examples of a source.

    Args:
      source: where examples come from.
      indices: of those that are shown, in order.
    """

    def __init__(self, source: pipeline.Source, indices: Sequence[int]):
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._source[self._indices[index]]
