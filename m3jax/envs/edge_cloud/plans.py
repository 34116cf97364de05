"""Actions of the offload: numbers of the unit cube, or one of a grid of them.

``[2 M + 2]``: what is kept of each modality, the threshold of confidence, the draft
length, and whether each modality goes to the cloud (0.5 or more).
"""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.costs import offload


@dataclasses.dataclass(frozen=True)
class Levels:
    """What a discrete action chooses from; frozen and hashable.

    Attributes:
      retentions: of each modality.
      thresholds: of confidence.
      lengths: of drafts.

    Raises:
      ValueError: there is nothing to choose, or it is out of range.
    """

    retentions: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    thresholds: tuple[float, ...] = (0.1, 0.5, 1.0)
    lengths: tuple[int, ...] = (1, 2, 3, 5)

    def __post_init__(self):
        for name in ("retentions", "thresholds"):
            if not all(0.0 <= x <= 1.0 for x in getattr(self, name)):
                raise ValueError(f"levels.{name} must lie in 0 to 1")
        if not all(1 <= x <= offload.MAX_DRAFT for x in self.lengths):
            raise ValueError(f"levels.lengths must lie in 1 to {offload.MAX_DRAFT}")
        if not (self.retentions and self.thresholds and self.lengths):
            raise ValueError("levels need a retention, a threshold and a length")


def table(levels: Levels, num_modalities: int, max_draft: int) -> np.ndarray:
    """All actions of a grid, float32 ``[A, 2 M + 2]``.

    Args:
      levels: to choose from.
      num_modalities: M.
      max_draft: the longest draft, at least the greatest length.
    """
    lengths = [encode_length(length, max_draft) for length in levels.lengths]
    axes = [levels.retentions] * num_modalities
    axes += [levels.thresholds, lengths] + [(0.0, 1.0)] * num_modalities
    return np.array(list(itertools.product(*axes)), np.float32)


def encode_length(length: base.Array, max_draft: int) -> base.Array:
    """The number of the unit interval that means a length."""
    return (length - 0.5) / max_draft


def join(
    retention: base.Array, threshold: base.Array, length: base.Array, sent: base.Array
) -> base.Array:
    """An action ``[2 M + 2, *batch]`` of its parts, the length encoded."""
    batch = jnp.shape(retention)[1:]
    middle = [
        jnp.broadcast_to(jnp.asarray(x, jnp.float32), batch)
        for x in (threshold, length)
    ]
    return jnp.concatenate([retention, jnp.stack(middle), sent.astype(jnp.float32)])


def split(
    action: base.Array, num_modalities: int, max_draft: int
) -> tuple[offload.Plan, base.Array]:
    """A plan, and the threshold.

    Args:
      action: ``[2 M + 2, *batch]``.
      num_modalities: M.
      max_draft: the longest draft; lengths are 1 to this.
    """
    action = jnp.clip(action, 0.0, 1.0)
    retention, sent = action[:num_modalities], action[num_modalities + 2 :]
    length = 1.0 + jnp.minimum(
        jnp.floor(action[num_modalities + 1] * max_draft), max_draft - 1.0
    )
    # A number that is none is neither here nor there, and costs what none does.
    sent = jnp.where(jnp.isnan(sent), sent, (sent >= 0.5).astype(retention.dtype))
    plan = offload.Plan(retention, jnp.zeros_like(retention), sent, length)
    return plan, action[num_modalities]
