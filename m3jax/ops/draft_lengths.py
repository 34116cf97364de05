"""How many tokens to draft before they are verified, and what that brings.

A draft model says ``g`` tokens, a target accepts the first of them that agree and says
one more. With every draft accepted with probability ``a`` whatever came before, a round
brings

    E[N] = 1 + a + ... + a^g = (1 - a^(g + 1)) / (1 - a)

tokens (Leviathan et al. 2023, 2211.17192, equation 1).
"""

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import numbers


def expected_tokens(acceptance: base.Array, length: base.Array) -> base.Array:
    """Mean tokens of a round, the target's own one among them.

    Args:
      acceptance: a, the probability that a draft is accepted, in [0, 1].
      length: g, tokens that are drafted, 0 or more; broadcasts with ``acceptance``.

    Returns:
      E[N], in [1, g + 1].

    Example:
      >>> round(float(expected_tokens(0.7, 4)), 2), float(expected_tokens(1.0, 4))
      (2.77, 5.0)
    """
    acceptance, length = numbers.as_floats(acceptance, length)
    outside = (acceptance <= 0.0) | (acceptance >= 1.0)  # NaN is not
    inside = jnp.where(outside, 0.5, acceptance)
    # Exact near 1 too, where both differences lose their digits.
    log_acceptance = jnp.log1p(-(1.0 - inside))
    found = -jnp.expm1((length + 1.0) * log_acceptance) / (1.0 - inside)
    found = jnp.where(acceptance >= 1.0, length + 1.0, found)
    return jnp.where(acceptance <= 0.0, 1.0, found)


def best_length(acceptance: base.Array, round_s: base.Array) -> base.Array:
    """The length of most tokens a second, argmax over g of E[N](a, g) / seconds(g).

    Args:
      acceptance: a, ``[...]``.
      round_s: seconds of a round that drafts 1, 2, ... G tokens, ``[..., G]``.

    Returns:
      int32 ``[...]``, from 1 to G; of equal ones the shortest, 1 where NaN leaves none.

    Raises:
      ValueError: if ``round_s`` is empty.

    Example:
      >>> round_s = 0.010 * jnp.arange(1, 6) + 0.020 + 0.0286
      >>> [int(best_length(a, round_s)) for a in (0.1, 0.7, 0.95)]
      [1, 3, 5]
    """
    numbers.require_some(round_s, "round_s", axis=-1)
    acceptance, round_s = numbers.as_floats(acceptance, round_s)
    lengths = jnp.arange(1, round_s.shape[-1] + 1)
    speeds = expected_tokens(acceptance[..., None], lengths) / round_s
    speeds = jnp.where(jnp.isnan(speeds), -jnp.inf, speeds)
    return 1 + jnp.argmax(speeds, axis=-1).astype(jnp.int32)


def paper_length(
    confidence: base.Array, target: base.Array = 0.8, most: int = 5
) -> base.Array:
    """MSAO's length, floor(log(1 - P_target) / log(P_conf)) within 1 to N_max.

    Algorithm 1, line 5, taken literally. It is the longest draft of which *all* tokens
    are confident with probability 1 - P_target at least; P^N >= P_target, which its
    name would ask for, gives none at all at the paper's own figures.

    Args:
      confidence: P_conf, share of steps whose entropy is below the threshold.
      target: P_target, below 1.
      most: N_max.

    Returns:
      int32, of the broadcast shape; 1 for NaN.

    Example:
      >>> [int(paper_length(p)) for p in (0.0, 0.3, 0.7, 0.9, 1.0)]
      [1, 1, 4, 5, 5]
    """
    confidence, target = numbers.as_floats(confidence, target)
    inside = jnp.clip(confidence, 1e-6, 1.0 - 1e-6)
    ratio = jnp.log1p(-target) / jnp.log(inside)
    ratio = jnp.where(jnp.isnan(ratio), 1.0, ratio)  # integers have no NaN
    return jnp.clip(jnp.floor(ratio), 1, most).astype(jnp.int32)
