"""``vmap`` with the batch on the last axis, for loops over small arrays.

A processor's vector unit works along the last axis. A solver of eight unknowns under
``vmap`` has the batch first and eight numbers last, and runs as slowly as a loop; with
the batch last it fills the unit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import custom_batching, lax

CHUNK = 128
"""Examples that are solved together: their arrays stay in the cache, and none waits for
the slowest of all."""


def batch_last(fn: Callable, chunk: int = CHUNK) -> Callable:
    """Makes a function that ``vmap`` gives its batches on the last axes.

    Args:
      fn: from arrays (pytrees) to arrays, which works alike for every number of further
        axes at the end of all of them, and never mixes these. Not differentiated.
      chunk: most examples in one call.

    Returns:
      The function of one example.

    Example:
      >>> total = batch_last(lambda x: jnp.sum(x, axis=0))
      >>> jax.vmap(total)(jnp.arange(6.0).reshape(2, 3)).tolist()
      [3.0, 12.0]
    """

    @custom_batching.custom_vmap
    def call(*args):
        return fn(*args)

    @call.def_vmap
    def rule(size, batched, *args):
        def last(is_batched, leaf):
            if is_batched:
                return jnp.moveaxis(leaf, 0, -1)
            return jnp.broadcast_to(leaf[..., None], (*jnp.shape(leaf), size))

        args = jax.tree.map(last, tuple(batched), args)
        found = call(*args) if size <= chunk else _in_chunks(call, args, size, chunk)
        found = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), found)
        return found, jax.tree.map(lambda _: True, found)

    return call


def _in_chunks(call, args, size, chunk):
    """Calls with so many examples at a time; the last ones are filled up."""
    count = -(-size // chunk)

    def cut(leaf):
        spare = [(0, 0)] * (leaf.ndim - 1) + [(0, count * chunk - size)]
        leaf = jnp.pad(leaf, spare, mode="edge")
        return jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], count, chunk), -2, 0)

    def joined(leaf):
        leaf = jnp.moveaxis(leaf, 0, -2)
        return leaf.reshape(*leaf.shape[:-2], count * chunk)[..., :size]

    found = lax.map(lambda part: call(*part), jax.tree.map(cut, args))
    return jax.tree.map(joined, found)
