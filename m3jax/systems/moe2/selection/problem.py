"""The problem of choosing experts: losses of sets, and budgets that a set must keep."""

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from m3jax.costs import budgets

KINDS = ("refit", "restrict", "additive", "coverage", "other")
Evaluate = Callable[[np.ndarray], Any]
"""Sets, bool ``[B, N]`` -> losses ``[B]``, or ``(losses, gaps)``: a gap says by how
much a loss may lie above the true one."""


class Status(enum.StrEnum):
    """How a search ended.

    Attributes:
      OPTIMAL: proved that no feasible set has less loss.
      EPSILON_OPTIMAL: proved up to ``gap``.
      INFEASIBLE: no expert passes alone; ``binding`` says why.
      TIME: the time was over; ``gap`` is what is proved.
      EVALUATIONS: the evaluations were used up; ``gap`` is what is proved.
      HEURISTIC: feasible, and nothing is proved.
    """

    OPTIMAL = "optimal"
    EPSILON_OPTIMAL = "epsilon_optimal"
    INFEASIBLE = "infeasible"
    TIME = "time"
    EVALUATIONS = "evaluations"
    HEURISTIC = "heuristic"


class Limits(NamedTuple):
    """What a set may take, as arrays: each may be one number, or one for each state.

    Attributes:
      tau_s: seconds of E[max delay]; one, or one for each application.
      energy_j: joules of the sum of energies.
    """

    tau_s: float | Sequence[float] = np.inf
    energy_j: float = np.inf


