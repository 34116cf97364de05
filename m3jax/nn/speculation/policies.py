"""How many tokens to draft in a round, and when to stop before that.

A policy is a few pure functions over a state, whose leaves are [B, ...]: each sequence
goes its own way. Whether to go on may hang on the law that a draft would be drawn from,
**not on the word that was drawn**: a rule that takes a word back bends the law.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import draft_lengths

State = base.Params


class Feedback(NamedTuple):
    """What a round taught; positions of a sequence that is done are all False.

    Attributes:
      entropies: float32 [B, G], entropy of the draft over log V, where it was asked.
      judged: bool [B, G], drafts whose turn came.
      agreement: float [B, G], the probability that they stand, 0 or 1 if greedy.
      agreed: bool [B, G], drafts that stand, and words that the target said for want of
        confidence where the draft's most probable word was the same.
      deferred: bool [B], whether the draft was not confident.
    """

    entropies: base.Array
    judged: base.Array
    agreement: base.Array
    agreed: base.Array
    deferred: base.Array


class Policy(NamedTuple):
    """How drafts are rationed.

    Attributes:
      max_draft: G, the longest draft; fixes the shapes.
      init: ``batch_size -> state``.
      length: ``state -> int32 [B]``, tokens to draft in this round, 1 to G. Fewer are
        drafted where the answer is nearly full.
      confident: ``(state, entropy [B]) -> bool [B]``, whether the draft says a token of
        this normalised entropy itself; None: always.
      update: ``(state, Feedback) -> state``.
    """

    max_draft: int
    init: Callable[[int], State]
    length: Callable[[State], base.Array]
    confident: Callable[[State, base.Array], base.Array] | None
    update: Callable[[State, Feedback], State]


def fixed(length: int) -> Policy:
    """Always as many tokens.

    Raises:
      ValueError: ``length`` is below 1.
    """
    _check_length(length)
    return Policy(
        length,
        init=lambda batch_size: jnp.full(batch_size, length, jnp.int32),
        length=lambda state: state,
        confident=None,
        update=lambda state, feedback: state,
    )


def throughput_optimal(
    round_s: base.Array, prior: float = 0.7, weight: float = 4.0
) -> Policy:
    """As many tokens as bring the most a second at the acceptance seen so far.

    Acceptance is tracked apart from confidence: the mean over judged drafts of
    sum_v min(p, q), or of 0 and 1 if greedy, with a prior.

    Args:
      round_s: seconds of a round that drafts 1, 2, ... G tokens, ``[G]``, such as
        `m3jax.costs.speculation.round_s` gives.
      prior: acceptance before anything was judged.
      weight: drafts that the prior is worth.

    Raises:
      ValueError: there is no length to choose.
    """
    round_s = jnp.asarray(round_s)
    _check_length(round_s.shape[-1])

    def init(batch_size):
        total = jnp.full(batch_size, weight, jnp.float32)
        return prior * total, total

    def length(state):
        stood, judged = state
        return draft_lengths.best_length(stood / judged, round_s)

    def update(state, feedback):
        stood, judged = state
        stood += jnp.sum(jnp.where(feedback.judged, feedback.agreement, 0.0), axis=1)
        return stood, judged + jnp.sum(feedback.judged, axis=1)

    return Policy(round_s.shape[-1], init, length, None, update)


def confidence_stopped(
    threshold: float,
    max_draft: int,
    *,
    rate: float = 0.1,
    margin: float = 1.5,
    least: float = 0.05,
    most: float = 0.95,
) -> Policy:
    """Drafts until a token of more than so much entropy, which the target then says.

    The threshold follows ``margin`` times a moving average of the entropy at which both
    agree: of drafts that stand, and of words that were left to the
    target and came out as the draft would have said them. The latter lie above the
    threshold, so it rises as well as it falls. A threshold that learnt of accepted
    drafts only could do nothing but fall.

    Args:
      threshold: to begin with, on entropy over log V, in [0, 1].
      max_draft: G.
      rate: of the moving average, in a round; 0: the threshold stays.
      margin: threshold over mean entropy.
      least: lower bound of the threshold.
      most: upper bound.

    Raises:
      ValueError: a setting makes no sense.
    """
    _check_length(max_draft)
    if not 0.0 <= least <= threshold <= most <= 1.0:
        raise ValueError(
            "confidence_stopped needs 0 <= least <= threshold <= most <= 1, got"
            f" least={least}, threshold={threshold}, most={most}."
        )

    def update(state, feedback):
        weights = feedback.agreed.astype(jnp.float32)
        mean = _mean(feedback.entropies, weights)
        seen = jnp.any(feedback.agreed, axis=1)
        moved = state + rate * (margin * mean - state)
        return jnp.where(seen, jnp.clip(moved, least, most), state)

    return Policy(
        max_draft,
        init=lambda batch_size: jnp.full(batch_size, threshold, jnp.float32),
        length=lambda state: jnp.full(state.shape, max_draft, jnp.int32),
        confident=lambda state, entropy: entropy <= state,
        update=update,
    )


def paper(
    threshold: float,
    confidence: float = 0.7,
    *,
    target: float = 0.8,
    max_draft: int = 5,
    decay: float = 0.95,
    rate: float = 0.1,
    least: float = 0.01,
) -> Policy:
    """MSAO's Algorithm 1, lines 4 to 13, to the letter.

    The length is `draft_lengths.paper_length`, fixed for an answer. The threshold
    follows the entropy of accepted drafts (line 10) and shrinks with every token that
    is deferred (line 13): both lower it, so it ends at ``least``. Use
    `confidence_stopped` for one that does not.

    Args:
      threshold: theta at first, the 70th percentile of the normalised entropies of a
        calibration set.
      confidence: P_conf; 0.7 by the choice of the threshold.
      target: P_target.
      max_draft: N_max.
      decay: delta.
      rate: of the moving average, which the paper does not give.
      least: theta_min, which it does not give either.

    Raises:
      ValueError: a setting makes no sense.
    """
    _check_length(max_draft)
    if not 0.0 <= least <= threshold <= 1.0:
        raise ValueError(
            "paper needs 0 <= least <= threshold <= 1 of a normalised entropy, got"
            f" least={least}, threshold={threshold}."
        )
    drafted = draft_lengths.paper_length(confidence, target, max_draft)

    def update(state, feedback):
        accepted = (feedback.agreed & feedback.judged).astype(jnp.float32)
        moved = state + rate * (_mean(feedback.entropies, accepted) - state)
        state = jnp.where(jnp.any(accepted > 0, axis=1), moved, state)
        state = jnp.where(feedback.deferred, state * decay, state)
        return jnp.maximum(state, least)

    return Policy(
        max_draft,
        init=lambda batch_size: jnp.full(batch_size, threshold, jnp.float32),
        length=lambda state: jnp.broadcast_to(drafted, state.shape),
        confident=lambda state, entropy: entropy <= state,
        update=update,
    )


def _mean(values, weights):
    """Of each row [B, G]; 0 where nothing weighs."""
    total = jnp.sum(jnp.where(weights > 0, values * weights, 0.0), axis=1)
    return total / jnp.maximum(jnp.sum(weights, axis=1), 1e-9)


def _check_length(length):
    if length < 1:
        raise ValueError(f"the longest draft must be 1 token or more, got {length}.")
