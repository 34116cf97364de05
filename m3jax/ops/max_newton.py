"""Newton's equations of ``max_interior``, with their elimination.

All arrays are ``[I, K, ...]``, ``[K, ...]``, ``[I, ...]`` or ``[...]``: any further
axes at the end are examples (``batch_last``).
"""

from typing import NamedTuple

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import round_trips

_STAY_INSIDE = 0.98
_LONGEST_STEP = 1.0


class State(NamedTuple):
    """A point: u ``[K]``, T ``[I]``, s and mu ``[I, K]``, the price."""

    logs: base.Array
    blocks: base.Array
    slacks: base.Array
    weights: base.Array
    price: base.Array


class Wrong(NamedTuple):
    """By how much a point misses the equations: right sides of a Newton step."""

    marginal: base.Array  # [K]
    budget: base.Array
    primal: base.Array  # [I, K]
    simplex: base.Array  # [I]
    complement: base.Array  # [I, K], of mu s


class Linear(NamedTuple):
    """Newton's equations at a point, with the matrix of u factored."""

    factor: tuple[base.Array, base.Array]
    scale: base.Array
    along: base.Array  # [K], the solution for the gradient of the budget
    shares: base.Array
    slopes: base.Array  # [I, K], of q t by u; negative
    stiff: base.Array  # [I, K], mu / s
    whole: base.Array  # [I], its sum


def linearise(state, loads, curve, pairs) -> tuple[Linear, Wrong]:
    """Newton's equations at a point, and what it misses them by."""
    active, used = jnp.any(pairs, axis=0), jnp.any(pairs, axis=1)
    slopes = round_trips.at_log(curve, state.logs)
    shares = jnp.where(active, jnp.exp(state.logs), 0.0)
    token_s = slopes.above + jnp.sum(curve.wide, axis=0) + curve.fixed
    times = jnp.where(pairs, loads * token_s, 0.0)
    down = jnp.where(pairs, -loads * slopes.first, 0.0)
    stiff = jnp.where(pairs, state.weights / state.slacks, 0.0)
    whole = jnp.where(used, jnp.sum(stiff, axis=1), 1.0)
    primal = jnp.where(pairs, times + state.slacks - state.blocks[:, None], 0.0)
    # In steps of y = u first / t a block that couples its devices tells nothing of
    # how fast all of them are, but for the differences of their slacks.
    scale = jnp.where(active, token_s / jnp.where(active, slopes.first, 1.0), 1.0)
    pull = stiff * times
    part = pull / whole[:, None]
    couplings = jnp.sum(pull[:, :, None] * part[:, None, :], axis=0)
    rounding = 8.0 * jnp.finfo(times.dtype).eps * state.blocks[:, None]
    apart = state.slacks - jnp.where(jnp.abs(primal) > rounding, primal, 0.0)
    mean = jnp.sum(stiff * apart, axis=1, keepdims=True) / whole[:, None]
    costs = jnp.sum(state.weights * loads, axis=0)
    bend = (costs * slopes.second + state.price * shares) * scale**2
    excess = bend + jnp.sum(jnp.where(pairs, pull * (mean - apart), 0.0), axis=0)
    factor = _factor(couplings, jnp.where(active, excess, 1.0))
    along = scale * _back(factor, scale * shares)
    linear = Linear(factor, scale, along, shares, down, stiff, whole)
    pull = jnp.where(active, -costs * slopes.first, 0.0)
    wrong = Wrong(
        marginal=pull + state.price * shares,
        budget=jnp.where(jnp.any(active, axis=0), jnp.sum(shares, axis=0) - 1.0, 0.0),
        primal=primal,
        simplex=jnp.where(used, jnp.sum(state.weights, axis=1) - 1.0, 0.0),
        complement=jnp.zeros_like(times),
    )
    return linear, wrong


def step(linear: Linear, wrong: Wrong, state: State, pairs) -> State:
    """The step that mends what is wrong, to first order."""
    g, down = linear.stiff, linear.slopes
    loose = jnp.where(pairs, g * wrong.primal - wrong.complement / state.slacks, 0.0)
    common = (jnp.sum(loose, axis=1) + wrong.simplex) / linear.whole
    right = -wrong.marginal - jnp.sum(down * (loose - g * common[:, None]), axis=0)
    logs = linear.scale * _back(linear.factor, linear.scale * right)
    ahead = jnp.sum(linear.shares * linear.along, axis=0)
    price = jnp.sum(linear.shares * logs, axis=0) + wrong.budget
    price = price / jnp.where(ahead > 0.0, ahead, 1.0)
    logs = logs - linear.along * price
    fall = down * logs
    blocks = common + jnp.sum(g * fall, axis=1) / linear.whole
    slacks = jnp.where(pairs, blocks[:, None] - fall - wrong.primal, 0.0)
    weights = jnp.where(pairs, -wrong.complement / state.slacks - g * slacks, 0.0)
    return State(logs, blocks, slacks, weights, price)


def _factor(couplings, excess):
    """Eliminates a symmetric matrix that is given by what cannot cancel.

    Its entries off the diagonal are ``-couplings``, and its rows sum up to ``excess``
    (Alfa, Xue and Ye, Mathematics of Computation 71(237), 2002).

    Returns:
      Ratios, rows of the eliminated, ``[K, K]``, and the diagonal ``[K]``.
    """
    ratios, diagonal = [], []
    for j in range(len(excess)):
        later = [1.0 if k > j else 0.0 for k in range(len(excess))]
        row = couplings[j] * _column(later, excess)
        coupled = jnp.sum(row, axis=0)
        least = jnp.finfo(row.dtype).eps * coupled + 1e-30
        pivot = jnp.maximum(excess[j] + coupled, least)
        ratio = row / pivot
        couplings = couplings + row[:, None] * ratio
        excess = excess + ratio * excess[j]
        ratios.append(ratio)
        diagonal.append(pivot)
    return jnp.stack(ratios), jnp.stack(diagonal)


def _column(values, like):
    """Numbers along the first axis, for all examples."""
    values = jnp.asarray(values, like.dtype)
    return values.reshape((-1,) + (1,) * (like.ndim - 1))


def _back(factor, right):
    """Solves for one right side."""
    ratios, diagonal = factor
    for j in range(len(right)):
        right = right + ratios[j] * right[j]
    right = right / diagonal
    for j in reversed(range(len(right))):
        right = right + ratios[:, j] * right[j]
    return right


def lengths(state: State, change: State, pairs):
    """How far to go in the primal and in the dual, to stay inside."""

    def inside(value, by):
        room = jnp.where(pairs & (by < 0.0), -by / value, 0.0)
        most = jnp.maximum(jnp.max(room, axis=(0, 1)), 1e-20)
        return jnp.minimum(1.0, _STAY_INSIDE / most)

    turned = jnp.maximum(jnp.max(jnp.abs(change.logs), axis=0), 1e-20)
    primal = jnp.minimum(inside(state.slacks, change.slacks), _LONGEST_STEP / turned)
    return primal, inside(state.weights, change.weights)


def move(state: State, change: State, by) -> State:
    """The point after so much of a step, ``by`` being what ``lengths`` gives."""
    primal, dual = by
    return State(
        state.logs + primal * change.logs,
        state.blocks + primal * change.blocks,
        state.slacks + primal * change.slacks,
        state.weights + dual * change.weights,
        state.price + dual * change.price,
    )
