"""What a ``timeline`` records."""

from typing import NamedTuple

import numpy as np

KINDS = ("retry", "down", "compute", "up", "failed")


class Event(NamedTuple):
    """Something that kept a worker busy, for a Gantt chart; see `KINDS`."""

    worker: int
    batch: int
    block: int
    token: int
    expert: int
    start: float
    end: float
    kind: str


class Rerouted(NamedTuple):
    """A token that went to another expert at a time; to -1 where none was left."""

    batch: int
    block: int
    token: int
    expert: int
    to: int
    time: float


class Timeline(NamedTuple):
    """What happened.

    Attributes:
      events: in the order of their ends.
      rerouted: what failures did.
      starts: seconds at which blocks started, ``[N, L]``.
      ends: and ended.
      seconds: from the start of a block to a worker's last token of it, ``[N, L, W]``;
        with ``tokens`` the history of WDMoE's Algorithm 2.
      tokens: that a worker finished of a block, ``[N, L, W]``.
    """

    events: list[Event]
    rerouted: list[Rerouted]
    starts: np.ndarray
    ends: np.ndarray
    seconds: np.ndarray
    tokens: np.ndarray

    @property
    def token_s(self) -> np.ndarray:
        """Mean seconds of a token on each worker, ``[W]``; NaN of one never used."""
        used = self.tokens > 0
        shares = np.where(used, self.seconds / np.maximum(self.tokens, 1), 0.0)
        count = used.sum(axis=(0, 1))
        mean = shares.sum(axis=(0, 1)) / np.maximum(count, 1)
        return np.where(count > 0, mean, np.nan)
