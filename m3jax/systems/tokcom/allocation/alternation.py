"""The alternating steps of an allocation: one block at its optimum, the others held.

Bandwidths and powers come from ``ops/latency_split.py``, lengths have a closed form. A
step never raises the cost, since it finds the one minimum of its block.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import latency_split
from m3jax.systems.tokcom.allocation import problem as problems

STEPS = ("bandwidth", "power", "length")
"""The blocks, in the order of a sweep."""
MAX_SWEEPS = 500
"""Often seven suffice; a plan that creeps along a saddle, hundreds."""
_ROUNDINGS = 1e3
"""A sweep that moves nothing by more units in the last place is the last."""
_LEAST_WEIGHT = 1e-12
"""Of the loss: its reciprocal squared, which slopes take, is still a float32."""


class Rest(NamedTuple):
    """Where an alternation came to rest.

    Attributes:
      plan: the plan.
      history: the cost at the start and after every step; beyond ``num_sweeps`` times
        the number of steps, the cost at the start.
      num_sweeps: int32 scalar.
      rests: bool scalar, whether the last sweep left all in place.
    """

    plan: problems.Plan
    history: base.Array
    num_sweeps: base.Array
    rests: base.Array


def step(
    problem: problems.Problem, plan: problems.Plan, name: str
) -> tuple[problems.Plan, base.Array]:
    """Optimises one block.

    Args:
      problem: U users.
      plan: what the other blocks are held at.
      name: of ``STEPS``.

    Returns:
      The plan with that block at its optimum, and an int32 ``latency_split.Status``.
    """
    if name == "length":
        status = jnp.int32(latency_split.Status.OPTIMAL)
        return plan._replace(lengths=best_lengths(problem, plan)), status
    loads = plan.lengths * problem.bits_per_token
    if name == "bandwidth":
        cn0 = plan.powers * problem.gains
        split = latency_split.bandwidths(loads, cn0, problem.bandwidth)
        return plan._replace(bandwidths=split.amounts), split.status
    split = latency_split.powers(loads, plan.bandwidths, problem.gains, problem.power)
    return plan._replace(powers=split.amounts), split.status


def best_lengths(problem: problems.Problem, plan: problems.Plan) -> base.Array:
    """The real lengths that minimise the cost at the rates of a plan.

    Args:
      problem: U users.
      plan: its bandwidths and powers.

    Returns:
      ``[U]``, within the bounds.
    """
    seconds = latency_split.latency(
        problem.bits_per_token, plan.bandwidths, plan.powers * problem.gains
    )
    loss_weight = jnp.maximum(1.0 - problem.weight, _LEAST_WEIGHT)
    lengths = problem.curve.best_length(problem.weight * seconds / loss_weight)
    return jnp.clip(lengths, problem.min_length, problem.max_length)


def sweep(
    problem: problems.Problem, plan: problems.Plan, steps: tuple[str, ...]
) -> tuple[problems.Plan, base.Array]:
    """Takes some steps, one after the other.

    Args:
      problem: U users.
      plan: where to begin.
      steps: of ``STEPS``.

    Returns:
      The plan, and the worst status of a step.
    """
    statuses = []
    for name in steps:
        plan, status = step(problem, plan, name)
        statuses.append(status)
    return plan, jnp.max(jnp.stack(statuses))


def alternate(
    problem: problems.Problem,
    plan: problems.Plan,
    steps: tuple[str, ...] = STEPS,
    max_sweeps: int = MAX_SWEEPS,
) -> Rest:
    """Sweeps until nothing moves any more; has no gradient.

    With lengths held this is the optimum: bandwidths and powers are jointly convex.

    Args:
      problem: U users.
      plan: where to begin.
      steps: of ``STEPS``, in any order.
      max_sweeps: most sweeps, static.

    Returns:
      A ``Rest``.
    """
    tolerance = _ROUNDINGS * jnp.finfo(plan.lengths.dtype).eps

    def moves(state):
        _, _, count, moved = state
        return (moved > tolerance) & (count < max_sweeps)  # and stops at NaN

    def once(state):
        before, history, count, _ = state
        after = before
        for i, name in enumerate(steps):
            after, _ = step(problem, after, name)
            cost = problems.evaluate(problem, after).cost
            history = history.at[len(steps) * count + i + 1].set(cost)
        changes = jax.tree.map(
            lambda a, b: jnp.max(jnp.abs(a / b - 1.0)), after, before
        )
        return after, history, count + 1, jnp.max(jnp.stack(changes))

    first = problems.evaluate(problem, plan).cost
    history = jnp.full(len(steps) * max_sweeps + 1, first)
    state = plan, history, jnp.int32(0), jnp.full_like(first, jnp.inf)
    plan, history, count, moved = lax.while_loop(moves, once, state)
    return Rest(plan, history, count, moved <= tolerance)
