"""Drawn instances: experts with homes, delays that vary, budgets that bind."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.systems.moe2 import weights
from m3jax.systems.moe2.selection import heuristics, monotonic
from m3jax.systems.moe2.selection import problem as problems

MOST_TOGETHER = 32
"""Sets that are refitted in one call of the compiled program."""
EPSILON = 1e-5
"""Nats that answers may be above the optimum: what float32 lets a refit certify."""


class Instance(NamedTuple):
    """A drawn instance.

    Attributes:
      rows: what the experts gave to the right tokens.
      delays_s: samples of common random numbers, ``[K, N]``.
      energies_j: ``[N]``.
      budget: the limits.
    """

    rows: weights.Rows
    delays_s: np.ndarray
    energies_j: np.ndarray
    budget: problems.Limits

    def problem(self) -> problems.Problem:
        """The problem of refitted losses under both budgets."""
        return problems.make_problem(
            refitted(self.rows), self.delays_s, self.energies_j, self.budget
        )


def refitted(rows: weights.Rows) -> problems.Evaluate:
    """Refitted losses of sets with their certified gaps, in calls of few sizes."""

    def evaluate(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pieces = []
        for at in range(0, len(members), MOST_TOGETHER):
            piece = members[at : at + MOST_TOGETHER]
            size = 1 if len(piece) == 1 else MOST_TOGETHER
            filled = np.zeros((size, members.shape[1]), bool)
            filled[: len(piece)] = piece
            found = weights.refit_subsets(rows, jnp.asarray(filled))
            pieces.append([np.asarray(x)[: len(piece)] for x in found[:2]])
        losses, gaps = (np.concatenate(x) for x in zip(*pieces, strict=True))
        return losses, gaps

    return evaluate


def draw(
    key: base.Array,
    *,
    num_experts: int = 32,
    num_rows: int = 400,
    num_groups: int = 8,
    num_samples: int = 64,
    spread: float = 1.0,
) -> Instance:
    """Draws experts whose competence is correlated, and budgets that bind.

    Each expert has a home among the groups and a size. The logit of what it gives to
    the right token is higher at home and for large experts, with noise that the experts
    of a home share in half, and a difficulty of the row that all share. Large experts
    are slower and take more energy. The energy budget is 10 to 50 % of the energy of
    all; the delay budget lies between the delay of a middling expert and that of all.

    Args:
      key: random key.
      num_experts: N.
      num_rows: rows of all groups together.
      num_groups: G, homes and groups of rows.
      num_samples: K, delays of common random numbers.
      spread: of the logits; more of it makes experts more complementary.
    """
    keys = iter(jax.random.split(key, 12))

    def normal(*shape):
        return np.asarray(jax.random.normal(next(keys), shape))

    def uniform(low, high, *shape):
        return np.asarray(
            jax.random.uniform(next(keys), shape, minval=low, maxval=high)
        )

    groups = np.arange(num_rows) % num_groups
    homes = np.arange(num_experts) % num_groups
    sizes = uniform(0.5, 1.5, num_experts)
    skill = (
        1.5 * (groups[:, None] == homes) + 0.7 * normal(num_groups, num_experts)[groups]
    )
    shared = normal(num_rows, num_groups)[:, homes]
    noise = np.sqrt(0.5) * (shared + normal(num_rows, num_experts))
    logits = sizes + skill + spread * (1.5 * normal(num_rows, 1) + noise) - 1.0
    log_probs = -np.logaddexp(0.0, -logits)
    draws = -np.log(uniform(1e-6, 1.0, num_samples, num_experts))
    delays = sizes * uniform(0.5, 1.5, num_experts) * (0.5 + 0.5 * draws)
    energies = 4.0 * sizes * uniform(0.5, 1.5, num_experts)
    share = uniform(0.0, 1.0, 2)
    lowest = np.median(delays.mean(axis=0))
    highest = delays.max(axis=1).mean()
    budget = problems.Limits(
        tau_s=float(lowest + share[0] * (highest - lowest)),
        energy_j=float((0.1 + 0.4 * share[1]) * energies.sum()),
    )
    rows = weights.make_rows(log_probs, groups, num_groups)
    return Instance(rows, delays, energies, budget)


class Certified(NamedTuple):
    """What was proved of an instance.

    Attributes:
      selection: the search's answer.
      range_nats: loss of the best feasible expert alone less that of all experts.
      share_of_range: the proved gap over this range.
    """

    selection: problems.Selection
    range_nats: float
    share_of_range: float


def certify(
    instance: Instance, time_limit_s: float, batch_size: int = MOST_TOGETHER
) -> Certified:
    """Searches an instance by SMO, from greedy's answer.

    Args:
      instance: what was drawn.
      time_limit_s: seconds.
      batch_size: upper sets that are evaluated together.
    """
    problem = instance.problem()
    alone = np.eye(problem.num_experts, dtype=bool)
    everybody = np.ones((1, problem.num_experts), bool)
    losses = problem.losses(np.concatenate([alone, everybody]))[0]
    best_alone = losses[:-1].min(where=problem.feasible(alone), initial=np.inf)
    start = heuristics.greedy(problem).members
    found = monotonic.smo(
        problem,
        epsilon=EPSILON,
        time_limit_s=time_limit_s,
        batch_size=batch_size,
        start=[start] if start.any() else [],
    )
    width = float(best_alone - losses[-1])
    return Certified(found, width, found.gap / max(width, EPSILON))
