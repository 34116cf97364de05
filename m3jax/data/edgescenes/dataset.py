"""EdgeScenes as a data set that an experiment names: stored splits, or fresh scenes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import grain
import jax
import numpy as np

from m3jax.data import pipeline, prepare
from m3jax.data.edgescenes import builder, captions, examples, scenes

_FRESH_SEED = 1  # that of the stored sets is 0


@dataclasses.dataclass
class Config:
    """What to train or evaluate on.

    Attributes:
      config: the variant; "smoke", "laptop" or "video".
      data_dir: where sets live; ``prepare.default_data_dir()`` if None.
      seed: of the order of training examples, 0 to 2**32 - 1.
      fresh: train on scenes drawn as they are needed, never twice the same, in place of
        the stored training split.
      curriculum: of fresh scenes: (steps, skills asked about) of each stage, a skill as
        often as it is named; the last stage lasts to the end. () asks about all alike.
    """

    config: str = "laptop"
    data_dir: str | None = None
    seed: int = 0
    fresh: bool = False
    curriculum: tuple[tuple[int, tuple[str, ...]], ...] = ()

    groups: ClassVar[tuple[str, ...]] = scenes.SKILLS
    group_key: ClassVar[str] = "skill"

    @property
    def version(self) -> str:
        """Name, version and variant."""
        return f"edge_scenes {builder.EdgeScenes.VERSION} {self.config}"

    @property
    def features(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Name -> shape and dtype of what an example may be asked for."""
        shapes = {
            name: jax.ShapeDtypeStruct(shape, np.dtype(dtype))
            for name, (shape, dtype) in examples.FEATURES.items()
            if name != "video" or self._has_clips
        }
        told = {
            name: jax.ShapeDtypeStruct((length,), np.int32)
            for name, length in captions.FEATURES.items()
        }
        return shapes | told

    @property
    def _has_clips(self) -> bool:
        made = {known.name: known for known in builder.EdgeScenes.BUILDER_CONFIGS}
        return self.config in made and made[self.config].settings.video

    def validate(self) -> None:
        """Raises ValueError naming the first field that can't be used."""
        names = [known.name for known in builder.EdgeScenes.BUILDER_CONFIGS]
        if self.config not in names:
            raise ValueError(f"data.config is {self.config!r}; choose one of {names}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"data.seed is {self.seed}; it must lie in [0, 2**32)")
        for steps, skills in self.curriculum:
            scenes.SceneSettings(skills=tuple(skills))
            if steps < 0:
                raise ValueError(f"data.curriculum has a stage of {steps} steps")
        if self.curriculum and not self.fresh:
            raise ValueError("data.curriculum needs fresh scenes: set data.fresh=True")

    def source(self, split: str) -> pipeline.Source:
        """Opens a stored split, making the set first if it isn't on disk.

        Args:
          split: "train", "validation" or "test".

        Returns:
          A source of ``features``.

        Raises:
          ValueError, OSError: as `validate` and ``prepare.prepare`` do.
        """
        self.validate()
        made = prepare.prepare(self.config, prepare.root(self.data_dir))
        return Told(pipeline.Cached(prepare.Records(made, split), self._stored))

    @property
    def _stored(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {n: leaf for n, leaf in self.features.items() if n in examples.FEATURES}

    def batches(
        self, features: Sequence[str], batch_size: int, seed: int
    ) -> grain.DatasetIterator:
        """Training batches without end; see ``pipeline.batches``.

        Args:
          features: names of those that a batch holds.
          batch_size: examples of a batch.
          seed: of the run, beside the set's own.
        """
        if not self.fresh:
            order = (self.seed + seed) % 2**32
            return pipeline.batches(
                self.source("train"),
                batch_size=batch_size,
                seed=order,
                shuffle=True,
                features=features,
            )
        stages = self.curriculum or ((0, scenes.SceneSettings().skills),)
        staged = pipeline.Staged(
            [
                (
                    steps * batch_size,
                    Fresh(
                        scenes.SceneSettings(skills=tuple(skills)), _FRESH_SEED + seed
                    ),
                )
                for steps, skills in stages
            ]
        )
        return pipeline.batches(
            staged,
            batch_size=batch_size,
            seed=0,
            shuffle=False,
            features=features,
            num_workers=1,
        )


class Fresh:
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

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if not 0 <= index < self.size:
            raise IndexError(f"scene {index} of {self.size}")
        made = examples.encode(scenes.draw(self.settings, self.seed, self.split, index))
        return _Example(
            {n: np.asarray(x, examples.FEATURES[n][1]) for n, x in made.items()}
        )


class Told:
    """A source whose examples have captions too.

    Args:
      source: of the features that captions tell about.
    """

    def __init__(self, source: pipeline.Source):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return _Example(self._source[index])


class _Example(dict):
    """Features of an example; captions are derived when they are asked for."""

    def __missing__(self, name: str) -> np.ndarray:
        if name not in captions.FEATURES:
            raise KeyError(name)
        self.update(captions.make(self))
        return self[name]
