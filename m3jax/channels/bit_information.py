"""What Gray BPSK and QAM can carry when a decoder is fed with soft bits.

Bit-interleaved coded modulation (BICM): the code sees one binary channel per bit, with
the exact LLR ``l`` as its output. A symbol then carries the random amount

    i = sum_k 1 - log2(1 + exp(-s_k l_k)),   s_k = 2 b_k - 1,

of information; its mean I is the rate that long codes reach (Caire, Taricco and
Biglieri, IEEE Trans. Information Theory 44(3), 1998; Martinez, Guillen i Fabregas,
Caire and Willems, same Trans. 55(6), 2009) and its variance U the dispersion that
decides how much short codes lose (Scarlett, Martinez and Guillen i Fabregas, same
Trans. 60(5), 2014). I stays below Shannon's log2(1 + snr) and below log2 M.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.channels import modulation, noise, soft_bits
from m3jax.ops import numbers

_LN2 = math.log(2.0)
# The trapezoidal rule: for smooth functions under a Gaussian nothing is better.
_NODES = np.linspace(-5.5, 5.5, 64)
_WEIGHTS = np.exp(-(_NODES**2)) / np.sum(np.exp(-(_NODES**2)))


class BitInformation(NamedTuple):
    """Mean and variance of the information in one symbol.

    Attributes:
      mean: I, bits per complex symbol.
      variance: U, bits^2 per complex symbol.
    """

    mean: base.Array
    variance: base.Array


def bit_information(snr: base.Array, order: int) -> BitInformation:
    """Mean and variance of the information that a symbol carries over AWGN.

    By quadrature over the noise on one axis, for each level: the axes are alike.

    Args:
      snr: linear Es/N0, scalar; ``inf`` allowed.
      order: M, one of ``modulation.ORDERS``.

    Returns:
      ``BitInformation(mean, variance)``, scalars, differentiable by ``snr``; right to
      1e-5 bit in float32.

    Example:
      >>> found = jax.jit(bit_information, static_argnums=1)(10.0, 16)
      >>> round(float(found.mean), 2)  # of 4 bits; log2(11) is 3.46
      3.16
    """
    snr = numbers.as_float(snr, least=jnp.float32)
    no = noise.noise_power(jnp.maximum(snr, 1e-12))
    # exp(-t^2): t is the noise on an axis in units of sqrt(no), of variance 1/2.
    spread = jnp.sqrt(jnp.maximum(no, 1e-30))
    levels = jnp.asarray(modulation.axis_levels(order), snr.dtype)
    values = levels[:, None] + spread * jnp.asarray(_NODES, snr.dtype)
    signs = 2 * modulation.axis_labels(order) - 1
    llrs = signs[:, None] * soft_bits.axis_llr(values, no, order)
    carried = jnp.sum(1.0 - jax.nn.softplus(-llrs) / _LN2, axis=-1)
    weights = jnp.asarray(_WEIGHTS / len(levels), snr.dtype)
    mean = jnp.sum(weights * carried)
    variance = jnp.sum(weights * (carried - mean) ** 2)
    num_axes = modulation.num_axes(order)
    return BitInformation(num_axes * mean, num_axes * variance)
