"""Training an exit of a decoder's first layers, all else frozen.

The exit learns the laws of the whole decoder, not the truth: what counts is how often
the target says the same (self-distillation; LayerSkip, 2404.16710, trains its exits
with the layers, which would change the target).
"""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn.speculation import parties
from m3jax.ops import masks


def at_exit(
    target: parties.Party, depth: int, exit_params: base.Params
) -> parties.Party:
    """The target's first layers as a draft, with the target's own prefix.

    Args:
      target: the whole decoder.
      depth: layers of the draft.
      exit_params: as `parties.init_exit` gives them, trained.
    """
    decoder, params = parties.first_layers(
        target.decoder, target.params, depth, exit_params
    )
    return target.replace(decoder=decoder, params=params)


def loss(
    exit_params: base.Params,
    target: parties.Party,
    depth: int,
    words: base.Array,
    valid: base.Array,
    *,
    bos: int = 1,
) -> tuple[base.Array, base.Metrics]:
    """How far the exit's laws are from the target's, along an answer.

        1/|M| sum_{t in M} KL(p_t || q_t)

    To be differentiated by its first argument: the layers then see no gradient.

    Args:
      exit_params: of the exit, see `parties.init_exit`.
      target: the whole decoder, with its prefix.
      depth: layers before the exit; static.
      words: int32 [B, N], what both read: the target's greedy words, or an answer
        close to them.
      valid: bool [B, N], words that count, M: the first ones of each answer.
      bos: word that starts an answer; not among ``words``.

    Returns:
      The loss in nats a word, 0 if no word counts; and {"agreement"}, the share of
      words of which both think the same the most probable.

    Example:
      >>> from m3jax.nn import decoder as decoder_lib
      >>> model = decoder_lib.Decoder(decoder_lib.DecoderConfig(11, dim=32, depth=2))
      >>> embeds, mask = jnp.ones((1, 2, 32)), jnp.ones((1, 2), bool)
      >>> params = jax.jit(model.init)(jax.random.key(0), embeds, mask)["params"]
      >>> target = parties.Party(params, embeds, mask, model)
      >>> words = jnp.array([[5, 2, 0]])
      >>> own = parties.init_exit(params)
      >>> nats, metrics = loss(own, target, 2, words, words > 0)  # all its layers
      >>> float(nats), float(metrics["agreement"])
      (0.0, 1.0)
    """
    draft = at_exit(target, depth, exit_params)
    given, made = (
        party.logits(party.read_answer(words, valid, bos), target.vocab_size)
        for party in (target, draft)
    )
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(given), axis=-1)
    log_q = jax.nn.log_softmax(made, axis=-1)
    nats = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
    alike = jnp.argmax(log_p, axis=-1) == jnp.argmax(log_q, axis=-1)
    metrics = {"agreement": masks.masked_mean(alike.astype(jnp.float32), valid)}
    return masks.masked_mean(nats, valid), metrics
