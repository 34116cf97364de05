"""Bandwidth or power for several senders, so that their latencies are least.

Sender u has a load of a_u bits (times its weight, if latencies are weighted) and the
rate of Shannon's formula,

    T_u = a_u / (B_u log2(1 + p_u g_u / B_u))

with B_u its bandwidth in Hz, p_u its power in W and g_u its path gain over the noise
density in Hz/W. A load of 0 means that nobody is there: it gets nothing and takes no
time. All functions are for one split: ``vmap`` over many. They compute with logarithms
of SNRs and shares, so that float32 bears SNRs from -250 to 250 dB.
"""

import enum
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import equal_levels, numbers

_LN2 = math.log(2.0)
_LEAST_SNR = 1e-25
_MOST_SNR = 1e25
_LAST_STEP = 1e-5
_SERIES_BELOW = 0.2
_SERIES_TERMS = 9  # (0.2 / 1.8)^18 is beyond float64


class Status(enum.IntEnum):
    """How a split ended.

    Attributes:
      OPTIMAL: the equations of the optimum hold.
      INFEASIBLE: the budget or an argument is negative, infinite or NaN, or somebody
        with a load cannot send at all. Those who can share the budget, and all
        derivatives are 0.
      MAX_ITERATIONS: not solved; ``residual`` and ``gap`` tell how far it is.
    """

    OPTIMAL = 0
    INFEASIBLE = 1
    MAX_ITERATIONS = 2


class Split(NamedTuple):
    """How a budget is split.

    Attributes:
      amounts: ``[U]``, in the unit of the budget, which is their sum.
      latencies: ``[U]``, seconds.
      value: scalar, seconds, what is minimised: the sum or the greatest of latencies.
      price: scalar, seconds that one more unit of the budget saves.
      gap: scalar, seconds that ``value`` lies above the optimum at most, up to
        rounding; ``inf`` where infeasible; constant for gradients, as all below.
      residual: scalar: by what share the marginal latencies (for the least sum) or the
        latencies (for the least maximum) differ from a common one.
      num_iterations: int32 scalar, Newton's steps.
      status: int32 scalar, a ``Status``.
    """

    amounts: base.Array
    latencies: base.Array
    value: base.Array
    price: base.Array
    gap: base.Array
    residual: base.Array
    num_iterations: base.Array
    status: base.Array


def latency(loads: base.Array, bandwidths: base.Array, cn0: base.Array) -> base.Array:
    """Time to send a load at Shannon's rate.

        T = a / (B log2(1 + c / B))

    Args:
      loads: a in bits, any shape.
      bandwidths: B in Hz, broadcastable.
      cn0: c, received power over noise density, ``p g``, in Hz, broadcastable.

    Returns:
      Seconds; 0 for a load of 0, else ``inf`` where there is no band or no power.

    Example:
      >>> float(latency(6e6, 1e6, 7e6))  # an SNR of 7: 3 bits per second and hertz
      2.0
    """
    loads, bandwidths, cn0 = jnp.broadcast_arrays(
        *numbers.as_floats(loads, bandwidths, cn0)
    )
    sends = (bandwidths > 0.0) & (cn0 > 0.0)
    band, cn0 = (jnp.where(sends, value, 1.0) for value in (bandwidths, cn0))
    seconds = jnp.where(sends, _seconds(loads, band, cn0), jnp.inf)
    return jnp.where(loads == 0.0, 0.0, seconds)


