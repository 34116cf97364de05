"""How much a channel can carry: Shannon, ergodic and outage capacity.

Rates are in bits per complex symbol and SNRs are linear Es/N0 (``channels/noise.py``).
A real channel whose samples meet the same SNR carries half as much per sample, since a
complex symbol is two such samples. Fading is known at the receiver and not at the
transmitter, so power is constant.
"""

import math

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import exponential_integral, masks, numbers

_LN2 = math.log(2.0)
_LEAST_SNR = 1e-12
_MOST_SNR = 1e30


def shannon(snr: base.Array) -> base.Array:
    """Capacity of the complex AWGN channel.

        C = log2(1 + snr)        (Shannon 1949; Cover and Thomas, eq. 9.17)

    Args:
      snr: linear, any shape; 0 gives 0, ``inf`` gives ``inf``.

    Returns:
      Bits per complex symbol. Its derivative is 0 at ``inf``.

    Example:
      >>> float(shannon(3.0))
      2.0
    """
    return jnp.log1p(numbers.as_float(snr)) / _LN2


def shannon_snr(rate: base.Array) -> base.Array:
    """The SNR at which ``shannon`` gives this rate: ``2^rate - 1``.

    Args:
      rate: bits per complex symbol, any shape.

    Returns:
      Linear SNR.
    """
    return jnp.expm1(_LN2 * numbers.as_float(rate))


def ergodic(snr: base.Array, h: base.Array) -> base.Array:
    """Capacity averaged over given gains, of whatever distribution.

        C = mean over h of log2(1 + |h|^2 snr)

    This is the rate of a code that is long enough to see all gains.

    Args:
      snr: linear mean SNR, scalar.
      h: complex gains, any shape, such as many draws of ``channel.generate``.

    Returns:
      Scalar, bits per complex symbol.
    """
    return jnp.mean(shannon(masks.abs_square(h) * snr))


def ergodic_rayleigh(snr: base.Array) -> base.Array:
    """Capacity averaged over Rayleigh fading.

        C = log2(e) exp(1/snr) E1(1/snr)

    Alouini and Goldsmith, "Capacity of Rayleigh fading channels under different
    adaptive transmission and diversity-combining techniques", IEEE Trans. Vehicular
    Technology 48(4), 1999; optimal rate adaptation, constant power, one branch.

    Args:
      snr: linear mean SNR, any shape; ``inf`` gives ``inf`` with a derivative of 0.

    Returns:
      Bits per complex symbol.

    Example:
      >>> round(float(ergodic_rayleigh(10.0)), 3)  # log2(11) is 3.459
      2.907
    """
    snr = numbers.as_float(snr)
    usable = jnp.clip(snr, _LEAST_SNR, _MOST_SNR)
    rate = exponential_integral.scaled_exp1(1.0 / usable) / _LN2
    return jnp.where(jnp.isinf(snr), jnp.inf, rate)


def outage_probability_rayleigh(snr: base.Array, rate: base.Array) -> base.Array:
    """How often a Rayleigh block cannot carry a rate.

        P[log2(1 + |h|^2 snr) < R] = 1 - exp(-(2^R - 1) / snr)

    Tse and Viswanath, Fundamentals of Wireless Communication, eq. 5.53 and 5.54.

    Args:
      snr: linear mean SNR.
      rate: R, bits per complex symbol, broadcastable to ``snr``.

    Returns:
      Probability.
    """
    needed = shannon_snr(rate) / jnp.maximum(snr, _LEAST_SNR)
    return -jnp.expm1(-needed)


def outage_capacity_rayleigh(snr: base.Array, outage: base.Array) -> base.Array:
    """The largest rate that a Rayleigh block fails to carry with this probability.

        C_e = log2(1 - snr log(1 - e)),   the inverse of the outage probability

    It is the rate of the blocks that get through; ``(1 - e) C_e`` arrives on average.

    Args:
      snr: linear mean SNR.
      outage: e, in (0, 1), broadcastable to ``snr``.

    Returns:
      Bits per complex symbol.

    Example:
      >>> rate = outage_capacity_rayleigh(10.0, 0.05)
      >>> round(float(outage_probability_rayleigh(10.0, rate)), 4)
      0.05
    """
    snr, outage = numbers.as_floats(snr, outage)
    return shannon(-snr * jnp.log1p(-outage))


def outage_probability(snr: base.Array, rate: base.Array, h: base.Array) -> base.Array:
    """Share of given gains that cannot carry a rate; no gradient, as it is a count.

    Args:
      snr: linear mean SNR, scalar.
      rate: bits per complex symbol, scalar.
      h: complex gains, any shape, one for each block.

    Returns:
      Scalar from 0 to 1.
    """
    carried = shannon(masks.abs_square(h) * snr)
    return jnp.mean(~(carried >= rate))  # NaN carries nothing


def outage_capacity(snr: base.Array, outage: base.Array, h: base.Array) -> base.Array:
    """The rate that this share of given gains fails to carry.

        log2(1 + snr q),   q the ``outage``-quantile of |h|^2

    Args:
      snr: linear mean SNR, scalar.
      outage: in (0, 1), scalar.
      h: complex gains, any shape, one for each block.

    Returns:
      Scalar, bits per complex symbol; differentiable by all arguments.
    """
    outage = numbers.as_float(outage)
    return shannon(snr * jnp.quantile(masks.abs_square(h), outage))