@dataclasses.dataclass(frozen=True)
class Constraint:
    """A cost of sets that grows with the set, and its limit.

    Attributes:
      name: for people.
      cost: sets, bool ``[B, N]`` -> ``[B]``.
      limit: the most that a feasible set costs.
      costs: ``[N]`` if the cost is a sum over experts.
    """

    name: str
    cost: Callable[[np.ndarray], np.ndarray]
    limit: float
    costs: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Problem:
    """Least loss over the sets that keep all limits; the empty set is no answer.

    Attributes:
      num_experts: N.
      evaluate: losses of sets, see `Evaluate`.
      constraints: whose feasible sets are downward closed, as each cost grows.
      kind: of the losses, one of `KINDS`; "restrict" is not monotone.
    """

    num_experts: int
    evaluate: Evaluate
    constraints: tuple[Constraint, ...] = ()
    kind: str = "refit"

    def losses(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Losses ``[B]`` of sets, and how far above the true ones they may lie."""
        found = self.evaluate(members)
        losses, gaps = found if isinstance(found, tuple) else (found, 0.0)
        losses = np.asarray(losses, np.float64)
        return losses, np.broadcast_to(np.asarray(gaps, np.float64), losses.shape)

    def feasible(self, members: np.ndarray) -> np.ndarray:
        """Whether sets ``[B, N]`` keep all limits, bool ``[B]``."""
        passes = np.ones(len(members), bool)
        for constraint in self.constraints:
            passes &= constraint.cost(members) <= constraint.limit
        return passes

    def broken(self, members: np.ndarray) -> tuple[str, ...]:
        """Names of the limits that a set ``[N]`` breaks."""
        found = [c for c in self.constraints if c.cost(members[None])[0] > c.limit]
        return tuple(constraint.name for constraint in found)

    def binding(self, members: np.ndarray) -> tuple[str, ...]:
        """Limits that some further expert would break; of the empty set, that all do.

        If nobody passes alone and no limit stops everybody, all those that stop some.
        """
        each = [
            set(self.broken(members | (np.arange(self.num_experts) == n)))
            for n in np.flatnonzero(~members)
        ]
        names = set().union(*each)
        if not members.any() and each:
            names = set.intersection(*each) or names
        return tuple(c.name for c in self.constraints if c.name in names)


class Selection(NamedTuple):
    """What a search found.

    Attributes:
      members: bool ``[N]``; nobody if infeasible.
      loss: of the set, as evaluated; ``inf`` if infeasible.
      status: how the search ended, a `Status`.
      gap: nats that the loss is above the least possible at most; ``inf`` if nothing is
        proved.
      binding: names of the limits that stop a further expert, or all experts.
      num_evaluated: sets whose loss was asked for.
      num_nodes: nodes of the tree that were looked at; 0 without a tree.
      seconds: that it took.
    """

    members: np.ndarray
    loss: float
    status: Status
    gap: float
    binding: tuple[str, ...] = ()
    num_evaluated: int = 0
    num_nodes: int = 0
    seconds: float = 0.0


def make_problem(
    losses: np.ndarray | Evaluate,
    delays_s: np.ndarray,
    energies_j: np.ndarray,
    budget: Limits | budgets.Budget,
    *,
    kind: str = "refit",
) -> Problem:
    """Makes the problem of MoE2, equation 19, with the intersection of both budgets.

    The delay of a set is the mean over samples of its greatest delay (equations 7 to
    9): no less than the greatest mean delay, so experts that pass alone may not pass
    together. The paper's equation 25 takes the union of the budgets, a slip.

    Args:
      losses: a table ``[2^N]`` (`m3jax.ops.subsets`), or a function of sets.
      delays_s: samples of common random numbers, ``[K, N]``, or ``[M, K, N]`` for M
        applications with a limit each.
      energies_j: ``[N]``, or samples ``[K, N]`` whose mean counts.
      budget: the limits.
      kind: of the losses, one of `KINDS`.

    Raises:
      ValueError: shapes do not fit, or something is negative or NaN.

    Example:
      >>> problem = make_problem(
      ...     np.array([np.inf, 3.0, 2.0, 1.0]),
      ...     np.array([[0.1, 0.3]]), np.array([1.0, 2.0]), Limits(0.5, 2.5))
      >>> problem.feasible(np.array([[True, False], [True, True]])).tolist()
      [True, False]
    """
    if kind not in KINDS:
        raise ValueError(f"losses are of a kind of {', '.join(KINDS)}, not {kind!r}")
    delays, energies = (np.asarray(x, np.float64) for x in (delays_s, energies_j))
    delays = delays[None] if delays.ndim == 2 else delays
    energies = energies.mean(axis=0) if energies.ndim == 2 else energies
    limits = np.atleast_1d(np.asarray(budget.tau_s, np.float64))
    num_experts = energies.shape[-1]
    if delays.ndim != 3 or delays.shape[2] != num_experts:
        raise ValueError(
            f"delays need shape [K, N] or [M, K, N] with N = {num_experts} as the"
            f" energies, not {np.shape(delays_s)}"
        )
    if len(limits) != len(delays):
        raise ValueError(
            f"{len(delays)} applications have {len(limits)} delay limits; give one each"
        )
    if not ((delays >= 0).all() and (energies >= 0).all()):
        raise ValueError("delays and energies must be numbers from 0")
    names = [f"delay of application {m}" for m in range(len(delays))]
    names = ["delay"] if len(delays) == 1 else names
    constraints = [
        Constraint(name, mean_maximum(samples), float(limit))
        for name, samples, limit in zip(names, delays, limits, strict=True)
    ]
    constraints.append(
        Constraint("energy", lambda m: m @ energies, float(budget.energy_j), energies)
    )
    if not callable(losses):
        losses = table(losses, num_experts)
    return Problem(num_experts, losses, tuple(constraints), kind)


def table(losses: np.ndarray, num_experts: int) -> Evaluate:
    """Losses ``[2^N]`` as a function of sets.

    Raises:
      ValueError: there are not 2^N losses.
    """
    losses = np.asarray(losses, np.float64)
    if losses.shape != (2**num_experts,):
        raise ValueError(
            f"{num_experts} experts have {2**num_experts} subsets, but losses have"
            f" shape {losses.shape}"
        )
    bits = 2 ** np.arange(num_experts)
    return lambda members: losses[members @ bits]


def mean_maximum(samples: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The mean over samples ``[K, N]`` of the greatest in a set, for many sets."""
    by_expert = np.ascontiguousarray(samples.T)

    def cost(members: np.ndarray) -> np.ndarray:
        # Experts on the first axis: so few of them are compared by whole rows.
        kept = by_expert[:, None, :] * members.T[:, :, None]
        return kept.max(axis=0).mean(axis=-1)

    return cost
