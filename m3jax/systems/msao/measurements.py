"""What plans need to know of the models: words that agree, and quality that is lost."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy import ndimage

from m3jax import base


class Measured(NamedTuple):
    """What was measured of the draft, the target and the pruning.

    Attributes:
      agrees: bool ``[N, A]``, whether the draft's most probable word is the target's, a
        word of its greedy answers at a time.
      entropies: ``[N, A]`` in [0, 1], of the draft's next word, over ``log V``.
      valid: bool ``[N, A]``, words that count.
      quality: ``[R, C]``, accuracy over that of the cloud alone, of the system that
        prunes and quantises.
      retention: ``[R]``, increasing: levels at which it was measured.
      compression: ``[C]``, likewise.
      sparsity: ``[M]``, MAS of each modality; the picture is the first.
    """

    agrees: base.Array
    entropies: base.Array
    valid: base.Array
    quality: base.Array
    retention: base.Array
    compression: base.Array
    sparsity: base.Array

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense; host only."""
        shape = np.shape(self.valid)
        for name in ("agrees", "entropies"):
            if np.shape(getattr(self, name)) != shape or len(shape) != 2:
                raise ValueError(
                    f"measured.{name} is {list(np.shape(getattr(self, name)))} and"
                    f" valid {list(shape)}; give both as [N, A]"
                )
        if not np.any(self.valid):
            raise ValueError("measured.valid has no word; measure some answers")
        levels = self.retention, self.compression
        for name, axis in zip(("retention", "compression"), levels, strict=True):
            if np.ndim(axis) != 1 or np.any(np.diff(axis) <= 0) or np.size(axis) < 2:
                raise ValueError(f"measured.{name} must be 2 or more growing levels")
        if np.shape(self.quality) != tuple(map(len, levels)):
            raise ValueError(
                f"measured.quality is {list(np.shape(self.quality))}; give one number"
                f" for each of {len(levels[0])} retentions and {len(levels[1])}"
                " compressions"
            )

    def confident(self, threshold: base.Array) -> base.Array:
        """Share of words with at most so much entropy, P_conf (equation 12)."""
        below = self.valid & (self.entropies <= threshold)
        return jnp.sum(below) / jnp.sum(self.valid)

    def acceptance(self, threshold: base.Array) -> base.Array:
        """Share of them that the target says too, alpha; 0 if there are none."""
        below = self.valid & (self.entropies <= threshold)
        return jnp.sum(below & self.agrees) / jnp.maximum(jnp.sum(below), 1)

    def quality_loss(
        self, retention: base.Array, compression: base.Array
    ) -> base.Array:
        """Delta Q: linear between levels, and as at the ends beyond them."""
        pairs = (retention, self.retention), (compression, self.compression)
        where = [
            jnp.interp(value, jnp.asarray(axis), jnp.arange(len(axis), dtype=float))
            for value, axis in pairs
        ]
        quality = jnp.asarray(self.quality, jnp.float32)
        return 1.0 - ndimage.map_coordinates(quality, where, order=1, mode="nearest")
