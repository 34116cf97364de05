"""One split of a band for a sum of maxima of round trips.

A sequence passes I blocks, and in block i device k takes ``q_ik t_k(B_k)``; a block
ends with its slowest device, and the bandwidths stay for all blocks (WDMoE, P3):

    minimise sum_i max_k q_ik t_k(B_k)   over B_k >= 0, sum_k B_k = B

Convex, also in the logarithms of the bandwidths. With a latency ``T_i`` for each block
and multipliers ``mu_ik`` of ``q_ik t_k <= T_i``, ``sum_k mu_ik = 1``, the optimum has

    -sum_i mu_ik q_ik dt_k/dB_k = lambda   for all k,   mu_ik (T_i - q_ik t_k) = 0

``sum_of_maxima`` solves this by a primal-dual interior point method; see
``max_interior``.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import equal_levels, latency_split, max_interior, numbers, round_trips


class SequenceSplit(NamedTuple):
    """One split for all blocks.

    Attributes:
      amounts: B_k in Hz, ``[K]``, of sum B.
      latencies: seconds of each device in each block, ``[I, K]``.
      block_s: seconds of each block, ``[I]``.
      value: scalar, seconds, their sum: what is minimised.
      price: scalar, seconds that one more hertz saves.
      weights: mu, ``[I, K]``, of sum 1 in each block with a load: who is waited for.
      gap: scalar, seconds that ``value`` lies above the optimum at most, up to
        rounding; ``inf`` where infeasible.
      residual: scalar, by what share the equations of the optimum are missed: the
        greatest of the marginal latencies' difference, over their sum, and of the
        complementarity, over the value.
      num_iterations: int32 scalar, Newton's steps.
      status: int32 scalar, a ``latency_split.Status``.
    """

    amounts: base.Array
    latencies: base.Array
    block_s: base.Array
    value: base.Array
    price: base.Array
    weights: base.Array
    gap: base.Array
    residual: base.Array
    num_iterations: base.Array
    status: base.Array


def sum_of_maxima(
    loads: base.Array,
    trips: round_trips.Trips,
    total: base.Array,
    max_iterations: int = 40,
) -> SequenceSplit:
    """Bandwidths that minimise the sum of the blocks' latencies.

    Args:
      loads: q, tokens of each device in each block, ``[I, K]``; real. A device idle in
        all blocks gets nothing; a block without tokens takes no time.
      trips: of one token, K devices.
      total: B in Hz, scalar.
      max_iterations: most steps; about fifteen are taken.

    Returns:
      A ``SequenceSplit``. Amounts, latencies and values are differentiable by all
      arguments, by the equations of the optimum: of the value, that is the mean over
      who is waited for, with ``weights``. Where two devices tie without need, of the
      interval of slopes the one of the central path is taken, on which
      ``mu (T - q t)`` is the same small number for both. By a load of 0 the slope is
      0, as it is for a device that is at work in another block.

      INFEASIBLE where somebody with tokens has no link, or the band is not positive;
      all derivatives are then 0.

    Example:
      >>> trips = round_trips.Trips(1e6, 1e6, jnp.full(2, 5e6), jnp.full(2, 5e6), 0.1)
      >>> split = sum_of_maxima(jnp.array([[1.0, 3.0], [3.0, 1.0]]), trips, 1e6)
      >>> [round(hertz, -3) for hertz in split.amounts.tolist()]
      [500000.0, 500000.0]
    """
    loads, trips, total, feasible = round_trips.feasible_part(loads, trips, total)
    curve, possible = round_trips.make_curve(trips, total)
    has_band = (total > 0.0) & (total < jnp.inf)
    counts = (loads > 0.0) & (loads < jnp.inf) & possible & has_band
    active = jnp.any(counts, axis=0)
    used = jnp.where(counts, loads, 0.0)
    shares, weights, residual, count = max_interior.solve(used, curve, max_iterations)
    token_s = round_trips.at(curve, jnp.where(active, shares, 1.0))
    latencies = jnp.where(counts, loads * token_s, 0.0)
    latencies = jnp.where(counts | (loads == 0.0), latencies, jnp.inf)
    stop = lax.stop_gradient
    bound, marginals = _tangent_bound(used, curve, shares, weights)
    block_s = jnp.max(latencies, axis=1)
    value = jnp.sum(block_s)
    gap = jnp.maximum(stop(value) - bound, 0.0)
    close = gap <= max_interior.tolerance(gap.dtype) * 10.0 * value
    status = jnp.where(
        close, latency_split.Status.OPTIMAL, latency_split.Status.MAX_ITERATIONS
    )
    status = jnp.where(feasible, status, latency_split.Status.INFEASIBLE)
    amounts, latencies, block_s, value = numbers.gated(
        (shares * total, latencies, block_s, value), feasible
    )
    return SequenceSplit(
        amounts=amounts,
        latencies=latencies,
        block_s=block_s,
        value=value,
        price=stop(jnp.sum(shares * marginals) / jnp.where(has_band, total, 1.0)),
        weights=stop(weights),
        gap=stop(jnp.where(feasible, gap, jnp.inf)),
        residual=stop(residual),
        num_iterations=count.astype(jnp.int32),
        status=status.astype(jnp.int32),
    )


def lower_bound(
    loads: base.Array,
    trips: round_trips.Trips,
    total: base.Array,
    weights: base.Array,
) -> base.Array:
    """Seconds that no split is faster than, from any weights of the blocks' devices.

        min_B sum_k (sum_i mu_ik q_ik) t_k(B_k)  <=  min_B sum_i max_k q_ik t_k(B_k)

    as a maximum is no less than a mean. The left side is solved to equal marginal
    latencies, and of that point the tangent is taken, which is below even where it is
    not solved.

    Args:
      loads: q, ``[I, K]``.
      trips: of one token, K devices.
      total: B in Hz, scalar.
      weights: mu, ``[I, K]``, not negative; divided by their sums over k.

    Returns:
      Scalar, seconds.
    """
    numbers.require_some(loads, "loads")
    loads, total, weights = numbers.as_floats(loads, total, weights)
    curve, _ = round_trips.make_curve(trips, total)
    known = jnp.sum(loads) + jnp.sum(weights) + total  # NaN if one of them is
    weights = jnp.where(loads > 0.0, weights, 0.0)
    whole = jnp.sum(weights, axis=1, keepdims=True)
    weights = weights / jnp.where(whole > 0.0, whole, 1.0)
    costs = jnp.sum(weights * loads, axis=0)
    weighed = costs > 0.0

    def log_marginals(log_shares):
        slopes = round_trips.at_log(curve, log_shares)
        first = jnp.where(weighed, costs * slopes.first, 1.0)
        return jnp.log(first) - log_shares

    found = equal_levels.equalise(log_marginals, weighed & jnp.any(loads > 0, axis=0))
    bound = _tangent_bound(loads, curve, found.shares, weights)[0]
    return jnp.where(jnp.isnan(known), jnp.nan, bound)


def _tangent_bound(loads, curve, shares, weights):
    """A lower bound by the tangent at shares, and marginal latencies ``[K]``.

    ``sum_k w_k t_k`` is convex in the shares, so its least value on the simplex is at
    most ``max m - sum x m`` below that at x, with m the slopes (Jaggi, ICML 2013,
    equation 2). A device that nobody weighs has a slope of 0.
    """
    costs = jnp.sum(weights * loads, axis=0)
    weighed = (costs > 0.0) & (shares > 0.0)
    safe = jnp.where(weighed, shares, 1.0)
    slopes = round_trips.at_log(curve, jnp.log(safe))
    marginals = jnp.where(weighed, costs * slopes.first / safe, 0.0)
    value = jnp.sum(jnp.where(weighed, costs * round_trips.at(curve, safe), 0.0))
    spare = jnp.max(marginals) - jnp.sum(shares * marginals)
    return lax.stop_gradient(value - jnp.maximum(spare, 0.0)), marginals
