"""Arguments at the edges: one value replaced, another type, fewer elements.

What `edge_values` hands to a function in place of its good arguments.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LARGE = {"int32": 100_000, "uint8": 200, "uint32": 3_000_000_000}
"""A value whose square wraps round in the type."""


def poke(
    args: tuple, position: int, value: float, at: tuple[int, ...] | None = None
) -> tuple | None:
    """Puts a value into every float array of an argument.

    Args:
      args: all arguments.
      position: of the one that changes.
      value: what is put in.
      at: where; None: the first element.

    Returns:
      The arguments with that one replaced; None if it holds no float.
    """
    if not is_float(args[position]):
        return None

    def put(leaf):
        if not is_float(leaf):
            return leaf
        array = np.array(leaf)
        array[(0,) * array.ndim if at is None else tuple(at)] = value
        return jnp.asarray(array)

    return replace(args, position, jax.tree.map(put, args[position]))


def cast(args: tuple, position: int, name: str) -> tuple[tuple, tuple] | None:
    """Hands an argument over in another type.

    Integers are rounded, and the first one is so large that its square wraps round;
    bool is whether a number is positive.

    Args:
      args: all arguments.
      position: of the one that changes.
      name: of the type.

    Returns:
      The arguments with that one in the type, and with the same numbers in float32;
      None if not all of it is real and floating.
    """
    leaves = jax.tree.leaves(args[position])
    if not leaves or not all(is_float(x) and not jnp.iscomplexobj(x) for x in leaves):
        return None

    def turn(leaf):
        array = np.array(leaf, np.float64)
        if name == "bool":
            return array > 0
        if name in LARGE:
            array = np.array(np.round(array if name == "int32" else np.abs(array)))
            array[(0,) * array.ndim] = LARGE[name]
        return array.astype(jnp.dtype(name))

    turned = jax.tree.map(turn, args[position])
    given = jax.tree.map(jnp.asarray, turned)
    floats = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), turned)
    return replace(args, position, given), replace(args, position, floats)


def shorten(args: tuple, length: int, size: int) -> tuple:
    """Keeps ``size`` of the elements of all leading axes of a length."""

    def keep(leaf):
        return leaf[:size] if jnp.ndim(leaf) and len(leaf) == length else leaf

    return jax.tree.map(keep, args)


def widen(args: tuple) -> tuple:
    """All floats in 64 bits, where JAX has them enabled."""

    def turn(leaf):
        if not is_float(leaf):
            return leaf
        wide = np.complex128 if jnp.iscomplexobj(leaf) else np.float64
        return jnp.asarray(np.asarray(leaf).astype(wide))

    return jax.tree.map(turn, args)


def replace(args: tuple, position: int, value: Any) -> tuple:
    """The arguments with one replaced."""
    return (*args[:position], value, *args[position + 1 :])


def leading_length(tree: Any) -> int | None:
    """Length of the leading axis of the first array; None for scalars and keys."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(tree) if not is_key(leaf)]
    return shapes[0][0] if shapes and shapes[0] else None


def is_key(leaf: Any) -> bool:
    """Whether it is an array of random keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def is_float(tree: Any) -> bool:
    """Whether any array is real or complex floating."""
    kinds = [
        not is_key(x) and jnp.issubdtype(jnp.result_type(x), jnp.inexact)
        for x in jax.tree.leaves(tree)
    ]
    return any(kinds)
