"""A data set: numbers drawn from a normal distribution."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from m3jax.data import pipeline


class _Numbers:
    """A source: anything with a length and examples by index."""

    def __init__(self, width: int, seed: int):
        self._width, self._seed = width, seed

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self._seed, index))
        return {"numbers": rng.normal(size=self._width).astype(np.float32)}


@dataclasses.dataclass
class Numbers:
    """A data set of your own: what ``experiments.contract.DataConfig`` asks for."""

    width: int = 8
    data_dir: str | None = None

    groups: ClassVar[tuple[str, ...]] = ()
    group_key: ClassVar[str] = ""
    version: ClassVar[str] = "numbers 1"

    @property
    def features(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of an example."""
        return {"numbers": jax.ShapeDtypeStruct((self.width,), np.float32)}

    def validate(self) -> None:
        """Nothing can be wrong."""

    def source(self, split: str) -> _Numbers:
        """Every split is drawn from a seed of its own."""
        seeds = {"train": 0, "validation": 1, "test": 2}
        return _Numbers(self.width, seeds[split])

    def batches(self, features, batch_size: int, seed: int):
        """Shuffled training batches, resumable."""
        return pipeline.batches(
            self.source("train"),
            batch_size=batch_size,
            seed=seed,
            shuffle=True,
            features=features,
        )
