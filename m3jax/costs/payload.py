"""What goes over the air for a token, in bits, and what is lost by sending less of it.

Fusing distributions needs every expert's distribution for every token (MoE2, equation
6): V numbers. Few words hold most of it, so a part can be sent instead.
"""

import math

import jax
import jax.numpy as jnp

from m3jax import base

LEAST = -20.0
"""Quantised log-probabilities reach down to this, in nats."""


def distribution_bits(
    vocab_size: int, top_k: int | None = None, bits: int = 16
) -> float:
    """Bits of one distribution.

    Args:
      vocab_size: V.
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
    if not 1 <= top_k <= vocab_size:
        raise ValueError(f"top_k is {top_k}; give 1 to {vocab_size}, or None for all")
    return top_k * (token_bits(vocab_size) + bits)


def token_bits(vocab_size: int) -> int:
    """Bits of a token's index."""
    return max(math.ceil(math.log2(vocab_size)), 1)


def top_k_renormalised(log_probs: base.Array, top_k: int) -> base.Array:
    """The distribution of the most probable words, the others' mass shared out.

    Args:
      log_probs: ``[..., V]``, normalised.
      top_k: words that stay, at least 1.

    Returns:
      ``[..., V]``, normalised; about -1e9 for a word that was not sent. The gradient
      flows through the words that stay.
    """
    if top_k >= log_probs.shape[-1]:
        return log_probs
    least = jax.lax.top_k(jax.lax.stop_gradient(log_probs), top_k)[0][..., -1:]
    kept = jnp.where(log_probs >= least, log_probs, -1e9)
    return jax.nn.log_softmax(kept, axis=-1)


def quantised(log_probs: base.Array, bits: int) -> base.Array:
    """Log-probabilities on ``2^bits`` even steps from `LEAST` to 0, renormalised.

    What lies below `LEAST` is sent as that. The gradient is that of the identity.
    """
    step = -LEAST / (2**bits - 1)
    rounded = jnp.round(jnp.clip(log_probs, LEAST, 0.0) / step) * step
    sent = log_probs + jax.lax.stop_gradient(rounded - log_probs)
    return jax.nn.log_softmax(sent, axis=-1)
