"""What several experts say, made one: by tokens (MoE2, algorithm 3) or by answers.

Tokens are fused as a mixture of distributions, so all experts must share a vocabulary,
and each keeps a cache of the history they have in common. Answers are fused by a vote,
which needs no more than the texts.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering
from m3jax.nn import decoder as decoder_lib
from m3jax.systems.moe2 import gate as gate_lib
from m3jax.systems.moe2 import pool as pool_lib


def mixture(log_weights: base.Array, log_probs: base.Array) -> base.Array:
    """The fused distribution F = sum_n w_n f_n (MoE2, equation 3), in logarithms.

    Args:
      log_weights: ``[B, N]``.
      log_probs: ``[B, N, A, V]``, normalised.

    Returns:
      ``[B, A, V]``, normalised.
    """
    weighted = log_weights[:, :, None, None] + log_probs
    return jax.nn.logsumexp(weighted, axis=1)


class Answers(NamedTuple):
    """Answers, and who took part.

    Attributes:
      tokens: int32 [B, T]: the answer, EOS (if it fits), then PAD.
      members: bool [T, B, N]: experts whose distributions made each token.
      lost: bool [T, N]: experts that were there before a step and not at it.
    """

    tokens: base.Array
    members: base.Array
    lost: base.Array


def generate(
    pool: pool_lib.Pool,
    params: base.Params,
    scores: base.Array,
    question: base.Array,
    num_tokens: int,
    *,
    members: base.Array | None = None,
    top_k: int | None = None,
    alive: base.Array | None = None,
    key: base.Array | None = None,
) -> Answers:
    """Says answers token by token, all experts together (MoE2, algorithm 3).

    An expert that fails is left out from that token on, the weights of the others are
    renormalised, and top-k chooses among those that are left.

    Args:
      pool: the experts.
      params: of the pool.
      scores: float32 [B, N], of the gate.
      question: int32 [B, Q], padded.
      num_tokens: length of the answers, T; static.
      members: bool [N] or [B, N], the subset S; None: all.
      top_k: experts of each prompt, at most; None: all of S.
      alive: bool [T, N], whether each expert answers in time for each token; None:
        always. Who is lost once stays lost; if nobody of S is left, the last ones go
        on.
      key: samples tokens from the mixture; None takes the most probable.

    Returns:
      The answers.

    Raises:
      ValueError: ``num_tokens`` is less than one.
    """
    if num_tokens < 1:
        raise ValueError(f"num_tokens must be at least 1, got {num_tokens}")
    batch_size, num = scores.shape
    members = jnp.ones(num, bool) if members is None else members
    members = jnp.broadcast_to(members, scores.shape)
    if alive is None:
        alive = jnp.ones((num_tokens, num), bool)
    alive = jnp.cumprod(alive, axis=0).astype(bool)  # who is lost stays lost
    speakers = [_Speaker(pool, params, n) for n in range(num)]
    length = question.shape[1] + num_tokens
    caches = [speaker.start(question, length) for speaker in speakers]

    def step(carry, given):
        word, done, caches, left = carry
        there, number = given
        still = left & there
        left = jnp.where(jnp.any(still & members, -1, keepdims=True), still, left)
        heard = [
            speaker.next(word, cache)
            for speaker, cache in zip(speakers, caches, strict=True)
        ]
        said, caches = zip(*heard, strict=True)
        taking_part = members & left
        weights = gate_lib.log_weights(scores, taking_part, top_k)
        fused = mixture(weights, jnp.stack(said, axis=1)[:, :, None])[:, 0]
        if key is None:
            word = jnp.argmax(fused, axis=-1)
        else:
            word = jax.random.categorical(jax.random.fold_in(key, number), fused)
        word = jnp.where(done, answering.PAD, word.astype(jnp.int32))
        if top_k is not None:
            taking_part = gate_lib.chosen(scores, taking_part, top_k)
        carry = word, done | (word == answering.EOS), list(caches), left
        return carry, (word, taking_part & ~done[:, None])

    word = jnp.full(batch_size, answering.BOS, jnp.int32)
    carry = word, jnp.zeros(batch_size, bool), caches, jnp.ones((batch_size, num), bool)
    given = alive, jnp.arange(num_tokens)
    _, (tokens, took_part) = jax.lax.scan(step, carry, given)
    before = jnp.concatenate([jnp.ones((1, num), bool), alive[:-1]])
    return Answers(tokens.T, took_part, before & ~alive)


def vote(
    answers: base.Array, weights: base.Array, members: base.Array | None = None
) -> base.Array:
    """The answer that most experts give, each with its weight.

    Ties go to the answer whose first supporter has the lowest index. Texts are all that
    is needed, so vocabularies may differ once the answers are in one.

    Args:
      answers: int32 ``[N, A]``, padded alike.
      weights: ``[N]``, 0 or more; equal ones for majority voting.
      members: bool ``[N]``; None: all vote.

    Returns:
      int32 scalar: the index of an expert that gives the winning answer.

    Example:
      >>> answers = jnp.array([[5, 2], [7, 2], [7, 2]])
      >>> int(vote(answers, jnp.ones(3)))
      1
    """
    votes = weights if members is None else jnp.where(members, weights, 0.0)
    same = jnp.all(answers[:, None] == answers[None], axis=-1)
    # A hair of float32 must not decide a tie that exact sums would have.
    support = jnp.round(same @ votes.astype(jnp.float32), 5)
    if members is not None:
        support = jnp.where(members, support, -1.0)
    return jnp.argmax(support).astype(jnp.int32)


def check_vocabularies(vocabularies: Mapping[str, tuple[str, ...]]) -> None:
    """Refuses experts that do not share a vocabulary, by name.

    Args:
      vocabularies: expert -> its words, in the order of their ids.

    Raises:
      ValueError: two experts differ; says which, and what fuses them nevertheless.
    """
    (first, words), *others = vocabularies.items()
    for name, own in others:
        if own != words:
            raise ValueError(
                f"the distributions of {first!r} ({len(words)} words) and {name!r}"
                f" ({len(own)} words) cannot be mixed token by token, since their"
                " vocabularies differ; fuse whole answers instead, with fusion.vote"
            )


class _Speaker:
    """One expert's decoder with a cache of its own."""

    def __init__(self, pool: pool_lib.Pool, params: base.Params, number: int):
        self._decoder = pool.decoders[pool.config.placement[number]]
        self._variables = {"params": pool.expert(params, number)}

    def start(self, question: base.Array, length: int) -> decoder_lib.KVCache:
        """Reads the prompt."""
        cache = decoder_lib.init_cache(self._decoder.config, len(question), length)
        words = self._decoder.apply(self._variables, question, method="embed")
        mask = question != answering.PAD
        return self._decoder.apply(self._variables, words, mask, cache)[1]

    def next(self, word: base.Array, cache: decoder_lib.KVCache):
        """Log-probabilities [B, V] of what follows ``word [B]``, and the cache."""
        embeds = self._decoder.apply(self._variables, word[:, None], method="embed")
        there = jnp.ones((len(word), 1), bool)
        hidden, cache = self._decoder.apply(self._variables, embeds, there, cache)
        logits = self._decoder.apply(self._variables, hidden[:, 0], method="logits")
        return jax.nn.log_softmax(logits), cache
