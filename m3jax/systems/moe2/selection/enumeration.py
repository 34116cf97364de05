"""The best feasible subset by looking at all, for one state or for thousands."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.ops import subsets
from m3jax.systems.moe2.selection import problem as problems

_CHUNK = 4096
_TOGETHER = 16


def enumerate_best(problem: problems.Problem) -> problems.Selection:
    """The feasible set of least loss, by enumeration: exact for any kind of losses.

    Equal losses go to the set of fewer members, then of lower number.

    Args:
      problem: of at most 16 experts.
    """
    start = time.perf_counter()
    masks = subsets.masks(problem.num_experts)[1:]
    pieces = range(0, len(masks), _CHUNK)
    passes = [problem.feasible(masks[at : at + _CHUNK]) for at in pieces]
    masks = masks[np.concatenate(passes)]
    if not len(masks):
        return nobody(problem, time.perf_counter() - start)
    losses, gaps = (
        np.concatenate(parts)
        for parts in zip(
            *(
                problem.losses(masks[at : at + _CHUNK])
                for at in range(0, len(masks), _CHUNK)
            ),
            strict=True,
        )
    )
    best = np.lexsort((masks.sum(axis=1), losses))[0]  # stable: then by number
    gap = float(max(losses[best] - np.min(losses - gaps), 0.0))
    return problems.Selection(
        members=masks[best],
        loss=float(losses[best]),
        status=problems.Status.EPSILON_OPTIMAL if gap else problems.Status.OPTIMAL,
        gap=gap,
        binding=problem.binding(masks[best]),
        num_evaluated=len(masks),
        seconds=time.perf_counter() - start,
    )


def nobody(problem: problems.Problem, seconds: float = 0.0) -> problems.Selection:
    """What is said where no expert passes alone."""
    members = np.zeros(problem.num_experts, bool)
    return problems.Selection(
        members=members,
        loss=np.inf,
        status=problems.Status.INFEASIBLE,
        gap=0.0,
        binding=problem.binding(members),
        seconds=seconds,
    )


class Resolved(NamedTuple):
    """The best subset of each of S states.

    Attributes:
      numbers: int32 ``[S]``, the subset's number (`m3jax.ops.subsets`); 0, the empty
        one, where no expert passes.
      losses: ``[S]``; ``inf`` where no expert passes.
    """

    numbers: base.Array
    losses: base.Array


@jax.jit
def resolve_many(
    losses: base.Array,
    delays_s: base.Array,
    energies_j: base.Array,
    budget: problems.Limits,
) -> Resolved:
    """The best feasible subset in each of many states of the system, in one program.

    Equal losses go as in `enumerate_best`.

    Args:
      losses: a table ``[2^N]``, the same in all states.
      delays_s: ``[S, K, N]``, samples by state.
      energies_j: ``[S, N]``.
      budget: each limit a number or ``[S]``.

    Example:
      >>> found = resolve_many(
      ...     jnp.array([jnp.inf, 3.0, 2.0, 1.0]), jnp.full((2, 4, 2), 0.1),
      ...     jnp.array([[1.0, 2.0], [1.0, 1.0]]), problems.Limits(0.5, 2.5))
      >>> found.numbers.tolist()
      [2, 3]
    """
    num_states, num_experts = energies_j.shape
    sizes = subsets.masks(num_experts).sum(axis=1)
    # Ranked once: then a state needs only the feasible set of lowest rank.
    by_rank = jnp.lexsort((jnp.arange(len(sizes)), jnp.asarray(sizes), losses))
    ranks = jnp.zeros_like(by_rank).at[by_rank].set(jnp.arange(len(sizes)))
    last = len(sizes)

    def one(state):
        delays, energies, tau_s, energy_j = state
        passes = subsets.mean_maxima(delays) <= tau_s
        passes &= subsets.sums(energies) <= energy_j
        rank = jnp.min(jnp.where(passes, ranks, last).at[0].set(last))
        number = by_rank[jnp.minimum(rank, last - 1)].astype(jnp.int32)
        found = rank < last
        loss = jnp.where(found, losses[number], jnp.inf)
        return Resolved(jnp.where(found, number, 0), loss)

    limits = [jnp.broadcast_to(jnp.asarray(x), num_states) for x in budget]
    return lax.map(one, (delays_s, energies_j, *limits), batch_size=_TOGETHER)


def pareto(
    losses: base.Array, delays_s: base.Array, energies_j: base.Array
) -> tuple[np.ndarray, np.ndarray]:
    """The exact front of loss, delay and energy over all subsets but the empty one.

    Args:
      losses: a table ``[2^N]``.
      delays_s: samples ``[K, N]``; a set's delay is the mean of its greatest.
      energies_j: ``[N]``.

    Returns:
      ``(numbers int [F], points [F, 3])``: the subsets that no other beats, by number,
      and their loss, seconds and joules.
    """
    points = np.stack(
        [
            np.asarray(losses),
            np.asarray(subsets.mean_maxima(jnp.asarray(delays_s))),
            np.asarray(subsets.sums(jnp.asarray(energies_j))),
        ],
        axis=1,
    )
    points[0] = np.inf  # nobody is no answer
    numbers = np.flatnonzero(subsets.pareto_front(points))
    return numbers, points[numbers]
