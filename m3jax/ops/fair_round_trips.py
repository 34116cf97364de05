"""Bandwidths that end the round trips of all devices at once.

One block of WDMoE (problem P3 with I = 1): device k takes ``q_k t_k(B_k)`` for its
tokens, the block waits for the slowest, and the band is shared. Latencies fall with
bandwidth, so at the optimum they are equal.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import batch_last, latency_split, numbers, round_trips

_LONGEST_STEP = 5.0
_ROUNDINGS = 1e3
"""An error of so many units in the last place counts as solved: the step that is still
taken from there squares it."""


def fair_bandwidths(
    loads: base.Array,
    trips: round_trips.Trips,
    total: base.Array,
    max_iterations: int = 40,
) -> latency_split.Split:
    """Bandwidths that minimise the greatest latency.

        minimise max_k q_k t_k(B_k)   over B_k >= 0, sum_k B_k = B

    With T the common latency and T_0 what no bandwidth is faster than, Newton's steps
    are taken for ``log B_k`` and, in ``1 / sum_k B_k(T)``, for ``T - T_0``: that is
    concave in T where ``B_k`` goes as ``1 / (T - T_k)``, so the steps come from below
    and never turn. ``latency_split.fair_bandwidths`` is the case of one direction and
    no computing.

    Args:
      loads: q, tokens of each device, ``[K]``; real; 0 is an idle device, which gets
        nothing and takes no time.
      trips: of one token, K devices.
      total: B in Hz, scalar.
      max_iterations: most steps; four to eight are taken.

    Returns:
      A ``latency_split.Split`` of the bandwidth. Amounts, latencies and value are
      differentiable by all arguments (implicit function theorem); by a load of 0 the
      slope, which is infinite, is taken as 0. INFEASIBLE where somebody with tokens
      has no link, or the band is not positive; all derivatives are then 0.

    Example:
      >>> trips = round_trips.Trips(1e6, 1e6, jnp.full(2, 5e6), jnp.full(2, 5e6), 0.1)
      >>> split = fair_bandwidths(jnp.array([1.0, 3.0]), trips, 1e6)
      >>> [round(seconds, 2) for seconds in split.latencies.tolist()]
      [2.82, 2.82]
    """
    loads, trips, total, feasible = round_trips.feasible_part(loads, trips, total)
    curve, possible = round_trips.make_curve(trips, total)
    has_band = (total > 0.0) & (total < jnp.inf)
    active = (loads > 0.0) & (loads < jnp.inf) & possible & has_band
    shares, (error, count) = solve(loads, curve, active, max_iterations)
    safe = jnp.where(active, shares, 1.0)
    latencies = jnp.where(active, loads * round_trips.at(curve, safe), 0.0)
    latencies = jnp.where(active | (loads == 0.0), latencies, jnp.inf)
    value = jnp.max(latencies)
    # No split makes all faster than the fastest is.
    fastest = jnp.min(jnp.where(active, latencies, jnp.inf))
    slowest = jnp.max(jnp.where(active, latencies, 0.0))
    gap = jnp.where(jnp.any(active), jnp.maximum(slowest - fastest, 0.0), 0.0)
    slopes = round_trips.at_log(curve, jnp.log(safe))
    widths = jnp.where(active, safe / (loads * slopes.first), 0.0)
    price = jnp.where(jnp.any(active), 1.0 / jnp.sum(widths) / total, 0.0)
    status = jnp.where(
        error <= _ROUNDINGS * jnp.finfo(error.dtype).eps,
        latency_split.Status.OPTIMAL,
        latency_split.Status.MAX_ITERATIONS,
    )
    status = jnp.where(feasible, status, latency_split.Status.INFEASIBLE)
    stop = lax.stop_gradient
    amounts, latencies, value = numbers.gated(
        (shares * total, latencies, value), feasible
    )
    return latency_split.Split(
        amounts=amounts,
        latencies=latencies,
        value=value,
        price=stop(price),
        gap=stop(jnp.where(feasible, gap, jnp.inf)),
        residual=stop(jnp.where(slowest > 0.0, gap / jnp.maximum(slowest, 1e-30), 0.0)),
        num_iterations=count.astype(jnp.int32),
        status=status.astype(jnp.int32),
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def solve(loads, curve, active, max_iterations):
    """Shares of equal latency, of sum 1, without any of the checks.

    Args:
      loads: q, ``[K]``.
      curve: of the devices.
      active: bool ``[K]``, who takes part; if nobody, all get the same.
      max_iterations: most steps; static.

    Returns:
      Shares ``[K]``, differentiable, and (error of the last step, number of steps).
    """
    steps = functools.partial(iterate, max_iterations=max_iterations)
    return batch_last.batch_last(steps)(loads, curve, active)


def iterate(loads, curve, active, max_iterations):
    """The steps of ``solve``; all arrays may have further axes at their ends."""
    loads = jnp.where(active, loads, 1.0)
    someone = jnp.any(active, axis=0)
    share = 1.0 / jnp.maximum(jnp.sum(active, axis=0), 1).astype(loads.dtype)
    floors = loads * (jnp.sum(curve.wide, axis=0) + curve.fixed)
    floors = jnp.where(active, floors, -jnp.inf)
    below = jnp.where(active, jnp.max(floors, axis=0) - floors, 0.0)  # T_0 - T_k
    solved = _ROUNDINGS * jnp.finfo(loads.dtype).eps

    def positive(values):  # of those who take part
        return jnp.where(active & (values > 0.0), values, 1.0)

    # Nobody is faster than with the whole band.
    whole = loads * round_trips.at_log(curve, jnp.zeros_like(loads)).above - below
    least = jnp.max(jnp.where(active, whole, -jnp.inf), axis=0)
    least = jnp.where(least > 0.0, least, 1.0)

    def step(state):
        logs, above, error, count = state
        slopes = round_trips.at_log(curve, logs)
        steepness = positive(slopes.first) / positive(slopes.above)
        apart = jnp.log(positive(slopes.above)) - jnp.log((below + above) / loads)
        move = jnp.clip(apart / steepness, -_LONGEST_STEP, _LONGEST_STEP)
        logs = jnp.where(active, logs + move, 0.0)
        shares = jnp.where(active, jnp.exp(logs), 0.0)
        used = jnp.sum(shares, axis=0)
        falls = jnp.sum(shares / (steepness * (below + above)), axis=0)
        worst = jnp.max(jnp.where(active, jnp.abs(apart), 0.0), axis=0)
        change = used * (used - 1.0) / jnp.where(falls > 0.0, falls, 1.0)
        change = jnp.maximum(above + change, least) - above
        follow = -change / (steepness * (below + above))
        follow = jnp.clip(follow, -_LONGEST_STEP, _LONGEST_STEP)
        logs = jnp.where(active, logs + follow, 0.0)
        count = count + (error > solved)
        error = jnp.maximum(worst, jnp.abs(used - 1.0))
        return logs, above + change, jnp.where(someone, error, 0.0), count

    def unfinished(state):
        _, _, error, count = state
        return jnp.any((error > solved) & (count < max_iterations))

    start = jnp.where(active, jnp.log(share), 0.0)
    error = jnp.where(someone, jnp.inf, 0.0).astype(loads.dtype)
    state = start, least, error, jnp.zeros_like(someone, jnp.int32)
    logs, _, error, count = lax.while_loop(unfinished, step, state)
    # If nobody sends, all share.
    shares = jnp.where(active | ~someone, jnp.exp(logs), 0.0)
    shares = shares / jnp.sum(shares, axis=0)
    return shares, (error, count.astype(error.dtype))


@solve.defjvp
def _solve_jvp(max_iterations, primals, tangents):
    """From ``d(q_k t_k) = dT`` for all k and ``sum_k dx_k = 0``."""
    loads, curve, active = primals
    loads_dot, curve_dot, _ = tangents
    shares, (error, count) = solve(*primals, max_iterations)
    safe = jnp.where(active, shares, 1.0)

    def latencies(loads, curve):
        return loads * round_trips.at(curve, safe)

    _, moved = jax.jvp(latencies, (loads, curve), (loads_dot, curve_dot))
    moved = jnp.where(active, moved, 0.0)
    slopes = loads * round_trips.at_log(curve, jnp.log(safe)).first
    widths = jnp.where(active, shares / jnp.where(active, slopes, 1.0), 0.0)
    whole = jnp.sum(widths)
    common = jnp.sum(widths * moved) / jnp.where(whole > 0.0, whole, 1.0)
    nothing = jnp.zeros_like(error), jnp.zeros_like(count)
    return (shares, (error, count)), (widths * (moved - common), nothing)