def bandwidths(loads: base.Array, cn0: base.Array, total: base.Array) -> Split:
    """Bandwidths that minimise the sum of latencies at fixed powers.

        minimise sum_u a_u / (B_u log2(1 + c_u / B_u))   over B_u >= 0, sum_u B_u = B

    The rate is concave in B_u, so its inverse is convex, and at the optimum all
    marginal latencies are equal (Boyd and Vandenberghe, Convex Optimization, 2004,
    section 5.5.3). With ``t = c_u / B_u`` they are

        -dT_u/dB_u = a_u log(2) (log(1 + t) - t / (1 + t)) / (B_u log(1 + t))^2

    Args:
      loads: a in bits, times weights if there are any, ``[U]``.
      cn0: c, received power over noise density, in Hz, ``[U]``.
      total: B in Hz, scalar.

    Returns:
      A ``Split`` of the bandwidth, differentiable by all arguments (implicit function
      theorem). By a load of 0 the slope, which is infinite, is taken as 0.

    Example:
      >>> split = bandwidths(jnp.array([1e6, 4e6]), jnp.array([5e6, 5e6]), 1e6)
      >>> split.amounts.round(-4).tolist(), Status(int(split.status)).name
      ([320000.0, 680000.0], 'OPTIMAL')
    """
    loads, cn0, total = numbers.as_floats(loads, cn0, total)
    feasible = _is_feasible(loads / total, cn0 / total, total)
    loads, cn0, total = numbers.gated((loads, cn0, total), feasible)
    problem = _normalise(loads / total, cn0 / total, total)

    def log_marginals(log_shares):
        log_t = problem.log_snr - log_shares
        bend = _bend(log_t)
        over = 2.0 * (log_shares + _log_over(log_t, bend))
        return problem.log_work + jnp.log(bend) - over

    found = equal_levels.equalise(log_marginals, problem.active)
    latencies = latency(loads, found.shares * total, cn0)
    return _least_sum(problem, found, latencies, total)


def fair_bandwidths(loads: base.Array, cn0: base.Array, total: base.Array) -> Split:
    """Bandwidths that minimise the greatest latency at fixed powers.

        minimise max_u a_u / (B_u log2(1 + c_u / B_u))   over B_u >= 0, sum_u B_u = B

    Latencies fall with bandwidth, so at the optimum they are equal.

    Args:
      loads: a in bits, ``[U]``.
      cn0: c, received power over noise density, in Hz, ``[U]``.
      total: B in Hz, scalar.

    Returns:
      A ``Split`` of the bandwidth, differentiable as that of ``bandwidths``.

    Example:
      >>> split = fair_bandwidths(jnp.array([1e6, 4e6]), jnp.array([5e6, 5e6]), 1e6)
      >>> [round(seconds, 2) for seconds in split.latencies.tolist()]
      [1.65, 1.65]
    """
    loads, cn0, total = numbers.as_floats(loads, cn0, total)
    feasible = _is_feasible(loads / total, cn0 / total, total)
    loads, cn0, total = numbers.gated((loads, cn0, total), feasible)
    problem = _normalise(loads / total, cn0 / total, total)

    def log_latencies(log_shares):
        log_t = problem.log_snr - log_shares
        wide = problem.log_work - problem.log_snr  # what unlimited bandwidth takes
        return wide + jax.nn.softplus(log_t) - _log_over(log_t, _bend(log_t))

    found = equal_levels.equalise(log_latencies, problem.active)
    widths = _widths(problem, found.shares)
    latencies = latency(loads, found.shares * total, cn0)
    found = found._replace(shares=_polish(problem, found.shares, latencies, widths))
    latencies = latency(loads, found.shares * total, cn0)
    value = jnp.max(latencies)
    price = value / (total * jnp.sum(widths))
    # No split makes all faster than the fastest is.
    fastest = jnp.min(jnp.where(problem.active, latencies, jnp.inf))
    slowest = jnp.max(jnp.where(problem.active, latencies, 0.0))
    gap = jnp.maximum(slowest - fastest, 0.0)
    return _split(problem, found, latencies, total, value, price, gap)


