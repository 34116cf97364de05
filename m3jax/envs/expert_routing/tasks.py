"""Tasks, and what the experts are worth for each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base

EXPERTS = ("recognise", "count", "compare", "document", "chart", "sign", "lesion")
"""The seven experts of `specialists`: one for each visual skill of EdgeScenes."""
_HELPFUL = (("count", "recognise"), ("sign", "document"))
"""Tasks, and the experts that help them besides their own."""


class Tasks(NamedTuple):
    """K kinds of tasks and N experts.

    Attributes:
      core: bool [K, N], the experts that a task needs (E_core of M3LLM).
      irrelevant: bool [K, N], those that can only harm it (E_irr).
      competence: float32 [K, N], probability that an expert solves a task when all that
        it says arrives.
    """

    core: base.Array
    irrelevant: base.Array
    competence: base.Array

    @property
    def num_tasks(self) -> int:
        """K."""
        return self.core.shape[0]

    @property
    def num_experts(self) -> int:
        """N."""
        return self.core.shape[1]


def make_tasks(
    core: np.ndarray,
    irrelevant: np.ndarray,
    competence: np.ndarray | None = None,
    levels: tuple[float, float, float] = (0.9, 0.6, 0.2),
) -> Tasks:
    """Makes tasks from the sets of experts, and checks them.

    Args:
      core: bool [K, N].
      irrelevant: bool [K, N]; an expert that is neither is a help.
      competence: [K, N] in [0, 1]; None: by the set that an expert is in.
      levels: competence of core, helpful and irrelevant experts, for None.

    Returns:
      The tasks.

    Raises:
      ValueError: shapes differ, an expert is core and irrelevant at once, or a
        competence is no probability.

    Example:
      >>> make_tasks(np.eye(2, dtype=bool), np.zeros((2, 2), bool)).competence
      Array([[0.9, 0.6],
             [0.6, 0.9]], dtype=float32)
    """
    core, irrelevant = np.asarray(core, bool), np.asarray(irrelevant, bool)
    given = irrelevant if competence is None else np.asarray(competence, np.float32)
    shapes = core.shape, irrelevant.shape, given.shape
    if core.ndim != 2 or 0 in core.shape or len(set(shapes)) > 1:
        raise ValueError(
            "core, irrelevant and competence must have one shape [tasks, experts], got"
            f" {shapes}"
        )
    if competence is None:
        high, middle, low = levels
        given = np.where(core, high, np.where(irrelevant, low, middle))
        given = given.astype(np.float32)
    both = np.argwhere(core & irrelevant)
    if both.size:
        raise ValueError(
            f"expert {both[0, 1]} is both core and irrelevant for task {both[0, 0]};"
            " clear one of the two"
        )
    if not ((given >= 0.0) & (given <= 1.0)).all():
        raise ValueError("competence must be probabilities in [0, 1]")
    return Tasks(*map(jnp.asarray, (core, irrelevant, given)))


def specialists() -> Tasks:
    """One task for each of the seven `EXPERTS`, who is its core.

    Counting is helped by the expert that recognises, and signs by the one that reads
    documents; everybody else is irrelevant. Those are the truths of EdgeScenes.
    """
    core = np.eye(len(EXPERTS), dtype=bool)
    helpful = np.zeros_like(core)
    for task, expert in _HELPFUL:
        helpful[EXPERTS.index(task), EXPERTS.index(expert)] = True
    return make_tasks(core, ~(core | helpful))


def following(
    key: base.Array, task: base.Array, num_tasks: int, change: base.Array
) -> base.Array:
    """The task of the next step: with probability ``change`` any of K, or the same.

    Args:
      key: PRNG key, consumed.
      task: int32 scalar.
      num_tasks: K.
      change: probability in [0, 1].

    Returns:
      int32 scalar.
    """
    change_key, task_key = jax.random.split(key)
    fresh = jax.random.randint(task_key, (), 0, num_tasks, jnp.int32)
    return jnp.where(jax.random.bernoulli(change_key, change), fresh, task)
