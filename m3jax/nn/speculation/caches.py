"""Caches of sequences that keep different numbers of tokens.

All sequences of a batch write their next tokens to the same slots, and each then keeps
as many as were accepted. The others stay where they are, masked: positions count valid
tokens only, so a hole shifts nothing and nobody attends to it. Against writing at an
index of each sequence's own that is one contiguous write instead of a scatter (slow on
CPUs), and the decoder needs no second kind of cache. Slots after the last one that
anybody keeps are written again, so a batch of one has no holes. When a batch runs out
of slots, its holes are closed up.
"""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import decoder as decoder_lib


def keep(
    cache: decoder_lib.KVCache, before: decoder_lib.KVCache, kept: base.Array
) -> decoder_lib.KVCache:
    """Forgets the tokens of a block that are not kept.

    Args:
      cache: with the block written to it.
      before: without it.
      kept: bool [B, n], slots of the block, from ``before.index`` on, that hold a token
        to keep. The block may have written fewer than n slots: the others are False.

    Returns:
      The cache; its next token goes after the last slot that any sequence keeps.
    """
    slots = 1 + jnp.arange(kept.shape[1], dtype=jnp.int32)
    used = jnp.max(jnp.where(jnp.any(kept, axis=0), slots, 0), initial=0)
    start = (jnp.zeros_like(before.index), before.index)
    return cache._replace(
        mask=jax.lax.dynamic_update_slice(before.mask, kept, start),
        lengths=before.lengths + jnp.sum(kept, axis=1, dtype=jnp.int32),
        index=before.index + used,
    )


def compact(cache: decoder_lib.KVCache) -> decoder_lib.KVCache:
    """Moves the valid tokens of each sequence to its first slots, in their order."""
    order = jnp.argsort(~cache.mask, axis=1, stable=True)
    moved = order[None, :, :, None, None]
    num_slots = cache.mask.shape[1]
    # Not the lengths: a prefix may have gaps between its positions.
    counts = jnp.sum(cache.mask, axis=1, dtype=jnp.int32)
    return cache._replace(
        k=jnp.take_along_axis(cache.k, moved, axis=2),
        v=jnp.take_along_axis(cache.v, moved, axis=2),
        mask=jnp.arange(num_slots) < counts[:, None],
        index=jnp.max(counts),
    )


def make_room(cache: decoder_lib.KVCache, num_slots: int) -> decoder_lib.KVCache:
    """Closes the holes of a cache if it could not take so many more slots."""
    full = cache.index + num_slots > cache.mask.shape[1]
    return jax.lax.cond(full, compact, lambda cache: cache, cache)
