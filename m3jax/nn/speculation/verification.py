"""Which drafts stand, and the law of the word that follows them.

Rejection sampling (Leviathan et al. 2023, 2211.17192; Chen et al. 2023, 2302.01318): a
draft ``x`` drawn from ``q`` stands with probability ``min(1, p(x) / q(x))``; in place
of the first one that falls comes a word drawn from what ``p`` has more than ``q``.
Whatever ``q`` is, the words then have the law of the target, ``p``. Only one thing must
hold: **a draft is judged by the very distribution that it was drawn from.**
"""

from typing import NamedTuple

import jax.numpy as jnp

from m3jax import base


class Verdict(NamedTuple):
    """What became of the drafts of a round.

    Attributes:
      accepted: int32 [B], how many stand, n: the first n of them.
      final_law: float [B, V], law of the word after them; of a greedy verdict None.
      final: int32 [B], that word, of a greedy verdict; else None.
      agreement: float [B, G], the probability that a draft here would stand, sum_v
        min(p(v), q(v)); of a greedy verdict 1 or 0. Of use where all before stand.
    """

    accepted: base.Array
    final_law: base.Array | None
    final: base.Array | None
    agreement: base.Array


def accept_probability(
    target: base.Array, draft: base.Array, words: base.Array
) -> base.Array:
    """The probability that a draft stands, ``min(1, p(x) / q(x))``.

    Args:
      target: p, ``[..., V]``.
      draft: q, ``[..., V]``, that x was drawn from.
      words: x, int ``[...]``.

    Returns:
      ``[...]``.
    """
    at = words[..., None]
    wanted = jnp.take_along_axis(target, at, axis=-1)[..., 0]
    given = jnp.take_along_axis(draft, at, axis=-1)[..., 0]
    # A word with q(x) = 0 cannot be drawn: what is returned for it counts nowhere.
    sure = wanted >= given
    return jnp.where(sure, 1.0, wanted / jnp.where(sure, 1.0, given))


def residual(target: base.Array, draft: base.Array) -> base.Array:
    """The law of the word in place of a fallen one, ``max(p - q, 0)``, normalised.

    Args:
      target: p, ``[..., V]``.
      draft: q, ``[..., V]``.

    Returns:
      ``[..., V]``; p where p and q are the same and nothing can fall.
    """
    more = jnp.maximum(target - draft, 0.0)
    mass = jnp.sum(more, axis=-1, keepdims=True)
    nothing = mass == 0.0
    return jnp.where(nothing, target, more / jnp.where(nothing, 1.0, mass))


def agreement(target: base.Array, draft: base.Array) -> base.Array:
    """The mean probability that a draft stands, ``sum_v min(p, q) = 1 - TV(p, q)``.

    Example:
      >>> p, q = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.25, 0.25, 0.5])
      >>> float(agreement(p, q))
      0.5
    """
    return jnp.sum(jnp.minimum(target, draft), axis=-1)


def judge(
    target: base.Array,
    draft: base.Array,
    words: base.Array,
    valid: base.Array,
    coins: base.Array,
) -> Verdict:
    """Rejection sampling, as a function of its coins.

    Args:
      target: p, float [B, G + 1, V], after what came before and 0, 1, ... G drafts.
      draft: q, float [B, G, V], each the law that its word was drawn from.
      words: int32 [B, G], the drafts.
      valid: bool [B, G], those that there are: the first ones of each row.
      coins: uniform in [0, 1), [B, G].

    Returns:
      The `Verdict`; its ``final_law`` is the target's own if all drafts stand.
    """
    stands = coins < accept_probability(target[:, :-1], draft, words)
    accepted = _leading(stands & valid)
    at = accepted[:, None, None]
    own = jnp.take_along_axis(target, at, axis=1)[:, 0]
    # Drafts that there are not are nobody's, and take nothing from the target.
    there = jnp.pad(jnp.where(valid[..., None], draft, 0.0), ((0, 0), (0, 1), (0, 0)))
    against = jnp.take_along_axis(there, at, axis=1)[:, 0]
    final_law = residual(own, against)
    return Verdict(accepted, final_law, None, agreement(target[:, :-1], draft))


def judge_greedy(target: base.Array, words: base.Array, valid: base.Array) -> Verdict:
    """The drafts that the target would have said itself.

    What `judge` says of point masses, without making them.

    Args:
      target: int32 [B, G + 1], the most probable words of the target.
      words: int32 [B, G], the drafts.
      valid: bool [B, G], those that there are.

    Example:
      >>> found = judge_greedy(
      ...     jnp.array([[5, 6, 7]]), jnp.array([[5, 9]]), jnp.ones((1, 2), bool)
      ... )
      >>> found.accepted.tolist(), found.final.tolist()
      ([1], [6])
    """
    alike = words == target[:, :-1]
    accepted = _leading(alike & valid)
    final = jnp.take_along_axis(target, accepted[:, None], axis=1)[:, 0]
    return Verdict(accepted, None, final, alike.astype(jnp.float32))


def _leading(flags):
    """How many flags of each row [B, G] are True before the first False."""
    return jnp.sum(jnp.cumprod(flags.astype(jnp.int32), axis=1), axis=1)
