"""Distributions cut down to their most probable words."""

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base

UNSENT = -1e9
"""Log-probability, before renormalisation, of a word that was left out."""


def top_k_renormalised(log_probs: base.Array, top_k: int) -> base.Array:
    """The distribution of the most probable words, the others' mass shared out.

        q_v = p_v / sum of p over the k words that stay

    Args:
      log_probs: ``[..., V]``, normalised.
      top_k: k, words that stay: exactly so many, of equal ones the first.

    Returns:
      ``[..., V]``, normalised; about -1e9 for a word that was left out. The gradient
      flows through the words that stay.

    Raises:
      ValueError: ``top_k`` is below 1.
    """
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; give 1 or more, or send all")
    if top_k >= log_probs.shape[-1]:
        return log_probs
    _, sent = lax.top_k(lax.stop_gradient(log_probs), top_k)
    stays = jnp.zeros(log_probs.shape, bool)
    stays = jnp.put_along_axis(stays, sent, True, axis=-1, inplace=False)
    return jax.nn.log_softmax(jnp.where(stays, log_probs, UNSENT), axis=-1)
