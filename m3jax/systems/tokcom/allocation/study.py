"""How much a joint allocation saves against equal shares, over drops of users."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import intervals, latency_split
from m3jax.systems.tokcom.allocation import baselines, drops, solve
from m3jax.systems.tokcom.allocation import problem as problems


class Saving(NamedTuple):
    """What is saved, with intervals over seeds.

    Attributes:
      cost: share of the mean weighted cost of a seed's drops that is saved.
      reducible: the same after the curve's floor is taken off both costs, which no
        allocation can lower; NaN where nothing is left.
      seeds: S seeds.
      joint_costs: cost of the joint allocation, of whole lengths, ``[S, D]``.
      equal_costs: cost of equal shares with the best common length, ``[S, D]``.
      floor: what the curve's floor adds to each of these costs.
      are_solved: every drop was solved, and no step raised a cost.
    """

    cost: intervals.Interval
    reducible: intervals.Interval
    seeds: tuple[int, ...]
    joint_costs: np.ndarray
    equal_costs: np.ndarray
    floor: float
    are_solved: bool


def measure_saving(
    problem: problems.Problem,
    seeds: Iterable[int],
    num_drops: int = 100,
    draw: Callable[[base.Array, int], drops.Users] = drops.draw_users,
    confidence: float = 0.95,
) -> Saving:
    """Compares the joint allocation with equal shares.

    Args:
      problem: its gains say how many users there are, and are drawn anew.
      seeds: independent repetitions; two at least for an interval.
      num_drops: drops of users of each seed.
      draw: key and number of users to ``Users``.
      confidence: of the intervals.

    Returns:
      A ``Saving``.

    Raises:
      ValueError: there is no seed or no drop.
    """
    seeds = tuple(seeds)
    if not seeds or num_drops < 1:
        raise ValueError(
            f"there must be a seed and a drop, got {len(seeds)} and {num_drops}."
        )
    many = jax.jit(jax.vmap(lambda key: draw(key, len(problem.gains)).gains))
    results = []
    for seed in seeds:
        gains = many(jax.random.split(jax.random.key(seed), num_drops))
        equal, *found = compare(problem, gains)
        solved = [
            f.is_monotone & (f.status == latency_split.Status.OPTIMAL) for f in found
        ]
        results.append(jax.device_get((found[-1].cost, equal, solved)))
    joint, equal, solved = (np.stack(part) for part in zip(*results, strict=True))
    shared = jnp.broadcast_to(problem.curve.floor, problem.gains.shape)
    floor = float((1.0 - problem.weight) * jnp.sum(shared))
    joint, equal = joint.astype(np.float64), equal.astype(np.float64)
    return Saving(
        cost=_saved(joint, equal, confidence),
        reducible=_saved(joint - floor, equal - floor, confidence),
        seeds=seeds,
        joint_costs=joint,
        equal_costs=equal,
        floor=floor,
        are_solved=bool(solved.all()),
    )


@jax.jit
def compare(
    problem: problems.Problem, gains: base.Array
) -> tuple[base.Array, solve.Allocation, solve.Allocation]:
    """Solves many drops of one problem.

    Args:
      problem: all but the gains.
      gains: ``[D, U]`` in Hz/W.

    Returns:
      The cost of equal shares ``[D]``, and the joint allocations of real and of whole
      lengths, each with a leading axis of D.
    """

    def one(gains):
        drop = problem._replace(gains=gains)
        plan, equal_cost = baselines.equal_split(drop)
        relaxed = solve.allocate(drop, plan)
        return equal_cost, relaxed, solve.round_lengths(drop, relaxed)

    return jax.vmap(one)(gains)


def records(saving: Saving, system: str = "tokcom") -> list[base.Record]:
    """The mean costs of each seed's drops as rows.

    Args:
      saving: from ``measure_saving``.
      system: as in the rows.

    Returns:
      Rows of the variants "joint" and "equal split" and the metrics "weighted_cost" and
      "reducible_cost", which is without the curve's floor. One minus the ratio of the
      two variants, averaged over seeds, is the mean of ``saving.cost`` and of
      ``saving.reducible``.
    """
    rows = []
    costs = {"joint": saving.joint_costs, "equal split": saving.equal_costs}
    for variant, values in costs.items():
        for seed, cost in zip(saving.seeds, values.mean(axis=1).tolist(), strict=True):
            for metric, value in (
                ("weighted_cost", cost),
                ("reducible_cost", cost - saving.floor),
            ):
                rows.append(base.Record(system, variant, (), seed, metric, value, "1"))
    return rows


def _saved(joint: np.ndarray, equal: np.ndarray, confidence) -> intervals.Interval:
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1.0 - joint.mean(axis=1) / equal.mean(axis=1)
    return intervals.student_t(share, 0, confidence)
