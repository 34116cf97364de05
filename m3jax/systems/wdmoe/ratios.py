"""Weights against latencies, and the order of weights: what policies are made of."""

import jax.numpy as jnp

from m3jax import base


def weight_latency_ratio(
    probs: base.Array, kept: base.Array, latencies: base.Array
) -> base.Array:
    """Ratio of weight to latency of each expert (WDMoE, equation 12).

        WLR_k = sum_j q_jk w_jk / (q_k t_k)

    the mean weight of its tokens over what one of them takes; 0 for an idle expert.

    Args:
      probs: w, ``[..., T, n]``.
      kept: q, bool, the same.
      latencies: t, seconds of a token, ``[..., n]``.

    Returns:
      ``[..., n]``, 1/s.
    """
    tokens = jnp.sum(kept, axis=-2)
    busy = (tokens > 0) & (latencies > 0.0)
    weight = jnp.sum(jnp.where(kept, probs, 0.0), axis=-2)
    return jnp.where(busy, weight / jnp.where(busy, tokens * latencies, 1.0), 0.0)


def cosine_similarity(weights: base.Array, latencies: base.Array) -> base.Array:
    """Likeness of weights and latencies for each token; 0 where a vector is 0.

        S_j = w_j . t / (|w_j| |t|)                     (WDMoE, 18)

    Args:
      weights: ``[T, n]``.
      latencies: ``[n]``; where some are ``inf``, only these count, and alike.

    Returns:
      ``[T]``, from 0 to 1.
    """
    far = jnp.isinf(latencies)
    scale = jnp.max(jnp.where(far, 0.0, latencies))
    shape = jnp.where(jnp.any(far), far, latencies / jnp.where(scale > 0, scale, 1.0))
    norms = jnp.sqrt(jnp.sum(weights**2, axis=-1) * jnp.sum(shape**2))
    along = jnp.sum(weights * shape, axis=-1)
    return jnp.where(norms > 0.0, along / jnp.where(norms > 0.0, norms, 1.0), 0.0)


def top_k(probs: base.Array, mask: base.Array, k: int) -> base.Array:
    """The k greatest of each row, bool ``[T, n]``; of equal ones the first."""
    return (rank(probs) < k) & mask[:, None]


def lowest(probs: base.Array, kept: base.Array) -> base.Array:
    """The least of the kept of each row, bool ``[T, n]``; of equal ones the last."""
    place = jnp.where(kept, rank(probs), -1)
    return kept & (place == jnp.max(place, axis=-1, keepdims=True))


def is_several(kept: base.Array) -> base.Array:
    """Which tokens have an expert to lose, bool ``[T]``."""
    return jnp.sum(kept, axis=-1) > 1


def rank(probs: base.Array) -> base.Array:
    """Place of each in its row, from the greatest; equal ones by their number."""
    greater = probs[..., None, :] > probs[..., :, None]
    number = jnp.arange(probs.shape[-1])
    earlier = number[None, :] < number[:, None]
    same = probs[..., None, :] == probs[..., :, None]
    return jnp.sum(greater | (same & earlier), axis=-1)