def powers(
    loads: base.Array, bandwidths: base.Array, gains: base.Array, total: base.Array
) -> Split:
    """Powers that minimise the sum of latencies at fixed bandwidths.

        minimise sum_u a_u / (B_u log2(1 + g_u p_u / B_u))
        over p_u >= 0, sum_u p_u = P

    Convex as ``bandwidths`` is. Unlike water-filling, which maximises the sum of rates
    (``ops/water_filling.py``), it leaves nobody who has a load without power.

    Args:
      loads: a in bits, times weights if there are any, ``[U]``.
      bandwidths: B_u in Hz, ``[U]``.
      gains: g, path gain over noise density, in Hz/W, ``[U]``.
      total: P in W, scalar.

    Returns:
      A ``Split`` of the power, differentiable as that of ``bandwidths``.

    Example:
      >>> split = powers(jnp.ones(2), jnp.ones(2), jnp.array([1.0, 100.0]), 1.0)
      >>> [round(watts, 2) for watts in split.amounts.tolist()]
      [0.89, 0.11]
    """
    loads, bandwidths, gains, total = numbers.as_floats(loads, bandwidths, gains, total)
    has_band = (bandwidths > 0.0) & (bandwidths < jnp.inf)
    band = jnp.where(has_band, bandwidths, 1.0)
    snr = jnp.where(has_band, gains / band * total, 0.0)
    feasible = _is_feasible(loads / band, snr, total)
    given = numbers.gated((loads, bandwidths, gains, total), feasible)
    loads, bandwidths, gains, total = given
    band = jnp.where(has_band, bandwidths, 1.0)
    snr = jnp.where(has_band, gains / band * total, 0.0)
    problem = _normalise(loads / band, snr, total)

    def log_marginals(log_shares):
        log_t = problem.log_snr + log_shares
        rate = log_t - jax.nn.softplus(log_t) + 2.0 * _log_over(log_t, _bend(log_t))
        return problem.log_work - log_shares - rate

    found = equal_levels.equalise(log_marginals, problem.active)
    latencies = latency(loads, bandwidths, gains * found.shares * total)
    return _least_sum(problem, found, latencies, total)


class _Problem(NamedTuple):
    """A problem in numbers about 1, with safe ones where nobody sends."""

    log_work: base.Array
    log_snr: base.Array
    unit: base.Array
    active: base.Array
    feasible: base.Array


def _is_feasible(work: base.Array, snr: base.Array, total: base.Array) -> base.Array:
    """Whether there is a budget, and everybody with work can send."""
    has_budget = (total > 0.0) & (total < jnp.inf)
    return has_budget & jnp.all(_can_send(work, snr) | (work == 0.0))


def _can_send(work: base.Array, snr: base.Array) -> base.Array:
    return (work > 0.0) & (work < jnp.inf) & (snr > 0.0) & (snr < jnp.inf)


def _normalise(work: base.Array, snr: base.Array, total: base.Array) -> _Problem:
    """Work over the greatest, and the SNR that the whole budget gives each."""
    numbers.require_some(work, "loads")
    has_budget = (total > 0.0) & (total < jnp.inf)
    active = _can_send(work, snr) & has_budget
    greatest = jnp.max(jnp.where(active, work, 0.0))
    greatest = jnp.where(greatest > 0.0, greatest, 1.0)
    feasible = _is_feasible(work, snr, total)
    snr = jnp.clip(jnp.where(active, snr, 1.0), _LEAST_SNR, _MOST_SNR)
    return _Problem(
        log_work=jnp.log(jnp.where(active, work / greatest, 1.0)),
        log_snr=jnp.log(snr),
        unit=greatest * _LN2,
        active=active | ~jnp.any(active),  # if nobody sends, all share
        feasible=feasible,
    )


def _least_sum(
    problem: _Problem,
    found: equal_levels.Levels,
    latencies: base.Array,
    total: base.Array,
) -> Split:
    """A split of least sum, from the logarithms of its marginal latencies."""
    marginal = problem.unit * jnp.exp(found.level)
    # A convex sum of slopes -s_u is at most max s - sum x_u s_u above its minimum
    # (Jaggi, ICML 2013, equation 2).
    excess = jnp.where(problem.active, jnp.expm1(found.levels - found.level), -1.0)
    gap = marginal * (jnp.max(excess) - jnp.sum(found.shares * excess))
    gap = jnp.maximum(gap, 0.0)
    value, price = jnp.sum(latencies), marginal / total
    return _split(problem, found, latencies, total, value, price, gap)


