"""Who answers a token: top-k, or what a function of your own asks for.

Everywhere ``weights [T, n]`` says both who is asked (not zero) and how much it counts.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from m3jax import base

Select = Callable[..., base.Array]
"""``(probs [T, n], mask [T]) -> weights [T, n]``, pure, not negative, zero for experts
that are not asked; with per-layer data, ``(probs, mask, data) -> weights``."""


def select_top_k(
    probs: base.Array,
    mask: base.Array | None = None,
    *,
    top_k: int,
    renormalised: bool = True,
) -> base.Array:
    """Asks the k most probable experts of each token; of equal ones the first.

    Mixtral (2401.04088), section 2.1: a softmax over the logits of the k best equals
    the softmax over all, renormalised on them.

    Args:
      probs: [T, n].
      mask: bool [T], True for valid tokens; None: all are.
      top_k: k.
      renormalised: whether the weights of a token sum to one.

    Returns:
      Weights [T, n].

    Example:
      >>> probs = jnp.array([[0.5, 0.25, 0.125, 0.125]])
      >>> select_top_k(probs, top_k=3).round(2)
      Array([[0.57, 0.29, 0.14, 0.  ]], dtype=float32)
    """
    weights = limit(probs, top_k)
    if renormalised:
        weights = renormalise(weights)
    return weights if mask is None else jnp.where(mask[:, None], weights, 0)


def renormalise(weights: base.Array) -> base.Array:
    """Scales ``weights [..., n]`` to sum to one; rows of zeros stay."""
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total == 0, 1, total)


def limit(weights: base.Array, max_experts: int) -> base.Array:
    """Keeps the ``max_experts`` largest of each row, of equal ones the first.

    Args:
      weights: [..., n], not negative.
      max_experts: at most n.

    Returns:
      [..., n], zero elsewhere.
    """
    num_experts = weights.shape[-1]
    _, experts = jax.lax.top_k(weights, max_experts)
    kept = (experts[..., None] == jnp.arange(num_experts)).any(axis=-2)
    return jnp.where(kept, weights, 0)


def within(weights: base.Array, capacity: int) -> base.Array:
    """Lets each expert take its first ``capacity`` tokens and leave out the later ones.

    What is left is not renormalised: as in the Switch Transformer (2101.03961, section
    2.2) a token that nobody takes passes by the residual path alone.

    Args:
      weights: [T, n].
      capacity: tokens that one expert takes.

    Returns:
      Weights [T, n].

    Example:
      >>> within(jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), 1).tolist()
      [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    if capacity >= len(weights):
        return weights
    rank = jnp.cumsum(weights != 0, axis=0, dtype=jnp.int32)
    return jnp.where(rank <= capacity, weights, 0)
