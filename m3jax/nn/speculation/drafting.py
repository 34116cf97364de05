"""One round of the draft: words until the ration is used up or confidence ends."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.nn import decoder as decoder_lib
from m3jax.nn.speculation import caches, parties, policies, protocols
from m3jax.ops import numbers


class Draft(NamedTuple):
    """What a round drafted.

    Attributes:
      words: int32 [B, G].
      valid: bool [B, G], drafts that there are: the first ones of each row.
      asked: bool [B, G], positions whose law was worked out: the drafts, and where
        confidence ended one more.
      best: int32 [B, G], the most probable words.
      entropies: float32 [B, G], over log V; 0 if the policy does not ask.
      log_law: [B, G, V], what the words were drawn from; None for point masses.
      start: the draft's cache before it read any of its words.
      cache: after that. It has read the words of ``asked[:, 1:]``: word i where i + 1
        was asked.
    """

    words: base.Array
    valid: base.Array
    asked: base.Array
    best: base.Array
    entropies: base.Array
    log_law: base.Array | None
    start: decoder_lib.KVCache
    cache: decoder_lib.KVCache

    @property
    def deferred(self) -> base.Array:
        """Bool [B], whether a token was left to the target for want of confidence."""
        return jnp.any(self.asked & ~self.valid, axis=1)


class Rules(NamedTuple):
    """What stays the same from round to round; static.

    Attributes:
      policy, protocol: of the draft.
      temperature: of the draft and of the target; 0 is greedy.
      vocab_size: V, words that both may say.
      eos: word after which nothing is drafted.
    """

    policy: policies.Policy
    protocol: protocols.Protocol
    temperature: float
    vocab_size: int
    eos: int


def draft(
    party: parties.Party,
    rules: Rules,
    key: base.Array,
    state: policies.State,
    cache: decoder_lib.KVCache,
    pair: base.Array,
    pair_mask: base.Array,
    lengths: base.Array,
) -> Draft:
    """Drafts up to ``lengths`` words.

    The first reading takes two words: the last one of the answer, and before it the one
    that the draft has not read, if it said one as the last of its round that stands.

    Args:
      party: the draft.
      rules: how it drafts.
      key: of what is drawn.
      state: of the policy.
      cache: of the draft, with room for G + 1 slots.
      pair: int32 [B, 2], words that it has not read, padding last.
      pair_mask: bool [B, 2].
      lengths: int32 [B], 0 to G.
    """
    most = rules.policy.max_draft
    hidden, read = party.read(pair, pair_mask, cache)
    start = caches.keep(read, cache, pair_mask)
    last = jnp.where(pair_mask[:, 1:], hidden[:, 1], hidden[:, 0])
    asked = pair_mask[:, 0] & (lengths > 0)
    columns = _columns(rules, len(pair))
    columns, asked = _propose(
        party, rules, key, state, lengths, last, asked, 0, columns
    )

    def going(loop):
        index, asked, *_ = loop
        return (index < most) & jnp.any(asked)

    def step(loop):
        index, asked, cache, columns = loop
        words = jax.lax.dynamic_slice_in_dim(columns["words"], index - 1, 1, axis=1)
        hidden, cache = party.read(words, asked[:, None], cache)
        columns, asked = _propose(
            party, rules, key, state, lengths, hidden[:, 0], asked, index, columns
        )
        return index + 1, asked, cache, columns

    loop = (jnp.int32(1), asked, start, columns)
    _, _, cache, columns = jax.lax.while_loop(going, step, loop)
    return Draft(**{"log_law": None, **columns}, start=start, cache=cache)


def _columns(rules, batch_size):
    """Empty [B, G] arrays, to be filled column by column."""
    shape = (batch_size, rules.policy.max_draft)
    columns = {
        "words": jnp.zeros(shape, jnp.int32),
        "valid": jnp.zeros(shape, bool),
        "asked": jnp.zeros(shape, bool),
        "best": jnp.zeros(shape, jnp.int32),
        "entropies": jnp.zeros(shape, jnp.float32),
    }
    if rules.protocol.encode is not None:
        columns["log_law"] = jnp.zeros((*shape, rules.vocab_size), jnp.float32)
    return columns


def _propose(party, rules, key, state, lengths, hidden, asked, index, columns):
    """Says the word of a position; returns columns, and who is asked for the next."""
    scores = party.logits(hidden, rules.vocab_size)
    found = {"asked": asked, "best": jnp.argmax(scores, axis=-1).astype(jnp.int32)}
    valid = asked
    if rules.policy.confident is not None:
        found["entropies"] = normalised_entropy(scores)
        valid &= rules.policy.confident(state, found["entropies"])
    words = found["best"]
    if rules.protocol.encode is not None:
        law = jax.nn.log_softmax(scores / rules.temperature, axis=-1)
        found["log_law"] = rules.protocol.encode(law)
        drawn = jax.random.categorical(
            jax.random.fold_in(key, index), found["log_law"], axis=-1
        )
        words = drawn.astype(jnp.int32)
    found["words"], found["valid"] = words, valid
    columns = {
        name: column
        if name not in found
        else jax.lax.dynamic_update_slice_in_dim(
            column, found[name][:, None], index, axis=1
        )
        for name, column in columns.items()
    }
    return columns, valid & (index + 1 < lengths) & (words != rules.eos)


def normalised_entropy(scores: base.Array) -> base.Array:
    """Entropy over log V, in [0, 1]: MSAO's equation 9 on the scale of its threshold.

    Taken at temperature 1, since at 0 it says nothing.

    Args:
      scores: logits, ``[..., V]``.

    Example:
      >>> normalised_entropy(jnp.array([[0.0, 0.0, 0.0], [99.0, 0.0, 0.0]])).tolist()
      [1.0, 0.0]
    """
    scores = numbers.as_float(scores)
    if scores.shape[-1] == 1:
        return jnp.zeros(scores.shape[:-1])
    logs = jax.nn.log_softmax(scores, axis=-1)
    entropy = -jnp.sum(jnp.exp(logs) * logs, axis=-1)
    return jnp.maximum(entropy, 0.0) / np.log(scores.shape[-1])
