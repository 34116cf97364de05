"""The interior point method behind ``sum_of_maxima``.

Unknowns are the logarithms u of the shares, latencies T of the blocks, slacks s and
multipliers mu, and the price. Of Newton's equations all but the K for u are eliminated
by hand (``max_newton``), so a step costs O(I K^2); predictor and corrector (Mehrotra,
SIAM J. Optimization 2(4), 1992) share one factorisation. Differences of great numbers
are never taken: what couples the devices of a block is summed as a graph's Laplacian,
so that float32 does.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import batch_last, fair_round_trips, max_newton, round_trips

_FAR = 0.05  # a residual above which the barrier falls only
_SLOWLY = 0.1  # to this share in a step
_LAST = 0.1  # of what may be left of the gap, the barrier's share
_PATIENCE = 8  # steps that make nothing better; then rounding is reached
_SLACK = 0.3  # of the first T over the slowest device


def tolerance(dtype) -> float:
    """Gap over value at which a point counts as solved."""
    return 2e-6 if jnp.finfo(dtype).eps > 1e-10 else 1e-10


def solve(loads: base.Array, curve: round_trips.Curve, max_iterations: int):
    """Shares of least ``sum_i max_k q_ik t_k``.

    Args:
      loads: q, ``[I, K]``; 0 where a device has nothing to do.
      curve: of the devices.
      max_iterations: most steps.

    Returns:
      Shares ``[K]`` of sum 1, differentiable by loads and curve; weights ``[I, K]``;
      the residual; the number of steps.
    """
    shares, rest = _solve(loads, curve, max_iterations)
    state, residual, count = rest
    whole = jnp.sum(state.weights, axis=1, keepdims=True)
    weights = state.weights / jnp.where(whole > 0.0, whole, 1.0)
    return shares, weights, residual, count


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _solve(loads, curve, max_iterations):
    steps = functools.partial(_iterate, max_iterations=max_iterations)
    shares, rest = batch_last.batch_last(steps)(loads, curve)
    return shares, rest


@_solve.defjvp
def _solve_jvp(max_iterations, primals, tangents):
    """The equations at rest move; u follows, with mu s held."""
    loads, curve = primals
    loads_dot, curve_dot = tangents
    shares, rest = _solve(loads, curve, max_iterations)
    state = rest[0]
    pairs = loads > 0.0
    active = jnp.any(pairs, axis=0)
    unit = _unit(loads, curve, active)
    linear, _ = max_newton.linearise(state, loads / unit, curve, pairs)

    def moved(loads, curve):
        slopes = round_trips.at_log(curve, state.logs)
        floor = jnp.sum(curve.wide, axis=0) + curve.fixed
        costs = jnp.sum(state.weights * loads, axis=0)
        return loads * (slopes.above + floor), -costs * slopes.first

    loads_dot = jnp.where(pairs, loads_dot, 0.0)
    _, (primal, marginal) = jax.jvp(
        moved, (loads / unit, curve), (loads_dot / unit, curve_dot)
    )
    wrong = max_newton.Wrong(
        marginal=jnp.where(active, marginal, 0.0),
        budget=jnp.zeros_like(state.price),
        primal=jnp.where(pairs, primal, 0.0),
        simplex=jnp.zeros_like(state.blocks),
        complement=jnp.zeros_like(loads),
    )
    step = max_newton.step(linear, wrong, state, pairs)
    shares_dot = shares * jnp.where(active, step.logs, 0.0)
    shares_dot = shares_dot - shares * jnp.sum(shares_dot)
    return (shares, rest), (shares_dot, jax.tree.map(jnp.zeros_like, rest))


# What follows works on arrays ``[I, K, ...]``, ``[K, ...]``, ``[I, ...]``, ``[...]``:
# any further axes at the end are examples (``batch_last``).


def _unit(loads, curve, active):
    """Seconds of a mean block at even shares."""
    even = 1.0 / jnp.maximum(jnp.sum(active, axis=0), 1).astype(loads.dtype)
    token_s = round_trips.at(curve, jnp.broadcast_to(even, curve.fixed.shape))
    slowest = jnp.max(jnp.where(loads > 0.0, loads * token_s, 0.0), axis=1)
    unit = jnp.mean(slowest, axis=0)
    return lax.stop_gradient(jnp.where((unit > 0.0) & (unit < jnp.inf), unit, 1.0))


def _iterate(loads, curve, max_iterations):
    pairs = loads > 0.0
    active = jnp.any(pairs, axis=0)
    someone = jnp.any(active, axis=0)
    loads = loads / _unit(loads, curve, active)
    num_pairs = jnp.maximum(jnp.sum(pairs, axis=(0, 1)), 1).astype(loads.dtype)
    target = 0.5 * tolerance(loads.dtype)

    def over_pairs(values):
        return jnp.sum(jnp.where(pairs, values, 0.0), axis=(0, 1)) / num_pairs

    def open_(residual, count, since):
        return (residual > target) & (count < max_iterations) & (since < _PATIENCE)

    def unfinished(carry):
        _, _, residual, _, count, since = carry
        return jnp.any(open_(residual, count, since))

    def step(carry):
        state, best, residual, now, count, since = carry
        linear, wrong = max_newton.linearise(state, loads, curve, pairs)
        products = state.weights * state.slacks
        mean = over_pairs(products)
        affine = max_newton.step(
            linear, wrong._replace(complement=products), state, pairs
        )
        ahead = max_newton.move(state, affine, max_newton.lengths(state, affine, pairs))
        left = jnp.clip(over_pairs(ahead.weights * ahead.slacks) / mean, 0.0, 1.0)
        # No faster than the other equations are met, and no further than is asked.
        centre = mean * jnp.maximum(left**3, jnp.where(now > _FAR, _SLOWLY, 0.0))
        value = jnp.sum(jnp.where(jnp.any(pairs, axis=1), state.blocks, 0.0), axis=0)
        centre = jnp.maximum(centre, _LAST * target * value / num_pairs)
        aim = products + affine.weights * affine.slacks - centre
        aim = jnp.where(pairs, aim, 0.0)
        step = max_newton.step(linear, wrong._replace(complement=aim), state, pairs)
        state = max_newton.move(state, step, max_newton.lengths(state, step, pairs))
        reached = _residual(state, loads, curve, pairs)
        count = count + open_(residual, count, since)
        better = reached < residual
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state, best)
        residual = jnp.where(better, reached, residual)
        return state, best, residual, reached, count, jnp.where(better, 0, since + 1)

    state = _start(loads, curve, pairs)
    residual = jnp.where(someone, jnp.inf, 0.0).astype(loads.dtype)
    none = jnp.zeros_like(someone, jnp.int32)
    carry = state, state, residual, residual, none, none
    _, best, residual, _, count, _ = lax.while_loop(unfinished, step, carry)
    # If nobody has tokens, all share.
    shares = jnp.where(active | ~someone, jnp.exp(best.logs), 0.0)
    shares = shares / jnp.sum(shares, axis=0)
    return shares, (best, residual, count.astype(residual.dtype))


def _start(loads, curve, pairs) -> max_newton.State:
    active = jnp.any(pairs, axis=0)
    fair, _ = fair_round_trips.iterate(jnp.sum(loads, axis=0), curve, active, 6)
    logs = jnp.where(active, jnp.log(jnp.where(active, fair, 1.0)), 0.0)
    slopes = round_trips.at_log(curve, logs)
    token_s = slopes.above + jnp.sum(curve.wide, axis=0) + curve.fixed
    times = jnp.where(pairs, loads * token_s, 0.0)
    used = jnp.any(pairs, axis=1)
    blocks = jnp.where(used, (1.0 + _SLACK) * jnp.max(times, axis=1), 1.0)
    slacks = jnp.where(pairs, blocks[:, None] - times, 1.0)
    weights = jnp.where(pairs, 1.0 / slacks, 0.0)
    whole = jnp.sum(weights, axis=1, keepdims=True)
    weights = weights / jnp.where(whole > 0.0, whole, 1.0)
    costs = jnp.sum(weights * loads, axis=0)
    price = jnp.sum(jnp.where(active, costs * slopes.first, 0.0), axis=0)
    return max_newton.State(logs, blocks, slacks, weights, price)


def _residual(state, loads, curve, pairs):
    """The equations of the optimum, each over its measure; the greatest."""
    active, used = jnp.any(pairs, axis=0), jnp.any(pairs, axis=1)
    someone = jnp.any(active, axis=0)
    slopes = round_trips.at_log(curve, state.logs)
    shares = jnp.where(active, jnp.exp(state.logs), 0.0)
    token_s = slopes.above + jnp.sum(curve.wide, axis=0) + curve.fixed
    times = jnp.where(pairs, loads * token_s, 0.0)
    costs = jnp.sum(state.weights * loads, axis=0)
    pulls = jnp.where(active, costs * slopes.first, 0.0)
    value = jnp.sum(jnp.where(used, state.blocks, 0.0), axis=0)
    off = jnp.sum(jnp.abs(pulls - state.price * shares), axis=0)
    products = jnp.where(pairs, state.weights * state.slacks, 0.0)
    primal = jnp.where(
        pairs, jnp.abs(times + state.slacks - state.blocks[:, None]), 0.0
    )
    value = jnp.maximum(value, 1e-30)
    return functools.reduce(
        jnp.maximum,
        (
            off / jnp.maximum(jnp.sum(pulls, axis=0), 1e-30),
            jnp.sum(products, axis=(0, 1)) / value,
            jnp.sum(jnp.max(primal, axis=1), axis=0) / value,
            jnp.where(someone, jnp.abs(jnp.sum(shares, axis=0) - 1.0), 0.0),
        ),
    )
