"""Speculative decoding of a batch: a draft says several words, a target judges them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import decoder as decoder_lib
from m3jax.nn.speculation import (
    caches,
    drafting,
    parties,
    policies,
    protocols,
    verification,
)
from m3jax.nn.speculation import (
    counts as counts_lib,
)

MODES = ("verified", "edge_accept")


def speculate(
    target: parties.Party,
    draft: parties.Party,
    num_tokens: int,
    policy: policies.Policy,
    *,
    protocol: protocols.Protocol | None = None,
    temperature: float = 0.0,
    key: base.Array | None = None,
    mode: str = "verified",
    vocab_size: int | None = None,
    bos: int = 1,
    eos: int = 2,
    pad: int = 0,
) -> counts_lib.Result:
    """Continues a prefix by the law of the target, several words a round.

    Greedy, the words are those of `m3jax.nn.generation.generate` on the target alone;
    with a temperature they have its law. That is ``mode="verified"``. In
    ``mode="edge_accept"`` what the draft says with confidence stays unjudged, and the
    target only says the words that the draft was not confident of: cheaper, and by the
    law of neither.

    A token that the policy is not confident of is not drafted: what was drafted so far
    goes up, and the target says that token (MSAO, Algorithm 1, lines 11 to 13).

    Args:
      target: who judges, with its prefix.
      draft: who drafts, with its own.
      num_tokens: words to write, N; static.
      policy: how long the drafts are.
      protocol: what is sent of a draft; None: `protocols.ids`.
      temperature: of both; 0: the most probable word. Static.
      key: random key, consumed; needed with a temperature.
      mode: "verified" or "edge_accept"; static.
      vocab_size: words that both know, if their tables differ.
      bos: word that starts the answer; read after the prefix, not returned.
      eos: word that ends it.
      pad: what follows ``eos``.

    Returns:
      A `Result`: words [B, N] and counts of each sequence.

    Raises:
      ValueError: a setting makes no sense, or the parties do not fit each other.

    Example:
      >>> model = decoder_lib.Decoder(decoder_lib.DecoderConfig(11, dim=32, depth=2))
      >>> embeds, mask = jnp.ones((1, 2, 32)), jnp.ones((1, 2), bool)
      >>> params = jax.jit(model.init)(jax.random.key(0), embeds, mask)["params"]
      >>> target = parties.Party(params, embeds, mask, model)
      >>> first, part = parties.first_layers(model, params, 1)
      >>> draft = parties.Party(part, embeds, mask, first)
      >>> jitted = jax.jit(speculate, static_argnums=(2, 3), static_argnames="eos")
      >>> found = jitted(target, draft, 5, policies.fixed(2), eos=-1)
      >>> found.words.shape, found.counts.emitted.tolist()
      ((1, 5), [5])
    """
    protocol = protocols.ids() if protocol is None else protocol
    _check(target, draft, num_tokens, protocol, temperature, key, mode)
    rules = drafting.Rules(
        policy,
        protocol,
        temperature,
        parties.shared_vocabulary(target, draft, vocab_size),
        eos,
    )
    key = jax.random.key(0) if key is None else key
    turn = _Turn(target, draft, rules, mode == "verified", num_tokens)
    state = jax.lax.while_loop(
        lambda state: ~jnp.all(state.done),
        lambda state: _round(turn, key, state),
        _start(turn, bos, pad),
    )
    return counts_lib.Result(
        state.words, state.counts, state.num_rounds, mode, protocol.name
    )


class _Turn(NamedTuple):
    """What all rounds share."""

    target: parties.Party
    draft: parties.Party
    rules: drafting.Rules
    verified: bool
    num_tokens: int


class _State(NamedTuple):
    """Between two rounds. Neither cache has read ``last``."""

    num_rounds: base.Array
    words: base.Array  # int32 [B, N]
    done: base.Array  # bool [B]
    last: base.Array  # int32 [B], last word of the answer
    unread: base.Array  # int32 [B], the word before, if the draft has not read it
    is_unread: base.Array  # bool [B]
    target_cache: decoder_lib.KVCache
    draft_cache: decoder_lib.KVCache
    policy: policies.State
    counts: counts_lib.Counts


def _start(turn, bos, pad):
    batch_size, most = len(turn.target.mask), turn.rules.policy.max_draft
    none = jnp.zeros(batch_size, jnp.int32)
    # A batch of one leaves no holes in the target's cache, and in the draft's one a
    # round, of its first reading. More sequences share some room for holes.
    room = turn.num_tokens + most + 2
    spare = 0 if batch_size == 1 else turn.num_tokens
    return _State(
        num_rounds=jnp.int32(0),
        words=jnp.full((batch_size, turn.num_tokens), pad, jnp.int32),
        done=jnp.zeros(batch_size, bool),
        last=jnp.full_like(none, bos),
        unread=none,
        is_unread=jnp.zeros(batch_size, bool),
        target_cache=turn.target.start(room + spare),
        draft_cache=turn.draft.start(room + turn.num_tokens),
        policy=turn.rules.policy.init(batch_size),
        counts=counts_lib.zeros(batch_size),
    )


def _round(turn, key, state):
    policy, active = turn.rules.policy, ~state.done
    most = policy.max_draft
    draft_key, judge_key = jax.random.split(jax.random.fold_in(key, state.num_rounds))
    # Of a draft that is judged one word more comes from the target.
    left = turn.num_tokens - state.counts.emitted - int(turn.verified)
    lengths = jnp.minimum(jnp.clip(policy.length(state.policy), 1, most), left)
    before = caches.make_room(state.draft_cache, most + 1)
    drafted = drafting.draft(
        turn.draft,
        turn.rules,
        draft_key,
        state.policy,
        before,
        jnp.stack([state.unread, state.last], axis=1),
        jnp.stack([state.is_unread & active, active], axis=1),
        lengths,
    )
    target_before = state.target_cache
    if len(active) > 1:
        target_before = caches.make_room(target_before, most + 1)
    hidden, target_cache = turn.target.read(
        jnp.concatenate([state.last[:, None], drafted.words], axis=1),
        jnp.concatenate([active[:, None], drafted.valid], axis=1),
        target_before,
    )
    logits = turn.target.logits(hidden, turn.rules.vocab_size)
    verdict, final = _judge(turn, judge_key, logits, drafted)
    speaks = active & (turn.verified | drafted.deferred)
    accepted = verdict.accepted
    block, emitted, ended = _emit(
        drafted.words, accepted, final, speaks, turn.rules.eos
    )
    emitted = jnp.where(active, emitted, 0)
    count = state.counts.emitted + emitted
    kept_target, kept_draft, unread = _kept(drafted, accepted, active, speaks)
    previous = _at(drafted.words, accepted - 1)
    return _State(
        num_rounds=state.num_rounds + 1,
        words=_write(state.words, block, state.counts.emitted, emitted),
        done=state.done | (active & ended) | (count >= turn.num_tokens),
        last=jnp.where(speaks, final, previous),
        unread=previous,
        is_unread=unread,
        target_cache=caches.keep(target_cache, target_before, kept_target),
        draft_cache=caches.keep(
            drafted.cache,
            before,
            jnp.concatenate(
                [(state.is_unread & active)[:, None], active[:, None], kept_draft],
                axis=1,
            ),
        ),
        policy=policy.update(
            state.policy, _feedback(turn, drafted, verdict, final, speaks)
        ),
        counts=_count(turn, state.counts, drafted, accepted, speaks, emitted),
    )


def _judge(turn, key, logits, drafted):
    """The verdict and the word after the drafts that stand."""
    temperature = turn.rules.temperature
    if not turn.verified:
        every = jnp.sum(drafted.valid, axis=1, dtype=jnp.int32)
        row = jnp.take_along_axis(logits, every[:, None, None], axis=1)[:, 0]
        final = jnp.argmax(row, axis=-1)
        if temperature > 0:
            final = jax.random.categorical(key, row / temperature, axis=-1)
        agreement = jnp.ones(drafted.words.shape, jnp.float32)
        final = final.astype(jnp.int32)
        return verification.Verdict(every, None, final, agreement), final
    if temperature == 0:
        own = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        verdict = verification.judge_greedy(own, drafted.words, drafted.valid)
        return verdict, verdict.final
    coin_key, final_key = jax.random.split(key)
    law = jax.nn.softmax(logits / temperature, axis=-1)
    if drafted.log_law is None:
        drafts = jax.nn.one_hot(drafted.words, law.shape[-1], dtype=law.dtype)
    else:
        drafts = jnp.exp(drafted.log_law)
    coins = jax.random.uniform(coin_key, drafted.words.shape)
    verdict = verification.judge(law, drafts, drafted.words, drafted.valid, coins)
    final = jax.random.categorical(final_key, jnp.log(verdict.final_law), axis=-1)
    return verdict, final.astype(jnp.int32)


def _emit(words, accepted, final, speaks, eos):
    """The words of a round [B, G + 1], how many they are, and whether one ends it."""
    places = jnp.arange(words.shape[1] + 1)
    block = jnp.pad(words, ((0, 0), (0, 1)))
    block = jnp.where(places == accepted[:, None], final[:, None], block)
    emitted = accepted + speaks
    ends = (block == eos) & (places < emitted[:, None])
    ended = jnp.any(ends, axis=1)
    first = jnp.argmax(ends, axis=1).astype(jnp.int32)
    return block, jnp.where(ended, first + 1, emitted), ended


def _write(words, block, count, emitted):
    """Writes the first ``emitted`` words of each block after ``count`` words."""
    places = jnp.arange(words.shape[1]) - count[:, None]
    new = jnp.take_along_axis(block, jnp.clip(places, 0, block.shape[1] - 1), axis=1)
    return jnp.where((places >= 0) & (places < emitted[:, None]), new, words)


def _kept(drafted, accepted, active, speaks):
    """Slots that stay in both caches, and whether the draft has a word to catch up on.

    The word that becomes ``last`` stays in neither: the final one, which nobody has
    read, or where the target does not speak the last draft.
    """
    stays = jnp.where(speaks, accepted, accepted - 1)
    place = jnp.arange(drafted.words.shape[1])
    kept = active[:, None] & (place < stays[:, None])
    read = drafted.asked[:, 1:]
    is_read = jnp.sum(read, axis=1)
    return (
        jnp.concatenate([active[:, None], kept], axis=1),
        kept[:, :-1] & read,
        active & (stays > is_read),
    )


def _feedback(turn, drafted, verdict, final, speaks):
    places = jnp.arange(drafted.words.shape[1])
    accepted = verdict.accepted[:, None]
    valid = drafted.valid if turn.verified else jnp.zeros_like(drafted.valid)
    # The word that the target said where the draft was asked and did not dare.
    alike = drafted.asked & ~drafted.valid & (drafted.best == final[:, None])
    alike &= (places == accepted) & speaks[:, None]
    return policies.Feedback(
        entropies=drafted.entropies,
        judged=valid & (places <= accepted),
        agreement=verdict.agreement,
        agreed=(drafted.valid & (places < accepted)) | alike,
        deferred=drafted.deferred,
    )


def _count(turn, counts, drafted, accepted, speaks, emitted):
    num = jnp.sum(drafted.valid, axis=1, dtype=jnp.int32)
    fell = (accepted < num) if turn.verified else jnp.zeros_like(speaks)
    return counts_lib.Counts(
        drafted=counts.drafted + num,
        accepted=counts.accepted + accepted,
        rejected=counts.rejected + fell,
        calls=counts.calls + speaks,
        deferred=counts.deferred + (drafted.deferred & (accepted == num)),
        emitted=counts.emitted + emitted,
    )


def _at(values, index):
    """``values[b, index[b]]``, from the start where the index is below 0."""
    index = jnp.maximum(index, 0)[:, None]
    return jnp.take_along_axis(values, index, axis=1)[:, 0]


def _check(target, draft, num_tokens, protocol, temperature, key, mode):
    if num_tokens < 1:
        raise ValueError(f"num_tokens must be at least 1, got {num_tokens}.")
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}; choose one of {MODES}")
    if len(target.mask) != len(draft.mask):
        raise ValueError(
            f"the target's prefix has {len(target.mask)} sequences, the draft's"
            f" {len(draft.mask)}."
        )
    if temperature < 0.0:
        raise ValueError(f"temperature={temperature}; give 0 for greedy, or more.")
    if temperature == 0.0 and protocol.encode is not None:
        raise ValueError(
            f"greedy decoding needs ids alone: leave out protocol {protocol.name!r}, or"
            " set a temperature."
        )
    if temperature > 0.0 and key is None:
        raise ValueError("with a temperature words are drawn: give a key.")
