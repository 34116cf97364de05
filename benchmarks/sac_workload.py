"""What both sides of the benchmark of soft actor-critic compute; NumPy alone."""

import dataclasses

import numpy as np

LEARNING_RATE = 3e-4
DISCOUNT = 0.99
TAU = 0.005
EPISODE = 100
"""Steps until an episode is truncated."""
_ROWS = 64


@dataclasses.dataclass(frozen=True)
class Workload:
    """Steps in an environment that costs nothing, with an update after each.

    The environment shows the rows of a table in turn and rewards small actions:
    ``r = -mean(a^2)``. A time limit ends its episodes, nothing else.

    Attributes:
      obs_dim: numbers of an observation.
      action_dim: numbers of an action, each in [-1, 1].
      batch: transitions in an update.
      hidden: widths of the hidden layers of the actor and of both critics.
      steps: in one timed call.
      capacity: transitions in the replay.
      warmup: steps with random actions before the first update.
    """

    obs_dim: int = 1852
    action_dim: int = 14
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256)
    steps: int = 50
    capacity: int = 10_000
    warmup: int = 1_000

    @property
    def title(self) -> str:
        """Names the work and its size, for people."""
        return (
            f"SAC, observation {self.obs_dim}, action {self.action_dim}, batch"
            f" {self.batch}, {'x'.join(map(str, self.hidden))}: {self.steps} steps with"
            " an update each"
        )

    def table(self) -> np.ndarray:
        """What the environment shows, float32 ``[rows, obs_dim]``."""
        rng = np.random.default_rng(0)
        return rng.uniform(-1.0, 1.0, (_ROWS, self.obs_dim)).astype(np.float32)

    def transitions(self) -> dict[str, np.ndarray]:
        """A batch of random transitions, to compare losses on."""
        rng = np.random.default_rng(1)
        table = self.table()
        rows = rng.integers(0, _ROWS, (2, self.batch))
        action = rng.uniform(-1.0, 1.0, (self.batch, self.action_dim))
        return {
            "obs": table[rows[0]],
            "next_obs": table[rows[1]],
            "action": action.astype(np.float32),
            "reward": rng.normal(size=self.batch).astype(np.float32),
            "terminated": rng.random(self.batch) < 0.3,
        }


FULL = Workload()
TINY = Workload(12, 3, 16, (8, 8), 4, 64, 32)
WORKLOADS = {"full": FULL, "tiny": TINY}
