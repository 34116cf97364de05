"""Speculative decoding of a batch: a draft says several words, a target judges them."""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn.speculation import counts as counts_lib
from m3jax.nn.speculation import drafting, parties, policies, protocols, rounds

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
      >>> from m3jax.nn import decoder as decoder_lib
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
    plan = rounds.Plan(target, draft, rules, mode == "verified", num_tokens)
    state = jax.lax.while_loop(
        lambda state: ~jnp.all(state.done),
        lambda state: rounds.play(plan, key, state),
        rounds.start(plan, bos, pad),
    )
    return counts_lib.Result(
        state.words, state.counts, state.num_rounds, mode, protocol.name
    )


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
