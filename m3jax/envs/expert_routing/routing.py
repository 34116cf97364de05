"""Weights of experts: made valid, joined from two heads, and equal over a subset."""

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import subsets

EPSILON = 1e-6
"""The stability constant of M3LLM."""
_TINY = 1e-30
MAX_SUBSET_EXPERTS = 12
"""Above this, there are too many subsets to be actions or to be tried one by one."""


def normalise(weights: base.Array, live: base.Array) -> base.Array:
    """Weights of live experts that sum to one.

    Args:
      weights: ``[N]``; below 0 counts as 0.
      live: bool ``[N]``, at least one True.

    Returns:
      ``[N]``, zero where an expert is not live; equal over all live experts if they
      have no weight at all, NaN if the weight of one is.

    Example:
      >>> normalise(jnp.array([2.0, 1.0, 1.0]), jnp.array([False, True, True]))
      Array([0. , 0.5, 0.5], dtype=float32)
    """
    kept = jnp.where(live, jnp.maximum(weights, 0.0), 0.0)
    total = jnp.sum(kept)
    none = total <= 0.0  # a weight of NaN is not "no weight"
    equal = live / jnp.maximum(jnp.sum(live), 1)
    return jnp.where(none, equal, kept / jnp.where(none, 1.0, total))


def combine(expert: base.Array, channel: base.Array, live: base.Array) -> base.Array:
    """Joins two opinions as a product of experts, in logarithms.

        w = softmax(log w_expert + log w_channel + log live)

    (M3LLM, equation 26, with the mask of algorithm 1, line 14.) Heads that agree on
    nobody share the weight between their favourites, where the plain product would give
    nearly none to anyone.

    Args:
      expert: ``[N]``, non-negative.
      channel: ``[N]``, non-negative.
      live: bool ``[N]``, at least one True.

    Returns:
      ``[N]``, sum 1.
    """
    logits = sum(jnp.log(jnp.maximum(head, _TINY)) for head in (expert, channel))
    return jax.nn.softmax(jnp.where(live, logits, -jnp.inf))


def literal_product(
    expert: base.Array, channel: base.Array, live: base.Array
) -> base.Array:
    """Equation 26 of M3LLM as printed, with the mask of algorithm 1.

        w = w_expert w_channel / (sum w_expert w_channel + eps)

    The arguments are those of `combine`. The sum may be far below 1.
    """
    product = jnp.where(live, expert * channel, 0.0)
    return product / (jnp.sum(product) + EPSILON)


def subset_actions(num_experts: int) -> np.ndarray:
    """The subset of each action: every one but the empty one.

    Args:
      num_experts: N, at most `MAX_SUBSET_EXPERTS`.

    Returns:
      bool ``[2^N - 1, N]``: entry i of row a is bit i of ``a + 1``.

    Raises:
      ValueError: N is too large.
    """
    if num_experts > MAX_SUBSET_EXPERTS:
        raise ValueError(
            f"{num_experts} experts have {2**num_experts - 1} subsets; use at most"
            f" {MAX_SUBSET_EXPERTS} experts, or actions='weights'"
        )
    return subsets.masks(num_experts)[1:]


def shares(num_experts: int, parts: int) -> np.ndarray:
    """All weights that are multiples of ``1 / parts`` and sum to one.

    Args:
      num_experts: N.
      parts: P, at least 1.

    Returns:
      float32 ``[(P + N - 1)! / (P! (N - 1)!), N]``.

    Example:
      >>> shares(2, 2).tolist()
      [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """

    def split(left: int, over: int) -> list[tuple[int, ...]]:
        if over == 1:
            return [(left,)]
        return [
            (n, *rest) for n in range(left + 1) for rest in split(left - n, over - 1)
        ]

    return np.array(split(parts, num_experts), np.float32) / parts
