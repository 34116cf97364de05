"""What an allocation must beat, and what it cannot: equal shares, exhaustive search."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.ops import latency_split
from m3jax.systems.tokcom.allocation import problem as problems

_BISECTIONS = 30


class Searched(NamedTuple):
    """The best plan on a grid.

    Attributes:
      plan: the plan.
      cost: what it costs.
    """

    plan: problems.Plan
    cost: float


def equal_split(problem: problems.Problem) -> tuple[problems.Plan, base.Array]:
    """Equal bandwidth and power for everyone, with the best common whole length.

    The cost is convex in the common length, so bisection of its differences finds the
    best one.

    Args:
      problem: U users; ``vmap`` over many.

    Returns:
      The plan and its cost.
    """

    def cost(length):
        return problems.evaluate(problem, problems.equal_plan(problem, length)).cost

    def halve(_, ends):
        low, high = ends
        middle = jnp.floor(0.5 * (low + high))
        rises = cost(middle + 1.0) >= cost(middle)
        high = jnp.where(rises, middle, high)
        return jnp.where(rises | (low >= high), low, middle + 1.0), high

    ends = problem.min_length, problem.max_length
    length, _ = lax.fori_loop(0, _BISECTIONS, halve, ends)
    return problems.equal_plan(problem, length), cost(length)


def exhaustive(problem: problems.Problem, num_parts: int) -> Searched:
    """Tries every plan on a grid: whole lengths, and budgets cut into equal parts.

    Every user gets one part of both budgets at least, and all parts are given away. For
    given parts, users choose their lengths apart from each other; the parts are then
    dealt out by dynamic programming, which leaves out no plan of the grid. Host side,
    in NumPy, of ``O(U n^4)`` operations.

    Args:
      problem: few users.
      num_parts: n, parts of each budget, at least U.

    Returns:
      A ``Searched``. Its cost is that of a real plan, so no less than the optimum.

    Raises:
      ValueError: if there are fewer parts than users.
    """
    num_users = len(problem.gains)
    if num_parts < num_users:
        raise ValueError(f"{num_parts} parts do not suffice for {num_users} users.")
    costs, lengths = _tables(problem, num_parts)
    reached, choices = costs[0], []
    for own in costs[1:]:
        reached, choice = _deal(reached, own)
        choices.append(choice)
    parts, rest = [], (num_parts, num_parts)
    for choice in reversed(choices):
        own = np.unravel_index(choice[rest], choice.shape)
        parts.append(own)
        rest = rest[0] - own[0], rest[1] - own[1]
    parts = [rest, *reversed(parts)]
    band, power = np.array(parts, np.float64).T / num_parts
    plan = problems.Plan(
        lengths=np.array([m[own] for m, own in zip(lengths, parts, strict=True)]),
        bandwidths=band * float(problem.bandwidth),
        powers=power * float(problem.power),
    )
    return Searched(plan, float(reached[num_parts, num_parts]))


def _tables(problem: problems.Problem, num_parts: int):
    """For each user and number of parts of both: least cost, and the length for it."""
    parts = np.arange(num_parts + 1) / num_parts
    low, high = float(problem.min_length), float(problem.max_length)
    lengths = np.arange(low, high + 1.0)
    users = len(problem.gains)
    losses = np.asarray(problem.curve(lengths[:, None])) * np.ones(users)
    bits = np.broadcast_to(problem.bits_per_token, users)
    w = float(problem.weight)
    costs, best = [], []
    for u, gain in enumerate(np.asarray(problem.gains)):
        seconds = latency_split.latency(
            bits[u],
            parts[:, None] * problem.bandwidth,
            parts * problem.power * gain,
        )
        latencies = lengths[:, None, None] * np.asarray(seconds, np.float64)
        cost = w * latencies + (1.0 - w) * losses[:, u, None, None]
        costs.append(cost.min(axis=0))
        best.append(lengths[cost.argmin(axis=0)])
    return costs, best


def _deal(reached: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least cost of one more user for every number of parts, and the parts it takes."""
    size = len(own)
    best, choice = np.full_like(own, np.inf), np.zeros(own.shape, np.int64)
    for i in range(1, size):
        for j in range(1, size):
            cost = reached[: size - i, : size - j] + own[i, j]
            better = cost < best[i:, j:]
            best[i:, j:] = np.where(better, cost, best[i:, j:])
            choice[i:, j:] = np.where(better, i * size + j, choice[i:, j:])
    return best, choice
