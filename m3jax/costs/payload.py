"""What goes over the air for a token, in bits, and what is lost by sending less of it.

Fusing distributions needs every expert's distribution for every token (MoE2, equation
6): V numbers. Few words hold most of it, so a part can be sent instead.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.channels import quantisers
from m3jax.ops import truncation

LEAST = -20.0
"""Quantised log-probabilities reach down to this, in nats."""
UNSENT = truncation.UNSENT
"""Log-probability, before renormalisation, of a word that was not sent."""
top_k_renormalised = truncation.top_k_renormalised
"""The most probable words alone, as `m3jax.ops.truncation` has it."""


def token_bits(vocab_size: base.Array) -> base.Array:
    """Bits of a token's index, ``ceil(log2 V)`` and at least 1.

    Args:
      vocab_size: V, a whole number or an integer array of them.

    Example:
      >>> token_bits(152_064)
      18
    """
    if isinstance(vocab_size, int):
        return max((vocab_size - 1).bit_length(), 1)
    last = jnp.asarray(vocab_size, jnp.int32) - 1
    return jnp.maximum(32 - lax.clz(last), 1)


def tokens_bits(num_tokens: base.Array, vocab_size: base.Array) -> base.Array:
    """Bits of so many tokens, such as a prompt, sent as indices."""
    return num_tokens * token_bits(vocab_size)


def distribution_bits(
    vocab_size: base.Array, top_k: int | None = None, bits: int = 16
) -> base.Array:
    """Bits of one distribution.

    Args:
      vocab_size: V, a whole number or an integer array of them.
      top_k: words that are sent, each with its index; None: all, in order.
      bits: of a probability.

    Raises:
      ValueError: ``top_k`` or ``bits`` makes no sense.

    Example:
      >>> distribution_bits(152_064) / 1e6
      2.433024
      >>> distribution_bits(152_064, top_k=10)
      340
    """
    if bits < 1:
        raise ValueError(f"bits is {bits}; give 1 or more")
    if top_k is None:
        return vocab_size * bits
    most = top_k if isinstance(vocab_size, jax.core.Tracer) else np.min(vocab_size)
    if not 1 <= top_k <= most:
        raise ValueError(f"top_k is {top_k}; give 1 to {most}, or None for all")
    return top_k * (token_bits(vocab_size) + bits)


def quantised(log_probs: base.Array, bits: int) -> base.Array:
    """Log-probabilities on ``2^bits`` even levels from `LEAST` to 0, renormalised.

    What lies below `LEAST` is sent as the lowest level, and what was not sent stays
    unsent. The gradient is that of the identity (straight through).

    Args:
      log_probs: ``[..., V]``.
      bits: of one, 1 to 16.

    Returns:
      ``[..., V]``, normalised.

    Raises:
      ValueError: ``bits`` is out of range.
    """
    half = -LEAST / 2
    levels = quantisers.uniform(log_probs + half, bits, half).values - half
    levels = jnp.where(log_probs > UNSENT / 2, levels, log_probs)
    sent = quantisers.straight_through(levels, log_probs)
    return jax.nn.log_softmax(sent, axis=-1)
