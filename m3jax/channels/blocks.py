"""Blocks: channel uses in a row that share one gain.

Channel uses are counted in the order of the flattened symbols. A slot left empty by
padding still takes its channel use, so a mask never shifts the blocks.
"""

import math

import jax.numpy as jnp
from jax import lax

from m3jax import base


def check_length(block_length: int) -> None:
    """Refuses a length that is no positive integer.

    Raises:
      ValueError: says so.
    """
    if not (type(block_length) is int and block_length > 0):
        raise ValueError(
            f"block_length must be a positive integer, got {block_length!r}."
        )


def count(shape: tuple[int, ...], block_length: int) -> int:
    """Number of blocks, the last one perhaps cut short, in symbols of this shape."""
    return -(-math.prod(shape) // block_length)


def spread(gains: base.Array, block_length: int, shape: tuple[int, ...]) -> base.Array:
    """Gives each block's gain to its channel uses.

    Args:
      gains: complex, one per block, ``[count(shape, block_length)]``.
      block_length: T in channel uses.
      shape: shape of the symbols of one example.

    Returns:
      Gains of this shape.
    """
    row = (1, *shape)[-1]
    if block_length % max(row, 1):
        gains = _spread_stored(gains, block_length)
    else:  # a row of symbols has one gain
        gains = jnp.repeat(gains, block_length)
    return gains[: math.prod(shape)].reshape(shape)


def _spread_stored(gains: base.Array, block_length: int) -> base.Array:
    """``jnp.repeat`` that XLA carries out before the gains are used.

    Else it merges the two, and what is then worked out at every symbol (all that uses
    the gain, noise included) runs without vector instructions, five times slower. No
    fusion reaches into a loop; this one has two turns.
    """
    shape = (gains.size, block_length)
    axes = lax.map(
        lambda axis: jnp.broadcast_to(axis[:, None], shape),
        jnp.stack([gains.real, gains.imag]),
    )
    return lax.complex(*axes.reshape(2, -1))


def run_index(gains: base.Array) -> base.Array:
    """Finds the blocks again: numbers the runs of equal gains.

    Args:
      gains: any shape, at least one entry.

    Returns:
      Integers ``[gains.size]`` that start at 0 and grow by 1 where the gain changes.

    Example:
      >>> run_index(jnp.array([5.0, 5.0, 2.0, 5.0])).tolist()
      [0, 0, 1, 2]
    """
    flat = gains.reshape(-1)
    changes = flat[1:] != flat[:-1]
    return jnp.concatenate([jnp.zeros((1,), jnp.int32), jnp.cumsum(changes)])
