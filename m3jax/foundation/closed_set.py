"""Scores a closed set of answers by the likelihood of each as a whole."""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering
from m3jax.nn import decoder as decoder_lib
from m3jax.ops import losses


def log_likelihoods(
    decoder: decoder_lib.Decoder,
    params: base.Params,
    prefix: base.Array,
    prefix_mask: base.Array,
    question: base.Array,
    candidates: base.Array,
) -> base.Array:
    """Log-likelihood of every candidate answer, for every example.

        log p(a | prefix, question) = sum_t log p(a_t | prefix, question, a_<t)

    The greatest is the answer of a closed set (a long answer has many words to lose at,
    which is right for a set whose members exclude each other). Prefix and question are
    read once; the candidates follow in turn from the same cache, so memory does not
    grow with their number.

    Args:
      decoder: the language model.
      params: its parameters, without the "params" level.
      prefix: [B, L, D] tokens of pictures and sounds.
      prefix_mask: bool [B, L], True where a token is valid.
      question: int32 [B, Q], padded by PAD; Q may be 0.
      candidates: int32 [K, A], each ended by EOS and padded by PAD.

    Returns:
      float32 [B, K], in nats.

    Raises:
      ValueError: ``candidates`` is not a table of words.
    """
    if candidates.ndim != 2:
        raise ValueError(
            "candidates must be [K, A], one answer a row, got"
            f" {list(candidates.shape)}."
        )
    variables = {"params": params}
    batch_size, num_words = len(question), candidates.shape[1]
    words = decoder.apply(variables, question, method="embed")
    embeds = jnp.concatenate([prefix.astype(words.dtype), words], axis=1)
    mask = jnp.concatenate([prefix_mask, question != answering.PAD], axis=1)
    num_slots = mask.shape[1] + num_words
    cache = decoder_lib.init_cache(decoder.config, batch_size, num_slots)
    _, cache = decoder.apply(variables, embeds, mask, cache)

    def score(answer):
        said = jnp.pad(answer[:-1], (1, 0), constant_values=answering.BOS)
        said, answer = (
            jnp.broadcast_to(row, (batch_size, num_words)) for row in (said, answer)
        )
        embeds = decoder.apply(variables, said, method="embed")
        hidden, _ = decoder.apply(variables, embeds, said != answering.PAD, cache)
        logits = decoder.apply(variables, hidden, method="logits")
        return losses.answer_log_likelihood(logits, answer, answering.PAD)

    return jax.lax.map(score, candidates).T
