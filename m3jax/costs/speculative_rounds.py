"""Rounds of speculative decoding: what is drafted and accepted in each; NumPy.

A round drafts up to gamma tokens, is verified, and yields what was accepted and the
target's token after it. It ends early where the draft model is not confident: the
tokens so far go up and the cloud says the next one (MSAO, Algorithm 1, lines 11 to 13).
"""

from typing import NamedTuple

import numpy as np


class Rounds(NamedTuple):
    """R rounds of each of N requests, ``[N, R]``; shorter requests end with -1.

    Attributes:
      drafted: tokens that are drafted; -1 where there is no round.
      accepted: of them, the leading ones that stand.
      steps: forward passes of the draft model: one more than drafted where the last
        one was not confident.
      asked: bool, whether the cloud was asked for the token after the draft.
      stays: bool, whether nothing is sent: tokens that are not verified.
      ends: bool, whether the last draft that stands is the answer's end, so that no
        token of the target's follows it.
    """

    drafted: np.ndarray
    accepted: np.ndarray
    steps: np.ndarray
    asked: np.ndarray
    stays: np.ndarray
    ends: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """Where there is a round, bool ``[N, R]``."""
        return self.drafted >= 0

    @property
    def full(self) -> np.ndarray:
        """Rounds that were accepted as a whole and asked for nothing more."""
        return self.valid & (self.accepted == self.drafted) & ~self.asked

    def emitted(self, pipelined: bool = False) -> np.ndarray:
        """Tokens that each round yields, ``[N, R]``.

        Args:
          pipelined: the next draft has begun at the place after this one, so a round
            that is accepted as a whole yields no token of the target's.
        """
        after = ~self.stays & ~self.ends & ~(self.full & pipelined)
        return np.where(self.valid, self.accepted + after, 0)


def make_rounds(
    drafted: np.ndarray,
    accepted: np.ndarray,
    *,
    steps: np.ndarray | None = None,
    asked: np.ndarray | bool = False,
    stays: np.ndarray | bool = False,
    ends: np.ndarray | bool = False,
) -> Rounds:
    """Rounds as they were measured.

    Args:
      drafted: ``[N, R]``, -1 where there is no round.
      accepted: as many.
      steps: None: as many as drafted, and one more where asked.
      asked: as in `Rounds`, or one for all.
      stays: as in `Rounds`, or one for all.
      ends: as in `Rounds`, or one for all.

    Raises:
      ValueError: more is accepted than drafted, a request does not end with -1, or an
        answer's end does not stand.

    Example:
      >>> make_rounds([[4, 4, -1]], [[4, 2, 0]]).emitted().tolist()
      [[5, 3, 0]]
    """
    drafted = np.atleast_2d(drafted)
    valid = drafted >= 0
    accepted = np.where(valid, np.broadcast_to(accepted, drafted.shape), 0)
    asked = np.broadcast_to(asked, drafted.shape) & valid
    stays = np.broadcast_to(stays, drafted.shape) & valid
    ends = np.broadcast_to(ends, drafted.shape) & valid
    if np.any(accepted > np.maximum(drafted, 0)) or np.any(accepted < 0):
        raise ValueError("rounds accept between none and all of what they drafted")
    if np.any(valid[:, 1:] & ~valid[:, :-1]):
        raise ValueError("put the rounds of a request first, and -1 after them")
    if np.any(stays & (accepted < drafted)):
        raise ValueError("a round that stays on the edge keeps all that it drafted")
    if np.any(ends & ((accepted < drafted) | (accepted == 0) | asked)):
        raise ValueError("a draft that ends the answer stands, and nothing follows it")
    if steps is None:
        steps = np.where(valid, drafted + asked, 0)
    steps = np.where(valid, np.broadcast_to(steps, drafted.shape), 0)
    return Rounds(drafted, accepted, steps, asked, stays, ends)


def draw_rounds(
    rng: np.random.Generator,
    num: int,
    *,
    tokens: np.ndarray | int,
    draft_length: np.ndarray | int,
    acceptance: np.ndarray | float,
    confident: np.ndarray | float = 1.0,
    pipelined: bool = False,
) -> Rounds:
    """Draws rounds by a law: each place is confident, and accepted, independently.

    The last round drafts no more than what is missing.

    Args:
      rng: of the draws.
      num: N, requests.
      tokens: of each answer, scalar or ``[N]``, at least 1.
      draft_length: gamma, scalar or ``[N]``; 0 for decoding in the cloud.
      acceptance: alpha, probability that a drafted token stands, scalar or ``[N]``.
      confident: probability that a token may be drafted, scalar or ``[N]``.
      pipelined: as in `Rounds.emitted`.

    Raises:
      ValueError: a number is out of range.

    Example:
      >>> drawn = draw_rounds(np.random.default_rng(0), 3, tokens=20, draft_length=4,
      ...                     acceptance=0.8)
      >>> drawn.emitted().sum(axis=1).tolist()
      [20, 20, 20]
    """
    given = {"acceptance": acceptance, "confident": confident}
    for name, value in given.items():
        if np.any(np.asarray(value) < 0.0) or np.any(np.asarray(value) > 1.0):
            raise ValueError(f"{name} is {value}; give probabilities")
    if np.any(np.asarray(tokens) < 1) or np.any(np.asarray(draft_length) < 0):
        raise ValueError("give tokens of 1 or more, and draft_length of 0 or more")
    left = np.broadcast_to(tokens, num).astype(int)
    places = np.arange(max(int(np.max(draft_length)), 1))
    columns = []
    while np.any(left > 0):
        # A token of the target's follows, so one less need be drafted.
        wanted = np.minimum(draft_length, left - (0 if pipelined else 1))
        drawn = rng.uniform(size=(2, num, len(places)))
        sure = drawn[0] < np.asarray(confident)[..., None]
        kept = drawn[1] < np.asarray(acceptance)[..., None]
        drafted = np.minimum(_leading(sure), wanted)
        accepted = np.minimum(_leading(kept), drafted)
        unsure = drafted < wanted
        asked = unsure | (drafted == 0)
        columns.append((drafted, accepted, drafted + unsure, asked, left > 0))
        after = asked | (accepted < drafted) | (not pipelined)
        left = left - np.where(left > 0, accepted + after, 0)
    drafted, accepted, steps, asked, there = (
        np.stack(column, axis=1) for column in zip(*columns, strict=True)
    )
    drafted = np.where(there, drafted, -1)
    return make_rounds(drafted, accepted, steps=steps, asked=asked)


