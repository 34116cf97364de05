"""Decoders of polar codes, for one block under ``jit`` and ``vmap``.

LLRs come in and leave as ``channels/soft_bits.py`` has them: positive means 1. Inside,
the sign is the opposite one, under which the sum of two bits modulo 2 has the LLR

    a [+] b = sign(a) sign(b) min(|a|, |b|) + log(1 + e^-|a + b|) - log(1 + e^-|a - b|)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.channels import polar
from m3jax.ops import numbers

_CERTAIN = 1e4
"""LLR of a frozen bit, over that of any coded bit: finite, so that sums of it are."""
_MOST = 1e18
"""LLRs count as at most this: certain, and sums and multiples of it are finite."""


class Decoded(NamedTuple):
    """What belief propagation found.

    Attributes:
      bits: int32 ``[K]``, decided information bits.
      llrs: real ``[K]``, their LLRs, positive for 1.
      consistent: bool scalar, the decided u encodes to the decided codeword; a decoding
        that is not is known to be wrong.
      iterations: int32 scalar, how many were run.
    """

    bits: base.Array
    llrs: base.Array
    consistent: base.Array
    iterations: base.Array


def belief_propagation(
    code: polar.PolarCode,
    llrs: base.Array,
    num_iterations: int = 20,
    min_sum: bool = False,
    early_stop: bool = False,
) -> Decoded:
    """Belief propagation on the factor graph of the butterflies.

    Each iteration carries messages R from u to x and then messages L back; for the two
    inputs of a butterfly of stage s and its two outputs of stage s + 1

        R'_1 = R_1 [+] (L'_2 + R_2),   R'_2 = (R_1 [+] L'_1) + R_2
        L_1 = L'_1 [+] (L'_2 + R_2),   L_2 = (R_1 [+] L'_1) + L'_2

    Arikan, "A performance comparison of polar codes and Reed-Muller codes", IEEE
    Communications Letters 12(6), 2008.

    Args:
      code: the code, static.
      llrs: real ``[N]`` of the coded bits, positive for 1; ``inf`` and ``-inf`` are
        certain bits.
      num_iterations: how many, or how many at most.
      min_sum: replaces ``[+]`` by ``0.9375 sign(a) sign(b) min(|a|, |b|)``: faster, and
        a common scale of the LLRs does not matter.
      early_stop: stops once u and codeword agree (Yuan and Parhi, IEEE Trans. Signal
        Processing 62(24), 2014). Saves time where few iterations are enough, for a
        batch when that holds for all of it; leaves no reverse-mode gradient.

    Returns:
      ``Decoded``. Without ``early_stop`` its LLRs are differentiable.

    Raises:
      ValueError: if ``llrs`` is not ``[N]``.

    Example:
      >>> code = polar.make_polar_code(num_bits=4, length=8)
      >>> sent = polar.encode(code, jnp.array([1, 0, 1, 1]))
      >>> llrs = jnp.where(sent == 1, 3.0, -3.0).at[2].multiply(-0.5)  # one is wrong
      >>> belief_propagation(code, llrs).bits.tolist()
      [1, 0, 1, 1]
    """
    llrs = _check(code, llrs)
    combine = _scaled_min_sum if min_sum else _box_plus
    frozen = np.ones(code.length)
    frozen[np.array(code.positions)] = 0.0
    certain = _CERTAIN * (1.0 + jnp.max(jnp.abs(lax.stop_gradient(llrs))))
    known = jnp.asarray(frozen, llrs.dtype) * certain
    num_stages = code.length.bit_length() - 1
    messages = _Messages(
        left=jnp.zeros((num_stages, code.length), llrs.dtype),
        right=jnp.zeros_like(llrs),
    )

    def step(carry):
        count, messages, _ = carry
        messages = _iterate(combine, known, -llrs, messages.left)
        return count + 1, messages, _agree(code, messages, -llrs)

    def go_on(carry):
        count, _, agree = carry
        return (count < num_iterations) & ~agree

    carry = (jnp.int32(0), messages, jnp.bool_(False))
    if early_stop:
        carry = lax.while_loop(go_on, step, carry)
    else:
        carry = lax.fori_loop(0, num_iterations, lambda _, carry: step(carry), carry)
    count, messages, agree = carry
    found = -messages.left[0][np.array(code.positions)]
    return Decoded((found > 0.0).astype(jnp.int32), found, agree, count)


def successive_cancellation(code: polar.PolarCode, llrs: base.Array) -> base.Array:
    """Decides the bits of u one after the other, each knowing those before it.

    Arikan 2009, section VIII, in LLRs. Parts of u that are all frozen, all information,
    or a repetition of one bit are decided at once, which changes no result
    (Alamdar-Yazdi and Kschischang, IEEE Communications Letters 15(12), 2011). The rest
    is unrolled when it is traced: it compiles for longer than belief propagation, and
    runs many times faster.

    Args:
      code: the code, static.
      llrs: real ``[N]`` of the coded bits, positive for 1; ``inf`` and ``-inf`` are
        certain bits.

    Returns:
      int32 ``[K]``, decided information bits.

    Raises:
      ValueError: if ``llrs`` is not ``[N]``.
    """
    llrs = _check(code, llrs)
    informative = np.zeros(code.length, bool)
    informative[np.array(code.positions)] = True
    codeword = _cancel(-llrs, informative)
    return polar.transform(codeword)[np.array(code.positions)]


class _Messages(NamedTuple):
    """Messages between iterations: those that the next one needs, and the last one out.

    Attributes:
      left: ``[stages, N]``, L on u's side of each stage.
      right: ``[N]``, R on the codeword's side of the last stage.
    """

    left: base.Array
    right: base.Array


def _iterate(
    combine, known: base.Array, channel: base.Array, left: base.Array
) -> _Messages:
    """One sweep of R towards the codeword, and one of L back."""
    inward = [*left[1:], channel]
    right = [known]
    for stage, message in enumerate(inward):
        right.append(_to_codeword(combine, stage, right[stage], message))
    message, messages = channel, []
    for stage in reversed(range(len(inward))):
        message = _to_inputs(combine, stage, right[stage], message)
        messages.append(message)
    return _Messages(jnp.stack(messages[::-1]), right[-1])


def _agree(
    code: polar.PolarCode, messages: _Messages, channel: base.Array
) -> base.Array:
    """Whether the decided u encodes to the decided codeword."""
    bits = _decide(messages.left[0][np.array(code.positions)])
    return jnp.all(polar.encode(code, bits) == _decide(channel + messages.right))


def _cancel(llrs: base.Array, informative: np.ndarray) -> base.Array:
    """The decided codeword of the polar code below this node."""
    if not informative.any():
        return jnp.zeros(llrs.shape, jnp.int32)
    if informative.all():
        return _decide(llrs)
    if not informative[:-1].any():
        return jnp.broadcast_to(_decide(jnp.sum(llrs)), llrs.shape)
    half = llrs.shape[0] // 2
    first, second = llrs[:half], llrs[half:]
    upper = _cancel(_box_plus(first, second), informative[:half])
    known = second + jnp.where(upper == 1, -first, first)
    lower = _cancel(known, informative[half:])
    return jnp.concatenate([upper ^ lower, lower])


def _to_codeword(combine, stage: int, right: base.Array, left: base.Array):
    """Messages R on the codeword's side of a stage, from R on u's side."""
    (r1, r2), (l1, l2) = _pairs(right, stage), _pairs(left, stage)
    return _unpair(combine(r1, l2 + r2), combine(r1, l1) + r2, right.shape)


def _to_inputs(combine, stage: int, right: base.Array, left: base.Array):
    """Messages L on u's side of a stage, from L on the codeword's side."""
    (r1, r2), (l1, l2) = _pairs(right, stage), _pairs(left, stage)
    return _unpair(combine(l1, l2 + r2), combine(r1, l1) + l2, left.shape)


def _pairs(messages: base.Array, stage: int) -> tuple[base.Array, base.Array]:
    pairs = messages.reshape(-1, 2, 2**stage)
    return pairs[:, 0], pairs[:, 1]


def _unpair(first: base.Array, second: base.Array, shape) -> base.Array:
    return jnp.stack([first, second], axis=1).reshape(shape)


@jax.custom_jvp
def _box_plus(a: base.Array, b: base.Array) -> base.Array:
    sum_term = 1.0 + jnp.exp(-jnp.abs(a + b))
    return _min_sum(a, b) + jnp.log(sum_term / (1.0 + jnp.exp(-jnp.abs(a - b))))


@_box_plus.defjvp
def _box_plus_jvp(primals, tangents):
    # Of log(1 + e^(a + b)) - log(e^a + e^b): the form above has corners, this has none.
    (a, b), (a_dot, b_dot) = primals, tangents
    both, differ = jax.nn.sigmoid(a + b), jax.nn.sigmoid(a - b)
    return _box_plus(a, b), (both - differ) * a_dot + (both - 1.0 + differ) * b_dot


def _scaled_min_sum(a: base.Array, b: base.Array) -> base.Array:
    return 0.9375 * _min_sum(a, b)


def _min_sum(a: base.Array, b: base.Array) -> base.Array:
    return jnp.sign(a) * jnp.sign(b) * jnp.minimum(jnp.abs(a), jnp.abs(b))


def _decide(llrs: base.Array) -> base.Array:
    """Bits of LLRs whose sign is the inner one."""
    return (llrs < 0.0).astype(jnp.int32)


def _check(code: polar.PolarCode, llrs: base.Array) -> base.Array:
    """LLRs in float32 or wider, those of certain bits finite."""
    llrs = numbers.as_float(llrs, least=jnp.float32)
    if llrs.shape != (code.length,):
        raise ValueError(
            f"this polar code takes LLRs of shape ({code.length},), got {llrs.shape}; "
            "use jax.vmap for a batch."
        )
    return jnp.clip(llrs, -_MOST, _MOST)
