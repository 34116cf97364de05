"""What exact selection is compared with: greedy, random, and a knapsack."""

import time

import jax
import numpy as np

from m3jax import base
from m3jax.systems.moe2.selection import enumeration
from m3jax.systems.moe2.selection import problem as problems


def greedy(
    problem: problems.Problem, costs: np.ndarray | None = None
) -> problems.Selection:
    """Adds the feasible expert who lowers the loss most, until nobody can be added.

    With one limit on the number of experts and a monotone submodular value it reaches
    1 - 1/e of the best (Nemhauser, Wolsey and Fisher, Mathematical Programming 14,
    1978); under other budgets it may be far off. A loss that rises stops it.

    Args:
      problem: any kind of losses.
      costs: ``[N]``, above 0: then the greatest gain per cost is added, the first one,
        whose gain over nobody is infinite, by the least loss.
    """
    start = time.perf_counter()
    members, loss, count = np.zeros(problem.num_experts, bool), np.inf, 0
    costs = np.ones(problem.num_experts) if costs is None else np.asarray(costs)
    while True:
        free = np.flatnonzero(~members)
        tried = members | np.eye(problem.num_experts, dtype=bool)[free]
        passes = problem.feasible(tried)
        free, tried = free[passes], tried[passes]
        if not len(free):
            break
        losses = problem.losses(tried)[0]
        count += len(free)
        first = not members.any()
        best = np.argmax(-losses if first else (loss - losses) / costs[free])
        if losses[best] > loss:
            break
        members, loss = tried[best], float(losses[best])
    return _found(problem, members, loss, count, time.perf_counter() - start)


def random_feasible(key: base.Array, problem: problems.Problem) -> problems.Selection:
    """A random maximal feasible set: who comes next in a random order, if there's room.

    Args:
      key: random key.
      problem: any kind of losses.
    """
    start = time.perf_counter()
    order = np.asarray(jax.random.permutation(key, problem.num_experts))
    return _found(problem, *_fill(problem, order), 1, time.perf_counter() - start)


def knapsack(
    problem: problems.Problem, values: np.ndarray, delays_s: np.ndarray
) -> problems.Selection:
    """The best set for additive values and delays that do not vary, exactly.

    Whoever is slower than the limit alone is dropped; for the others only energy
    counts, a knapsack. It is solved by the list of sets that no set of less energy
    beats in value (Nemhauser and Ullmann, Management Science 15, 1969), which needs no
    whole numbers.

    Args:
      problem: losses that are minus the sum of values; limits of one delay and energy.
      values: ``[N]``, not negative.
      delays_s: ``[N]``.

    Raises:
      ValueError: the problem has other limits.
    """
    start = time.perf_counter()
    if [c.name for c in problem.constraints] != ["delay", "energy"]:
        raise ValueError("knapsack needs one limit of delay and one of energy")
    delay, energy = problem.constraints
    cost, value, sets = np.zeros(1), np.zeros(1), np.zeros(1, np.int64)
    for expert in np.flatnonzero(np.asarray(delays_s) <= delay.limit):
        fits = cost + energy.costs[expert] <= energy.limit
        cost = np.append(cost, cost[fits] + energy.costs[expert])
        value = np.append(value, value[fits] + values[expert])
        sets = np.append(sets, sets[fits] | 1 << int(expert))
        order = np.lexsort((-value, cost))
        cost, value, sets = cost[order], value[order], sets[order]
        best_before = np.maximum.accumulate(np.append(-np.inf, value[:-1]))
        kept = value > best_before
        cost, value, sets = cost[kept], value[kept], sets[kept]
    members = (int(sets[-1]) >> np.arange(problem.num_experts) & 1).astype(bool)
    seconds = time.perf_counter() - start
    found = _found(problem, members, float(-value[-1]), 0, seconds)
    if not members.any():
        return found
    return found._replace(status=problems.Status.OPTIMAL, gap=0.0)


def _fill(problem: problems.Problem, order: np.ndarray) -> tuple[np.ndarray, float]:
    members = np.zeros(problem.num_experts, bool)
    for expert in order:
        members[expert] = True
        members[expert] = problem.feasible(members[None])[0]
    loss = float(problem.losses(members[None])[0][0]) if members.any() else np.inf
    return members, loss


def _found(
    problem: problems.Problem,
    members: np.ndarray,
    loss: float,
    count: int,
    seconds: float,
) -> problems.Selection:
    if not members.any():
        return enumeration.nobody(problem, seconds)
    return problems.Selection(
        members=members,
        loss=loss,
        status=problems.Status.HEURISTIC,
        gap=np.inf,
        binding=problem.binding(members),
        num_evaluated=count,
        seconds=seconds,
    )
