"""One round: draft, judge, write down, forget what fell."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import decoder as decoder_lib
from m3jax.nn.speculation import caches, drafting, parties, policies, verification
from m3jax.nn.speculation import counts as counts_lib


class Plan(NamedTuple):
    """What all rounds share."""

    target: parties.Party
    draft: parties.Party
    rules: drafting.Rules
    verified: bool
    num_tokens: int


class State(NamedTuple):
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


def start(plan: Plan, bos: int, pad: int) -> State:
    """Both have read their prefixes, and the first word of the answer stands."""
    batch_size, most = len(plan.target.mask), plan.rules.policy.max_draft
    none = jnp.zeros(batch_size, jnp.int32)
    # A batch of one leaves no holes in the target's cache, and in the draft's at most
    # one a round, of its first reading: they never run full. More sequences have as
    # much room for holes, and close them up.
    room = plan.num_tokens + most + 2
    spare = 0 if batch_size == 1 else plan.num_tokens
    return State(
        num_rounds=jnp.int32(0),
        words=jnp.full((batch_size, plan.num_tokens), pad, jnp.int32),
        done=jnp.zeros(batch_size, bool),
        last=jnp.full_like(none, bos),
        unread=none,
        is_unread=jnp.zeros(batch_size, bool),
        target_cache=plan.target.start(room + spare),
        draft_cache=plan.draft.start(room + plan.num_tokens),
        policy=plan.rules.policy.init(batch_size),
        counts=counts_lib.zeros(batch_size),
    )


def play(plan: Plan, key: base.Array, state: State) -> State:
    """One round of all sequences that are not done."""
    policy, active = plan.rules.policy, ~state.done
    most = policy.max_draft
    draft_key, judge_key = jax.random.split(jax.random.fold_in(key, state.num_rounds))
    # Of a draft that is judged one word more comes from the target.
    left = plan.num_tokens - state.counts.emitted - int(plan.verified)
    lengths = jnp.minimum(jnp.clip(policy.length(state.policy), 1, most), left)
    before, target_before = state.draft_cache, state.target_cache
    if len(active) > 1:
        before, target_before = (
            caches.make_room(cache, most + 1) for cache in (before, target_before)
        )
    drafted = drafting.draft(
        plan.draft,
        plan.rules,
        draft_key,
        state.policy,
        before,
        jnp.stack([state.unread, state.last], axis=1),
        jnp.stack([state.is_unread & active, active], axis=1),
        lengths,
    )
    hidden, target_cache = plan.target.read(
        jnp.concatenate([state.last[:, None], drafted.words], axis=1),
        jnp.concatenate([active[:, None], drafted.valid], axis=1),
        target_before,
    )
    logits = plan.target.logits(hidden, plan.rules.vocab_size)
    verdict, final = _judge(plan, judge_key, logits, drafted)
    speaks = active & (plan.verified | drafted.deferred)
    accepted = verdict.accepted
    block, emitted, ended = _emit(
        drafted.words, accepted, final, speaks, plan.rules.eos
    )
    emitted = jnp.where(active, emitted, 0)
    count = state.counts.emitted + emitted
    kept_target, kept_draft, unread = _kept(drafted, accepted, active, speaks)
    previous = _at(drafted.words, accepted - 1)
    return State(
        num_rounds=state.num_rounds + 1,
        words=_write(state.words, block, state.counts.emitted, emitted),
        done=state.done | (active & ended) | (count >= plan.num_tokens),
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
            state.policy, _feedback(plan, drafted, verdict, final, speaks)
        ),
        counts=_count(plan, state.counts, drafted, accepted, speaks, emitted),
    )


def _judge(plan, key, logits, drafted):
    """The verdict and the word after the drafts that stand."""
    temperature = plan.rules.temperature
    if not plan.verified:
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


def _feedback(plan, drafted, verdict, final, speaks):
    places = jnp.arange(drafted.words.shape[1])
    accepted = verdict.accepted[:, None]
    valid = drafted.valid if plan.verified else jnp.zeros_like(drafted.valid)
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


def _count(plan, counts, drafted, accepted, speaks, emitted):
    num = jnp.sum(drafted.valid, axis=1, dtype=jnp.int32)
    fell = (accepted < num) if plan.verified else jnp.zeros_like(speaks)
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
