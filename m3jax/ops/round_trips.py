"""What a token takes over a band, there and back, and how that falls with the band.

A token goes down to a device with ``bits_down``, is worked on for ``fixed_s`` and comes
back with ``bits_up``, both ways over the same band of B Hz (WDMoE, equations 2 to 8):

    t(B) = a_d / (B log2(1 + c_d / B)) + a_u / (B log2(1 + c_u / B)) + f

with c the received power over the noise density. With ``h(s) = s / log(1 + s) - 1`` and
``w = a log(2) / c``, what unlimited bandwidth takes,

    t(B) = w_d (1 + h(c_d / B)) + w_u (1 + h(c_u / B)) + f

The logarithm of the two terms with h is almost linear in ``log B`` at every SNR, which
is what the solvers of ``fair_round_trips`` and ``sum_of_maxima`` live on. One direction
alone is a load of 0 bits in the other.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import numbers

_LN2 = math.log(2.0)
_LEAST_SNR, _MOST_SNR = 1e-25, 1e25
_TERMS = 16  # of the series of log(1 + s) in (s / (2 + s))^2 <= 1 / 9
_LONGEST_STEP = 5.0
_NUM_STEPS = 12


class Trips(NamedTuple):
    """The way of one token to each of K devices and back; a pytree for vmap.

    Attributes:
      bits_down: a_d, ``[K]`` or scalar.
      bits_up: a_u, ``[K]`` or scalar.
      cn0_down: c_d, received power over noise density, Hz, ``[K]``.
      cn0_up: c_u, ``[K]``.
      fixed_s: f, seconds that no bandwidth changes, ``[K]`` or scalar.
    """

    bits_down: base.Array
    bits_up: base.Array
    cn0_down: base.Array
    cn0_up: base.Array
    fixed_s: base.Array


class Curve(NamedTuple):
    """Seconds by share of a band, in the numbers that the solvers take.

    Attributes:
      wide: w, seconds of both directions over unlimited bandwidth, ``[2, K]``.
      snr: of both directions if a device had all of the band, ``[2, K]``.
      fixed: f, ``[K]``.
    """

    wide: base.Array
    snr: base.Array
    fixed: base.Array


class Slopes(NamedTuple):
    """What a share costs, with slopes by its logarithm u; all ``[K]``.

    Attributes:
      above: seconds above those of unlimited bandwidth.
      first: ``-d above / du``, positive.
      second: ``d^2 above / du^2``, positive.
    """

    above: base.Array
    first: base.Array
    second: base.Array


def seconds(trips: Trips, bandwidths: base.Array) -> base.Array:
    """Seconds of one token on each device.

    Args:
      trips: K devices.
      bandwidths: B in Hz, ``[K]``.

    Returns:
      ``[K]``; ``inf`` where there is no band or no power for bits that must be sent.

    Example:
      >>> trips = Trips(6e6, 3e6, jnp.array([7e6]), jnp.array([7e6]), 0.5)
      >>> seconds(trips, jnp.array([1e6])).tolist()  # 3 bits per second and hertz
      [3.5]
    """
    curve, possible = make_curve(trips, 1.0)
    bandwidths = numbers.as_float(bandwidths)
    has_band = bandwidths > 0.0
    band = jnp.where(has_band, bandwidths, 1.0)
    return jnp.where(has_band & possible, at(curve, band), jnp.inf)


def unlimited_seconds(trips: Trips) -> base.Array:
    """Seconds of one token over unlimited bandwidth: nothing can be faster, ``[K]``.

    t = (a_d / c_d + a_u / c_u) log(2) + f
    """
    curve, possible = make_curve(trips, 1.0)
    return jnp.where(possible, jnp.sum(curve.wide, axis=0) + curve.fixed, jnp.inf)


def needed_bandwidths(trips: Trips, token_s: base.Array) -> base.Array:
    """The bandwidth with which a token takes so many seconds.

    By Newton's method between the logarithms of both.

    Args:
      trips: K devices.
      token_s: seconds, ``[K]`` or scalar.

    Returns:
      Hz, ``[K]``; ``inf`` where no bandwidth does it, see ``unlimited_seconds``; 0
      where the time does not end.

    Example:
      >>> trips = Trips(6e6, 0.0, jnp.array([7e6]), jnp.array([7e6]), 0.0)
      >>> round(float(needed_bandwidths(trips, 2.0)[0]))
      1000000
    """
    # In units of c, so that logarithms are about 1 and no float overflows.
    unit = jnp.maximum(jnp.asarray(trips.cn0_down), trips.cn0_up)
    unit = jnp.where((unit > 0.0) & (unit < jnp.inf), unit, 1.0)
    curve, possible = make_curve(trips, unit)
    left = token_s - jnp.sum(curve.wide, axis=0) - curve.fixed
    possible &= left > 0.0
    known = possible & (left < jnp.inf)
    left = jnp.where(known, left, 1.0)
    has_work = jnp.any(curve.wide > 0.0, axis=0)

    def step(_, logs):
        slopes = at_log(curve, logs)
        above = jnp.where(has_work, slopes.above, 1.0)
        apart = jnp.log(above) - jnp.log(left)
        move = apart * above / jnp.where(has_work, slopes.first, 1.0)
        return logs + jnp.clip(move, -_LONGEST_STEP, _LONGEST_STEP)

    start = jnp.where(has_work, jnp.sum(curve.wide * curve.snr, axis=0) / (2 * left), 1)
    found = lax.fori_loop(0, _NUM_STEPS, step, jnp.log(start))
    hertz = jnp.where(has_work & known, jnp.exp(found) * unit, 0.0)
    return jnp.where(possible | (~has_work & known), hertz, jnp.inf)


def feasible_part(
    loads: base.Array, trips: Trips, total: base.Array
) -> tuple[base.Array, Trips, base.Array, base.Array]:
    """A problem of splitting a band, without derivatives where it has no solution.

    Args:
      loads: q, tokens, ``[..., K]``.
      trips: of one token, K devices.
      total: B in Hz, scalar.

    Returns:
      The three in floats of one type, and whether there is a band and everybody with
      tokens has a link.
    """
    numbers.require_some(loads, "loads")
    loads, total, *leaves = numbers.as_floats(loads, total, *trips)
    trips = Trips(*leaves)
    has_band = (total > 0.0) & (total < jnp.inf)
    counts = (loads > 0.0) & (loads < jnp.inf) & make_curve(trips, total)[1]
    feasible = has_band & jnp.all(counts | (loads == 0.0))
    return *numbers.gated((loads, trips, total), feasible), feasible


def make_curve(trips: Trips, total: base.Array) -> tuple[Curve, base.Array]:
    """Seconds by share of a band of ``total`` Hz, and whose links work."""
    total, *leaves = numbers.as_floats(total, *trips)
    trips = Trips(*leaves)
    down, up, cn0_down, cn0_up, fixed = jnp.broadcast_arrays(*trips)
    bits, cn0 = jnp.stack([down, up]), jnp.stack([cn0_down, cn0_up])
    sends = bits > 0.0
    works = (cn0 > 0.0) & (cn0 < jnp.inf) & (bits < jnp.inf) & sends
    possible = jnp.all((bits == 0.0) | works, axis=0)
    possible &= (fixed >= 0.0) & (fixed < jnp.inf)
    cn0 = jnp.where(works, cn0, 1.0)
    wide = jnp.where(works, bits, 0.0) * _LN2 / cn0
    has_band = (jnp.asarray(total) > 0.0) & (jnp.asarray(total) < jnp.inf)
    snr = jnp.clip(cn0 / jnp.where(has_band, total, 1.0), _LEAST_SNR, _MOST_SNR)
    return Curve(wide, snr, jnp.where(possible, fixed, 0.0)), possible


def at(curve: Curve, shares: base.Array) -> base.Array:
    """Seconds of a token at positive shares, ``[K]``; differentiable by all."""
    factors = 1.0 + _excess(curve.snr / shares)
    return jnp.sum(curve.wide * factors, axis=0) + curve.fixed


def at_log(curve: Curve, log_shares: base.Array) -> Slopes:
    """What shares cost above unlimited bandwidth, and slopes by their logarithms."""
    snr = curve.snr * jnp.exp(-log_shares)
    h = _excess(snr)
    one, kept = 1.0 + snr, (snr - h) / (1.0 + snr)
    first = (1.0 + h) * kept
    bend = (1.0 + h) / one * (snr / one) - first / one
    second = first * kept + (1.0 + h) * bend
    return Slopes(*(jnp.sum(curve.wide * x, axis=0) for x in (h, first, second)))


@jax.custom_jvp
def _excess(s: base.Array) -> base.Array:
    """``h(s) = s / log(1 + s) - 1`` without cancellation, for s > 0.

    Below 1 by ``log(1 + s) = 2 z (1 + z^2/3 + z^4/5 + ...)``, z = s / (2 + s).
    """
    is_small = s < 1.0
    small = jnp.where(is_small, s, 0.5)
    square = (small / (2.0 + small)) ** 2
    series = jnp.zeros_like(square)
    for k in range(_TERMS, 0, -1):
        series = series * square + 1.0 / (2 * k + 1)
    series = series * square
    large = jnp.where(is_small, 1.0, s)
    return jnp.where(
        is_small,
        (0.5 * small - series) / (1.0 + series),
        large / jnp.log1p(large) - 1.0,
    )


@_excess.defjvp
def _excess_jvp(primals, tangents):
    (s,), (s_dot,) = primals, tangents
    h = _excess(s)
    return h, (1.0 + h) * ((s - h) / s) / (1.0 + s) * s_dot
