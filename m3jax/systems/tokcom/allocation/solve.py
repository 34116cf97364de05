"""Lengths, bandwidths and powers of several users, chosen together.

``allocate`` alternates the steps of ``alternation`` on a ``problem``.
Its lengths are real numbers and have gradients; ``round_lengths`` makes them whole.

In the logarithms of lengths, bandwidths and powers, latencies and budgets are convex.
So is a loss that is a power law: the alternation then ends in the optimum. An
exponential is convex there only where ``m >= scale``, so below, several optima may be.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import flatten_util, lax

from m3jax import base
from m3jax.ops import latency_split
from m3jax.systems.tokcom.allocation import alternation
from m3jax.systems.tokcom.allocation import problem as problems

_LEAST_GAIN = 1e-6
"""A change must lower the cost by this share of it, which is above rounding."""


class Allocation(NamedTuple):
    """A plan, what it costs, and how it was found.

    Attributes:
      plan: lengths, bandwidths and powers.
      cost: scalar, the weighted sum.
      latencies: seconds, ``[U]``.
      losses: ``[U]``.
      history: ``[n]``, the cost at the start and after every step (of ``allocate``) or
        change (of ``round_lengths``); the last repeats to the end.
      is_monotone: bool scalar: ``history`` never rises, up to rounding.
      count: int32 scalar, sweeps (of ``allocate``) or changes (of ``round_lengths``).
      status: int32 scalar, a ``latency_split.Status``.
    """

    plan: problems.Plan
    cost: base.Array
    latencies: base.Array
    losses: base.Array
    history: base.Array
    is_monotone: base.Array
    count: base.Array
    status: base.Array


def allocate(
    problem: problems.Problem,
    start: problems.Plan | None = None,
    steps: tuple[str, ...] = alternation.STEPS,
    max_sweeps: int = alternation.MAX_SWEEPS,
) -> Allocation:
    """Alternates bandwidths, powers and lengths until nothing moves.

    The plan has the gradient of the point where the alternation rests, by the implicit
    function theorem with a Jacobian of 2 U rows; so it may stand within a training
    loss. Where a length is held at a bound, its gradient is 0.

    Args:
      problem: U users; ``vmap`` over many.
      start: where to begin, constant for gradients; equal shares and the longest
        messages if None.
      steps: which blocks to optimise; the others stay as at the start.
      max_sweeps: most sweeps; static.

    Returns:
      An ``Allocation`` of real lengths.

    Raises:
      ValueError: for an unknown step, or none.
    """
    if not steps or not set(steps) <= set(alternation.STEPS):
        raise ValueError(f"steps must be some of {alternation.STEPS}, got {steps}.")
    steps = tuple(name for name in alternation.STEPS if name in steps)
    if start is None:
        start = problems.equal_plan(problem, problem.max_length)
    start = lax.stop_gradient(start)
    rest = alternation.alternate(lax.stop_gradient(problem), start, steps, max_sweeps)
    plan, status = _at_rest(problem, start, rest.plan, steps)
    last = len(steps) * rest.num_sweeps
    return _allocation(
        problem, plan, rest.history, last, rest.num_sweeps, status, rest.rests
    )


def round_lengths(
    problem: problems.Problem, relaxed: Allocation, max_changes: int = 64
) -> Allocation:
    """Makes lengths whole, and checks every one of them.

    Lengths are optimised as real numbers under bounds of each user, then become the
    better of their two neighbours, then bandwidths and powers are optimised for them.
    The best of these changes is made until none lowers the cost: the bounds are those
    of the problem; one user is bound to the fewest or to the most tokens; all are bound
    to what they have, but for one, who sends a token more or less.

    Args:
      problem: U users.
      relaxed: from ``allocate``.
      max_changes: most changes; static.

    Returns:
      An ``Allocation`` of whole lengths. Not differentiable.
    """
    problem, plan = lax.stop_gradient((problem, relaxed.plan))

    def improves(state):
        return state[-1] & (state[-2] < max_changes)

    def change(state):
        plan, history, count, _ = state
        plans, costs = jax.vmap(lambda low, high: _whole(problem, plan, low, high))(
            *_changed_bounds(problem, jnp.round(plan.lengths))
        )
        best = jnp.argmin(costs)
        better = costs[best] < history[count] * (1.0 - _LEAST_GAIN)
        plan = jax.tree.map(
            lambda new, old: jnp.where(better, new[best], old), plans, plan
        )
        cost = jnp.where(better, costs[best], history[count])
        return plan, history.at[count + better].set(cost), count + better, better

    # The relaxed plan is whole after the first change, so it counts as no plan yet.
    history = jnp.full(max_changes + 2, jnp.inf, relaxed.cost.dtype)
    state = plan, history, jnp.int32(0), jnp.array(True)
    plan, history, count, better = lax.while_loop(improves, change, state)
    count = jnp.maximum(count - 1, 0)
    return _allocation(
        problem, plan, history[1:], count, count, relaxed.status, ~better
    )


def _at_rest(problem, start, plan, steps):
    """The plan with the gradient of a fixed point of the sweep, and its status.

    Bandwidths come first in a sweep, so that lengths and powers are all of its state.
    """

    def swept(logs):
        lengths, powers = jnp.exp(logs)
        return alternation.sweep(
            problem,
            problems.Plan(
                lengths=lengths if "length" in steps else start.lengths,
                bandwidths=start.bandwidths,
                powers=powers if "power" in steps else start.powers,
            ),
            steps,
        )

    def movement(logs):
        after, _ = swept(logs)
        return logs - jnp.log(jnp.stack([after.lengths, after.powers]))

    found = lax.stop_gradient(jnp.log(jnp.stack([plan.lengths, plan.powers])))
    logs = lax.custom_root(movement, found, lambda _, root: root, _solve_dense)
    (_, bandwidths, _), status = swept(logs)
    lengths, powers = jnp.exp(logs)
    return problems.Plan(lengths, bandwidths, powers), status


def _solve_dense(linear, rhs: base.Array) -> base.Array:
    flat, unravel = flatten_util.ravel_pytree(rhs)
    units = jnp.eye(len(flat), dtype=flat.dtype)
    columns = jax.vmap(lambda unit: linear(unravel(unit)).ravel())(units)
    return unravel(jnp.linalg.solve(columns.T, flat))


def _changed_bounds(problem, lengths) -> tuple[base.Array, base.Array]:
    """Lower and upper bounds of lengths, ``[1 + 4 U, U]`` each."""
    one = jnp.eye(len(lengths), dtype=lengths.dtype)
    low = jnp.full_like(one, problem.min_length)
    high = jnp.full_like(one, problem.max_length)
    near = jnp.clip(jnp.concatenate([lengths + one, lengths - one]), low[0], high[0])
    fewest, most = jnp.where(one > 0.0, low, high), jnp.where(one > 0.0, high, low)
    return (
        jnp.concatenate([low[:1], near, low, most]),
        jnp.concatenate([high[:1], near, fewest, high]),
    )


def _whole(problem, plan, low, high) -> tuple[problems.Plan, base.Array]:
    """A plan of whole lengths within bounds ``[U]``, the best nearby, and its cost."""

    def once(_, state):
        plan, low, high = state
        bound = problem._replace(min_length=low, max_length=high)
        # Lengths first, so that the other blocks feel the bounds.
        rest = alternation.alternate(bound, plan, alternation.STEPS[::-1])
        plan = _nearest(bound, rest.plan)
        return plan, plan.lengths, plan.lengths

    # The second time shares both budgets anew, for the whole lengths of the first.
    plan, _, _ = lax.fori_loop(0, 2, once, (plan, low, high))
    return plan, problems.evaluate(problem, plan).cost


def _nearest(problem, plan) -> problems.Plan:
    """The best whole lengths at given rates: neighbours, the cost being convex."""
    lengths = alternation.best_lengths(problem, plan)
    low, high = jnp.floor(lengths), jnp.ceil(lengths)

    def costs(lengths):
        outcome = problems.evaluate(problem, plan._replace(lengths=lengths))
        w = problem.weight
        return w * outcome.latencies + (1.0 - w) * outcome.losses

    return plan._replace(lengths=jnp.where(costs(low) <= costs(high), low, high))


def _allocation(problem, plan, history, last, count, status, is_done) -> Allocation:
    outcome = problems.evaluate(problem, plan)
    history = jnp.where(jnp.arange(len(history)) <= last, history, history[last])
    slack = 8.0 * jnp.finfo(history.dtype).eps * history[:-1]
    is_cut = ~is_done & (status == latency_split.Status.OPTIMAL)
    status = jnp.where(is_cut, latency_split.Status.MAX_ITERATIONS, status)
    return Allocation(
        plan=plan,
        cost=outcome.cost,
        latencies=outcome.latencies,
        losses=outcome.losses,
        history=history,
        is_monotone=jnp.all(history[1:] <= history[:-1] + slack),
        count=count,
        status=status.astype(jnp.int32),
    )
