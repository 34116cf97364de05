"""What may be chosen: intervals, and levels between two ends, as a unit cube."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from m3jax import base


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One variable.

    Attributes:
      name: of it.
      low: its least value.
      high: its greatest.
      levels: how many even steps there are, both ends counted; 0: any value between.

    Raises:
      ValueError: names the field that makes no sense.

    Example:
      >>> Dimension("draft_length", 1, 5, levels=5).values().tolist()
      [1.0, 2.0, 3.0, 4.0, 5.0]
    """

    name: str
    low: float
    high: float
    levels: int = 0

    def __post_init__(self):
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"dimension {self.name!r} needs finite low and high")
        if not self.low < self.high:
            raise ValueError(
                f"dimension {self.name!r} has low={self.low:g} and high={self.high:g};"
                " give low below high"
            )
        if self.levels != 0 and self.levels < 2:
            raise ValueError(
                f"dimension {self.name!r} has levels={self.levels}; give 2 or more, or"
                " 0 for any value"
            )

    def values(self, most: int = 0) -> np.ndarray:
        """Its levels; of an interval, ``most`` even ones."""
        return np.linspace(self.low, self.high, self.levels or most)


@dataclasses.dataclass(frozen=True)
class Space:
    """Some variables; frozen and hashable, so it can be static under jit.

    A point is in the unit cube, ``[..., d]``; levels are even in it, too.

    Attributes:
      dimensions: d of them.

    Raises:
      ValueError: there is none, or two have one name.

    Example:
      >>> space = Space((Dimension("threshold", 0, 1), Dimension("length", 1, 5, 5)))
      >>> space.values(space.snap(jnp.array([0.3, 0.6]))).tolist()
      [0.30000001192092896, 3.0]
    """

    dimensions: tuple[Dimension, ...]

    def __post_init__(self):
        object.__setattr__(self, "dimensions", tuple(self.dimensions))
        names = self.names
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"a space needs dimensions of different names, got {names}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Of its dimensions."""
        return tuple(one.name for one in self.dimensions)

    @property
    def size(self) -> float:
        """How many points there are; inf where some variable takes any value."""
        levels = [one.levels for one in self.dimensions]
        return math.prod(levels) if all(levels) else math.inf

    def snap(self, unit: base.Array) -> base.Array:
        """The nearest points that may be chosen.

        Kernels see points after snapping, so a surrogate is constant between levels
        (Garrido-Merchan and Hernandez-Lobato, Neurocomputing 380, 2020).
        """
        steps = np.array([max(one.levels - 1, 0) for one in self.dimensions])
        safe = np.maximum(steps, 1).astype(np.float32)
        unit = jnp.clip(unit, 0.0, 1.0)
        return jnp.where(steps > 0, jnp.round(unit * safe) / safe, unit)

    def values(self, unit: base.Array) -> base.Array:
        """What points mean, in the units of the dimensions."""
        low, high = (
            np.array([getattr(one, end) for one in self.dimensions], np.float32)
            for end in ("low", "high")
        )
        return low + (high - low) * unit

    def grid(self, most: int = 0) -> np.ndarray:
        """All points, or those of so many even values of each interval.

        Args:
          most: values of a variable that takes any; levels are all taken.

        Returns:
          float32 ``[G, d]``, the last dimension moving fastest.

        Raises:
          ValueError: a variable takes any value, and ``most`` is below 2.
        """
        if math.isinf(self.size) and most < 2:
            raise ValueError("some dimension has no levels; give most of 2 or more")
        axes = [
            np.linspace(0.0, 1.0, one.levels or most, dtype=np.float32)
            for one in self.dimensions
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
