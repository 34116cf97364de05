"""What short codes can do: the normal approximation over complex AWGN.

With n complex symbols, block error probability e and R bits per symbol,

    R = C - sqrt(V / n) Q^-1(e) + log2(2 n) / (2 n)
    C = log2(1 + snr),   V = (1 - 1 / (1 + snr)^2) log2(e)^2

after Polyanskiy, Poor and Verdu, "Channel coding rate in the finite blocklength
regime", IEEE Trans. Information Theory 56(5), 2010, Theorem 54, for 2 n real samples:
per complex symbol C and V are both twice those of a real sample. It is what the best
codes reach within a few hundredths of a bit from some hundred symbols on, and no bound.
A rate is never given as more than C. SNRs above 300 dB count as 300 dB, so that
gradients stay finite.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

from m3jax import base
from m3jax.channels import capacity
from m3jax.ops import numbers

_LOG2_E = math.log2(math.e)
_LEAST_SNR = 1e-12
_MOST_SNR = 1e30
_BISECTIONS = 60


def dispersion(snr: base.Array) -> base.Array:
    """Variance of the information that one complex symbol carries.

        V = snr (snr + 2) / (snr + 1)^2 log2(e)^2

    Args:
      snr: linear, any shape, ``inf`` allowed.

    Returns:
      Bits^2 per complex symbol: from 0 to 2.08.

    Example:
      >>> round(float(dispersion(jnp.inf)), 3)
      2.081
    """
    return -jnp.expm1(-2.0 * jnp.log1p(numbers.as_float(snr))) * _LOG2_E**2


def rate(snr: base.Array, num_symbols: base.Array, error: base.Array) -> base.Array:
    """The rate that is reached with a block error probability.

    Args:
      snr: linear.
      num_symbols: n, complex symbols in a block.
      error: e, in (0, 1/2].

    Returns:
      Bits per complex symbol, from 0 to the capacity.

    Example:
      >>> round(float(rate(snr=1.0, num_symbols=250, error=1e-3)), 3)  # capacity is 1
      0.774
    """
    snr, num_symbols, error = numbers.as_floats(snr, num_symbols, error)
    snr = _bounded(snr)
    margin = jnp.sqrt(dispersion(snr) / num_symbols) * -special.ndtri(error)
    limit = capacity.shannon(snr)
    return jnp.clip(limit - margin + _third(num_symbols), 0.0, limit)


def error(snr: base.Array, num_symbols: base.Array, rate: base.Array) -> base.Array:
    """The block error probability of a rate.

        e = Q((C - R + log2(2 n) / (2 n)) sqrt(n / V))

    Args:
      snr: linear.
      num_symbols: n, complex symbols in a block.
      rate: R, bits per complex symbol.

    Returns:
      Probability.
    """
    snr, num_symbols, rate = numbers.as_floats(snr, num_symbols, rate)
    return special.ndtr(-_deviations(snr, num_symbols, rate))


def snr(rate: base.Array, num_symbols: base.Array, error: base.Array) -> base.Array:
    """The SNR at which a rate has a block error probability: the inverse of ``rate``.

    Found by bisection of its logarithm; one Newton step gives the last digits, and the
    exact gradients by all arguments.

    Args:
      rate: R, bits per complex symbol, above ``log2(2 n) / (2 n)``.
      num_symbols: n, complex symbols in a block.
      error: e, in (0, 1/2].

    Returns:
      Linear SNR.

    Example:
      >>> needed = snr(rate=0.5, num_symbols=250, error=1e-3)
      >>> round(float(error(needed, 250, 0.5)), 6)
      0.001
    """
    rate, num_symbols, error = numbers.as_floats(rate, num_symbols, error)
    wanted = -special.ndtri(error)

    def excess(log_snr):
        return _deviations(jnp.exp(log_snr), num_symbols, rate) - wanted

    shape = jnp.broadcast_shapes(*map(jnp.shape, (rate, num_symbols, error)))
    kind = rate.dtype
    ends = jnp.full(shape, math.log(_LEAST_SNR), kind), jnp.full(shape, 69.0, kind)

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        enough = excess(middle) >= 0.0
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    found = lax.stop_gradient(lax.fori_loop(0, _BISECTIONS, halve, ends)[1])
    slope = jax.jvp(excess, (found,), (jnp.ones_like(found),))[1]
    return jnp.exp(found - excess(found) / lax.stop_gradient(slope))


def _deviations(snr, num_symbols, rate) -> base.Array:
    """How many standard deviations the information exceeds the rate."""
    snr = _bounded(snr)
    surplus = capacity.shannon(snr) - rate + _third(num_symbols)
    return surplus * jnp.sqrt(num_symbols / dispersion(snr))


def _third(num_symbols) -> base.Array:
    """The third-order term."""
    return 0.5 * (1.0 + jnp.log2(num_symbols)) / num_symbols


def _bounded(snr: base.Array) -> base.Array:
    return jnp.clip(snr, _LEAST_SNR, _MOST_SNR)
