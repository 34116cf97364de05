"""Exact error rates of BPSK and Gray QAM, the yardstick of every simulation here.

They are sums of Gaussian tails Q and of their squares. Each term is averaged over the
fading in Craig's form (Simon and Alouini, Digital Communication over Fading Channels,
2005, equations 4.2, 4.9 and 5.3):

    E Q(sqrt(2 g S))   = (1 / pi) int_0^{pi/2} M(g / sin^2 t) dt
    E Q(sqrt(2 g S))^2 = (1 / pi) int_0^{pi/4} M(g / sin^2 t) dt

    M(z) = E exp(-z S) = [ (1 + s w)^-1 exp(-(1 - s) w / (1 + s w)) ]^L
    w = z snr,   s = 1 / (1 + K)

where S is the SNR after maximum-ratio combining of L independent branches, each of
Rician factor K (there Table 2.2): K = 0 is Rayleigh fading and K = inf none. The
quadrature of Gauss and Legendre leaves no error that shows in float32.
"""

import math

import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.channels import modulation
from m3jax.ops import numbers

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_ENDLESS = 1e30
"""Stands for an infinite SNR, which would give inf / inf."""


def bit_error_rate(
    snr: base.Array, order: int, k_factor: base.Array = jnp.inf, num_branches: int = 1
) -> base.Array:
    """Mean share of wrong bits with hard decisions and known gains.

        P_b = sum_i c_i E Q((2 i + 1) sqrt(2 S) d),   d^2 = 3 / (2 (M - 1)), 1 for BPSK

    with the shares ``c`` of Cho and Yoon, IEEE Trans. Commun. 50(7), 2002. Exact, while
    the common ``P_s / log2 M`` counts one wrong bit per wrong symbol: too few.

    Args:
      snr: linear Es/N0 of one branch, averaged over fading, any shape.
      order: M, one of ``modulation.ORDERS``; 2 is BPSK.
      k_factor: K, linear, broadcastable to ``snr``: ``inf`` is AWGN, 0 is Rayleigh.
      num_branches: L, receive antennas combined by ``mimo.mrc``.

    Returns:
      The rate, in the shape of ``snr`` and ``k_factor``; differentiable by both.

    Example:
      >>> rates = bit_error_rate(jnp.array([1.0, 10.0]), order=2, k_factor=0.0)
      >>> [round(rate, 4) for rate in rates.tolist()]
      [0.1464, 0.0233]
    """
    share, distance = _bit_terms(order)
    mean_q = _mean_q(snr, distance, k_factor, num_branches, math.pi / 2)
    return jnp.sum(share.astype(mean_q.dtype) * mean_q, axis=-1)


def symbol_error_rate(
    snr: base.Array, order: int, k_factor: base.Array = jnp.inf, num_branches: int = 1
) -> base.Array:
    """Mean share of wrong symbols with hard decisions and known gains.

        P_s = 2 a E Q(x) - a^2 E Q(x)^2,   a = 2 (1 - 1 / sqrt M),   x = sqrt(2 S) d

    for QAM (Simon and Alouini, equation 8.10) and ``E Q(x)`` for BPSK.

    Args:
      snr: linear Es/N0 of one branch, averaged over fading, any shape.
      order: M, one of ``modulation.ORDERS``.
      k_factor: K, linear, broadcastable to ``snr``: ``inf`` is AWGN, 0 is Rayleigh.
      num_branches: L, receive antennas combined by ``mimo.mrc``.

    Returns:
      The rate, in the shape of ``snr`` and ``k_factor``; differentiable by both.

    Example:
      >>> round(float(symbol_error_rate(100.0, order=64)), 4)
      0.0503
    """
    nearest = np.array([_half_distance_square(order)])
    q = _mean_q(snr, nearest, k_factor, num_branches, math.pi / 2)[..., 0]
    if order == 2:
        return q
    q_square = _mean_q(snr, nearest, k_factor, num_branches, math.pi / 4)[..., 0]
    a = 2.0 * (1.0 - 1.0 / math.sqrt(order))
    return 2.0 * a * q - a**2 * q_square


def _mean_q(snr, distances, k_factor, num_branches: int, limit: float) -> base.Array:
    """``E Q(sqrt(2 g S))`` for all distances g, on a last axis; or of the square."""
    # t = limit u^2: at low SNR all happens near t = 0, and u dwells there.
    u = 0.5 * (_NODES + 1.0)
    t = limit * u**2
    weights = limit * u * _WEIGHTS / math.pi
    z = distances[:, None] / np.sin(t) ** 2
    snr = numbers.as_float(snr, least=jnp.float32)[..., None, None]
    scattered = 1.0 / (1.0 + jnp.asarray(k_factor, snr.dtype)[..., None, None])
    w = jnp.minimum(snr * z.astype(snr.dtype), _ENDLESS)
    steady = (1.0 - scattered) * w / (1.0 + scattered * w)
    log_m = -num_branches * (jnp.log1p(scattered * w) + steady)
    return jnp.sum(weights.astype(snr.dtype) * jnp.exp(log_m), axis=-1)


def _bit_terms(order: int) -> tuple[np.ndarray, np.ndarray]:
    """The shares ``c_i`` and the squared distances ``((2 i + 1) d)^2``."""
    if order == 2:
        return np.ones(1), np.ones(1)
    num_levels = math.isqrt(order)
    num_bits = modulation.bits_per_symbol(order) // 2
    share = np.zeros(num_levels - 1)
    for k in range(num_bits):
        i = np.arange(num_levels - (num_levels >> (k + 1)))
        turn = i * 2**k / num_levels
        weight = 2**k - np.floor(turn + 0.5)
        share[i] += (-1.0) ** np.floor(turn) * weight * 2.0 / (num_levels * num_bits)
    distance = (2.0 * np.arange(num_levels - 1) + 1.0) ** 2
    return share, distance * _half_distance_square(order)


def _half_distance_square(order: int) -> float:
    modulation.bits_per_symbol(order)  # refuses an unknown order
    return 1.0 if order == 2 else 1.5 / (order - 1.0)