def _split(problem, found, latencies, total, value, price, gap) -> Split:
    status = jnp.where(found.converged, Status.OPTIMAL, Status.MAX_ITERATIONS)
    status = jnp.where(problem.feasible, status, Status.INFEASIBLE)
    amounts = found.shares * total
    amounts, latencies, value, price = numbers.gated(
        (amounts, latencies, value, price), problem.feasible
    )
    return Split(
        amounts=amounts,
        latencies=latencies,
        value=value,
        price=price,
        gap=lax.stop_gradient(jnp.where(problem.feasible, gap, jnp.inf)),
        residual=found.residual,
        num_iterations=found.num_iterations,
        status=status.astype(jnp.int32),
    )


def _widths(problem: _Problem, shares: base.Array) -> base.Array:
    """``-dx_u / dlog T_u``; 0 where nobody sends."""
    log_t = problem.log_snr - jnp.log(jnp.where(problem.active, shares, 1.0))
    over = jnp.expm1(_log_over(log_t, _bend(log_t)))
    return jnp.where(problem.active, shares * (1.0 + 1.0 / over), 0.0)


def _polish(problem, shares, latencies, widths) -> base.Array:
    """Newton's step by latencies that no logarithm has rounded; for the last digit."""
    greatest = jnp.max(jnp.where(problem.active, latencies, 0.0))
    known = problem.active & (greatest > 0.0) & (greatest < jnp.inf)
    ratio = jnp.where(known, latencies / jnp.where(known, greatest, 1.0), 1.0) - 1.0
    step = widths * (ratio - jnp.sum(widths * ratio) / jnp.sum(widths))
    step = jnp.clip(step, -_LAST_STEP * shares, _LAST_STEP * shares)
    # Whoever feels it least pays for the others.
    payer = jnp.arange(len(shares)) == jnp.argmax(widths)
    step = jnp.where(payer, step - jnp.sum(step), step)
    return shares + lax.stop_gradient(step)


@jax.custom_jvp
def _seconds(loads: base.Array, band: base.Array, cn0: base.Array) -> base.Array:
    return loads * _LN2 / (band * jnp.log1p(cn0 / band))


@_seconds.defjvp
def _seconds_jvp(primals, tangents):
    """By elasticities: JAX's own slope of a quotient squares what is divided by."""
    (loads, band, cn0), (loads_dot, band_dot, cn0_dot) = primals, tangents
    per_bit = _seconds(jnp.ones_like(loads), band, cn0)
    log_t = jnp.log(cn0) - jnp.log(band)
    log_over = _log_over(log_t, _bend(log_t))
    faster = jnp.exp(-log_over) * cn0_dot / cn0 - jnp.expm1(-log_over) * band_dot / band
    seconds = loads * per_bit
    return seconds, per_bit * loads_dot - seconds * faster


# With L = log(1 + t) and v = t / (1 + t), both free of cancellation as functions of
# log t, all else follows from b = (L - v) / v^2, which goes from 1/2 to L - 1.


def _log_over(log_t: base.Array, bend: base.Array) -> base.Array:
    """``log(L / v)``, as ``log(1 + v b)``."""
    return jnp.log1p(jax.nn.sigmoid(log_t) * bend)


@jax.custom_jvp
def _bend(log_t: base.Array) -> base.Array:
    """``b``; for small t by the series ``L = 2 (s + s^3/3 + ...)``, s = v / (2 - v)."""
    v = jax.nn.sigmoid(log_t)
    is_small = v < _SERIES_BELOW
    s = jnp.where(is_small, v, 0.0)
    s = s / (2.0 - s)
    series = jnp.zeros_like(v)
    for k in range(_SERIES_TERMS, 0, -1):
        series = series * s**2 + 1.0 / (2 * k + 1)
    series = 0.5 * (1.0 + s) * (1.0 + s * (1.0 + s) * series)
    large = jnp.where(is_small, 1.0, v)
    return jnp.where(is_small, series, (jax.nn.softplus(log_t) - large) / large**2)


@_bend.defjvp
def _bend_jvp(primals, tangents):
    (log_t,), (log_t_dot,) = primals, tangents
    b = _bend(log_t)
    return b, (1.0 - 2.0 * jax.nn.sigmoid(-log_t) * b) * log_t_dot
