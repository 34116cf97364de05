"""Greedy generation from a decoder with its cache."""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import moe


def generate(
    decoder: decoder_lib.Decoder,
    params: base.Params,
    embeds: base.Array,
    mask: base.Array,
    num_tokens: int,
    *,
    bos: int = 1,
    eos: int = 2,
    pad: int = 0,
    select: moe.Select | None = None,
    select_data: base.Params = None,
    positions: base.Array | None = None,
) -> base.Array:
    """Continues a prefix with the most probable word, again and again.

    ``a_t = argmax p(a | prefix, bos, a_1 .. a_{t-1})``. The prefix is read once; each
    further word costs one step over the cache.

    Args:
      decoder: the language model.
      params: its parameters, without the "params" level.
      embeds: [B, L, D], the prefix: embedded pictures, sounds, questions.
      mask: bool [B, L], True for the valid tokens of the prefix.
      num_tokens: number of words to write, N; static.
      bos: word that starts the answer; written after the prefix, not returned.
      eos: word that ends the answer.
      pad: what follows ``eos``.
      select: which experts answer a token, if the decoder has any.
      select_data: what ``select`` gets besides, arrays [depth, ...].
      positions: int [B, L], the place of each token of the prefix, as in
        ``Decoder``; None: valid tokens are counted.

    Returns:
      int32 [B, N]: the answer, ``eos`` (if it fits), then ``pad``.

    Raises:
      ValueError: ``num_tokens`` is less than one.
    """
    if num_tokens < 1:
        raise ValueError(f"num_tokens must be at least 1, got {num_tokens}.")
    variables = {"params": params}
    batch_size, prefix_length = mask.shape
    valid = jnp.ones((batch_size, 1), bool)

    def read(embeds, mask, cache, positions=None):
        hidden, cache = decoder.apply(
            variables,
            embeds,
            mask,
            cache,
            select=select,
            select_data=select_data,
            positions=positions,
        )
        logits = decoder.apply(variables, hidden[:, -1], method="logits")
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), cache

    def embed(words):
        return decoder.apply(variables, words[:, None], method="embed")

    def step(carry, _):
        words, done, cache = carry
        words, cache = read(embed(words), valid, cache)
        words = jnp.where(done, pad, words)
        return (words, done | (words == eos), cache), words

    # The last word is written but never read back, hence no slot for it.
    cache = decoder_lib.init_cache(
        decoder.config, batch_size, prefix_length + num_tokens
    )
    start = embed(jnp.full((batch_size,), bos, jnp.int32))
    if positions is not None:
        last = jnp.max(jnp.where(mask, positions, -1), axis=1, keepdims=True)
        positions = jnp.concatenate([positions, last + 1], axis=1)
    first, cache = read(
        jnp.concatenate([embeds.astype(start.dtype), start], axis=1),
        jnp.concatenate([mask, valid], axis=1),
        cache,
        positions,
    )
    carry = first, first == eos, cache
    _, rest = jax.lax.scan(step, carry, length=num_tokens - 1)
    return jnp.concatenate([first[:, None], rest.T], axis=1)