def of_agreement(
    agrees: np.ndarray,
    entropies: np.ndarray,
    valid: np.ndarray,
    *,
    draft_length: np.ndarray | int,
    threshold: np.ndarray | float | None = None,
    pipelined: bool = False,
) -> Rounds:
    """The rounds of greedy decoding, worked out from where draft and target agree.

    A greedy draft that stands is the target's own word. So one reading of the target's
    answer by the draft (`m3jax.systems.msao.agreement`) tells the rounds of every draft
    length and every fixed threshold, with no decoding.

    What is accepted, asked and emitted is exact, and what is drafted too where all of
    it stands. Drafts behind one that fell are nobody's words: of them it is taken that
    their entropies are those at the same places of the target's answer, and that none
    ends the draft. With no threshold they are exact but for a draft that ends early.

    Args:
      agrees: bool ``[N, T]``, whether the draft's most probable word is the target's,
        after the target's own words; T is the most that an answer may hold.
      entropies: ``[N, T]``, of the draft there, over log V.
      valid: bool ``[N, T]``, words of the answer, the first ones: up to and with its
        end, or all T.
      draft_length: gamma, scalar or ``[N]``; 0 for decoding in the cloud.
      threshold: a token above it is not drafted: the round ends, and the cloud says it;
        scalar or ``[N]``; None: every token is.
      pipelined: as in `Rounds.emitted`.

    Raises:
      ValueError: the arrays do not fit each other, an answer is empty or has a hole, or
        a draft length is below 0.

    Example:
      >>> agrees = np.array([[True, True, False, True, True, False]])
      >>> some = np.array([[True, True, True, True, True, False]])  # the 5th word ends
      >>> found = of_agreement(agrees, np.zeros((1, 6)), some, draft_length=3)
      >>> found.drafted.tolist(), found.accepted.tolist(), found.emitted().tolist()
      ([[3, 2]], [[2, 2]], [[3, 2]])
    """
    agrees, valid = np.asarray(agrees, bool), np.asarray(valid, bool)
    entropies = np.asarray(entropies)
    _check_agreement(agrees, entropies, valid, draft_length)
    num, most = agrees.shape
    sure = np.ones_like(agrees)
    if threshold is not None:
        sure = entropies <= np.asarray(threshold)[..., None]
    # Behind an answer's end nothing is said, and what fell goes on.
    sure, agrees = sure | ~valid, agrees & valid
    length, done = valid.sum(axis=1), np.zeros(num, int)
    places = np.arange(max(int(np.max(draft_length)), 1))
    columns = []
    while np.any(done < length):
        # A token of the target's follows, so one less need be drafted.
        left = np.maximum(most - done - (0 if pipelined else 1), 0)
        wanted = np.minimum(draft_length, left)
        at = np.minimum(done[:, None] + places, most - 1)
        drafted = np.minimum(_leading(np.take_along_axis(sure, at, axis=1)), wanted)
        stands = _leading(np.take_along_axis(agrees, at, axis=1))
        accepted = np.minimum(stands, np.minimum(drafted, length - done))
        ends = (accepted > 0) & (done + accepted == length)
        drafted = np.where(ends, accepted, drafted)
        unsure = (drafted < wanted) & ~ends
        asked = unsure | (drafted == 0)
        there = done < length
        columns.append((drafted, accepted, drafted + unsure, asked, ends, there))
        full = (accepted == drafted) & ~asked
        after = ~ends & ~(full & pipelined)
        done = np.where(there, done + accepted + after, done)
    drafted, accepted, steps, asked, ends, there = (
        np.stack(column, axis=1) for column in zip(*columns, strict=True)
    )
    drafted = np.where(there, drafted, -1)
    return make_rounds(drafted, accepted, steps=steps, asked=asked, ends=ends)


def _check_agreement(agrees, entropies, valid, draft_length):
    if agrees.ndim != 2 or not agrees.shape == entropies.shape == valid.shape:
        raise ValueError(
            "agrees, entropies and valid must be [N, T] alike, got"
            f" {agrees.shape}, {entropies.shape} and {valid.shape}"
        )
    if not agrees.size or not np.all(valid[:, 0]):
        raise ValueError("every answer needs a word: valid[:, 0] must be True")
    if np.any(valid[:, 1:] & ~valid[:, :-1]):
        raise ValueError("valid must mark the first words of each answer, with no hole")
    if np.any(np.asarray(draft_length) < 0):
        raise ValueError(f"draft_length is {draft_length}; give 0 or more")


def _leading(true: np.ndarray) -> np.ndarray:
    """How many entries of the last axis are true before the first that is not."""
    return np.cumprod(true, axis=-1).sum(axis=-1)
