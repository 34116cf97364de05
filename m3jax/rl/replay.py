"""A replay buffer of fixed size: a pytree on the device, written as a ring.

Additions are whole blocks of one size that divides the capacity, so that a block never
wraps around the end and is written by one copy, in place where the buffer is donated or
carried by a scan.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base


class Replay(NamedTuple):
    """The buffer.

    Attributes:
      items: a pytree of arrays ``[capacity, ...]``.
      position: int32 scalar, where the next block goes.
      size: int32 scalar, how many items are there, at most the capacity.
    """

    items: Any
    position: base.Array
    size: base.Array


def make(example: Any, capacity: int) -> Replay:
    """Makes an empty buffer.

    Args:
      example: a pytree like one item; only its shapes and dtypes count.
      capacity: how many items fit, 1 or more.

    Raises:
      ValueError: the capacity is not positive.
    """
    if capacity < 1:
        raise ValueError(f"a replay's capacity must be 1 or more, got {capacity}")
    items = jax.tree.map(
        lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), jnp.result_type(leaf)),
        example,
    )
    return Replay(items, jnp.int32(0), jnp.int32(0))


def add(replay: Replay, block: Any) -> Replay:
    """Writes a block over the oldest items.

    Args:
      replay: the buffer.
      block: a pytree like ``replay.items``, arrays ``[B, ...]``, with the same B at
        every call; B divides the capacity.

    Returns:
      The buffer with the block in it.

    Raises:
      ValueError: B does not divide the capacity.
    """
    capacity = jax.tree.leaves(replay.items)[0].shape[0]
    length = jax.tree.leaves(block)[0].shape[0]
    if capacity % length:
        raise ValueError(
            f"a block of {length} items must divide the capacity {capacity}; make the"
            " capacity a multiple of it"
        )
    items = jax.tree.map(
        lambda ring, new: jax.lax.dynamic_update_slice_in_dim(
            ring, new.astype(ring.dtype), replay.position, axis=0
        ),
        replay.items,
        block,
    )
    position = (replay.position + length) % capacity
    return Replay(items, position, jnp.minimum(replay.size + length, capacity))


def sample(replay: Replay, key: base.Array, batch_size: int) -> Any:
    """Draws items uniformly, with replacement.

    Args:
      replay: the buffer; it must not be empty.
      key: PRNG key.
      batch_size: how many to draw.

    Returns:
      A pytree like ``replay.items``, arrays ``[batch_size, ...]``.
    """
    index = jax.random.randint(key, (batch_size,), 0, replay.size, jnp.int32)
    return jax.tree.map(lambda ring: ring[index], replay.items)
