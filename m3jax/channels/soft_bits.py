"""Soft bits: log-likelihood ratios out of received symbols, symbols out of soft bits.

One sign for all: an LLR is the logit of a one,

    l = log P(b = 1 | y) - log P(b = 0 | y),   P(b = 1 | y) = sigmoid(l)

so positive means 1 (many textbooks have it the other way round). Bits are taken as
equally likely before y is seen.

The two axes of QAM are independent given y, so each is treated as its own set of
``sqrt M`` levels: work grows with ``sqrt M``, not with M, and nothing is lost.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import modulation, quantisers
from m3jax.ops import numbers

_LEAST_NOISE = 1e-12
"""Noise power below which a symbol counts as this noisy: no infinite LLR."""


class SoftSymbols(NamedTuple):
    """Mean and variance of symbols whose bits are uncertain.

    Attributes:
      mean: complex ``[...]``, ``E[x]``.
      variance: real ``[...]``, ``E|x - E[x]|^2``, from 0 to 1 or a little more.
    """

    mean: base.Array
    variance: base.Array


def exact_llr(x_hat: base.Array, no: base.Array, order: int) -> base.Array:
    """The log-likelihood ratio of each bit.

        l_k = log sum_{a: b_k(a) = 1} exp(-(v - a)^2 / N)
            - log sum_{a: b_k(a) = 0} exp(-(v - a)^2 / N)

    over the levels ``a`` of the bit's axis, ``v`` being the symbol on that axis: the
    bit metric of Caire, Taricco and Biglieri, "Bit-interleaved coded modulation", IEEE
    Trans. Information Theory 44(3), 1998. Exact gradients.

    Args:
      x_hat: complex ``[...]``, equalised without bias to the scale of ``modulate``,
        such as by ``equalisers.zero_forcing``.
      no: N, noise power per complex symbol *after* equalisation (``N0 / |h|^2`` for
        zero forcing), broadcastable to ``x_hat``. Half of it lies on each axis. 0 and
        ``inf`` are allowed: the LLRs stay finite, or are 0.
      order: M, one of ``modulation.ORDERS``.

    Returns:
      Real ``[..., log2 M]``, positive where a one is likelier.

    Example:
      >>> x = jnp.array([0.5 + 0.0j])
      >>> exact_llr(x, 0.5, order=2).tolist()  # BPSK: 4 Re(x) / N
      [[4.0]]
    """
    return _llr(x_hat, no, order, jax.nn.logsumexp)


def max_log_llr(x_hat: base.Array, no: base.Array, order: int) -> base.Array:
    """``exact_llr`` with the largest term of each sum instead of the sum.

        l_k = (min_{a: b_k(a) = 0} (v - a)^2 - min_{a: b_k(a) = 1} (v - a)^2) / N

    Needs no exponential, and is scaled, not bent, by a wrong N. Equal to the exact one
    for BPSK and QPSK, close to it at high SNR.

    Args:
      x_hat: complex ``[...]``, as for ``exact_llr``.
      no: noise power after equalisation, as for ``exact_llr``.
      order: M, one of ``modulation.ORDERS``.

    Returns:
      Real ``[..., log2 M]``.
    """
    return _llr(x_hat, no, order, jnp.max)


def decide(llrs: base.Array) -> base.Array:
    """Hard bits, int32: 1 where the LLR is positive."""
    return (llrs > 0.0).astype(jnp.int32)


def modulate(llrs: base.Array, order: int) -> SoftSymbols:
    """Soft mapper: mean and variance of a symbol whose bits are independent.

        E[x] = sum_a a P(a),   P(a) = prod_k P(b_k = b_k(a))

    As in turbo equalisation (Tuechler, Singer and Koetter, IEEE Trans. Signal
    Processing 50(3), 2002). Exact gradients, 0 where a bit is certain.

    Args:
      llrs: real ``[..., log2 M]``; ``inf`` and ``-inf`` are certain bits. For bit
        probabilities p give ``log(p) - log1p(-p)``.
      order: M, one of ``modulation.ORDERS``.

    Returns:
      ``SoftSymbols(mean, variance)``, each ``[...]``.

    Raises:
      ValueError: for an unknown order, or a last axis that is not ``log2 M`` long.

    Example:
      >>> soft = modulate(jnp.array([jnp.inf, 0.0]), 4)
      >>> [round(float(v), 2) for v in (soft.mean.real, soft.mean.imag, soft.variance)]
      [0.71, 0.0, 0.5]
    """
    num_bits, axes = modulation.bits_per_symbol(order), modulation.num_axes(order)
    llrs = numbers.as_float(llrs, least=jnp.float32)  # as complex numbers are
    if llrs.shape[-1:] != (num_bits,):
        raise ValueError(
            f"QAM of order {order} takes {num_bits} LLRs per symbol on the last axis, "
            f"got shape {llrs.shape}."
        )
    llrs = llrs.reshape(*llrs.shape[:-1], axes, 1, num_bits // axes)
    signs = jnp.asarray(2 * modulation.axis_labels(order) - 1, llrs.dtype)
    chances = jnp.exp(jnp.sum(jax.nn.log_sigmoid(signs * llrs), axis=-1))
    levels = jnp.asarray(modulation.axis_levels(order), llrs.dtype)
    mean = jnp.sum(chances * levels, axis=-1)
    spread = jnp.sum(chances * (levels - mean[..., None]) ** 2, axis=-1)
    return SoftSymbols(modulation.from_axes(mean), jnp.sum(spread, axis=-1))


def straight_through_modulate(llrs: base.Array, order: int) -> base.Array:
    """Mapper of decided bits that a gradient passes: hard forward, soft backward.

        x = modulate(1[l > 0]),   dx/dl := dE[x]/dl

    A transmitter that learns its bits sends true constellation points, whose power is
    the declared one on average, and is trained by the soft mapper's slope.

    Args:
      llrs: real ``[..., log2 M]``, logits of the bits to send.
      order: M, one of ``modulation.ORDERS``.

    Returns:
      Complex ``[...]``, points of the constellation.
    """
    hard = modulation.modulate(decide(llrs), order)
    soft = modulate(llrs, order).mean
    return quantisers.straight_through(hard.astype(soft.dtype), soft)


def axis_llr(
    values: base.Array, no: base.Array, order: int, join=jax.nn.logsumexp
) -> base.Array:
    """``exact_llr`` on one axis of the constellation.

    Args:
      values: real ``[...]``, the received values on this axis.
      no: N as for ``exact_llr``, broadcastable to ``values``: twice the noise variance
        on the axis.
      order: M, one of ``modulation.ORDERS``.
      join: sum of exponents over an axis, in logarithms; ``jnp.max`` for max-log.

    Returns:
      Real ``[..., k]``: k is half of ``log2 M``, 1 for BPSK.
    """
    values = numbers.as_float(values)
    no = jnp.maximum(jnp.asarray(no, values.dtype), _LEAST_NOISE)
    no = jnp.broadcast_to(no, values.shape)[..., None, None]
    values = values[..., None, None]
    zeros, ones = _levels_by_bit(order, values.dtype)
    # -(v - a)^2 without v^2, which is common to all and would drown the rest.
    llrs = join((2.0 * values - ones) * ones / no, axis=-1)
    return llrs - join((2.0 * values - zeros) * zeros / no, axis=-1)


def _llr(x_hat: base.Array, no: base.Array, order: int, join) -> base.Array:
    no = jnp.broadcast_to(no, x_hat.shape)[..., None]
    llrs = axis_llr(modulation.to_axes(x_hat, order), no, order, join)
    return llrs.reshape(*x_hat.shape, modulation.bits_per_symbol(order))


def _levels_by_bit(order: int, dtype) -> tuple[base.Array, base.Array]:
    """Levels whose k-th bit is 0, and those where it is 1, each ``[k, m / 2]``."""
    levels, labels = modulation.axis_levels(order), modulation.axis_labels(order)
    zeros = jnp.asarray([levels[bits == 0] for bits in labels.T], dtype)
    ones = jnp.asarray([levels[bits == 1] for bits in labels.T], dtype)
    return zeros, ones
