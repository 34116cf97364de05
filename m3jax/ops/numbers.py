"""Numbers as they come in: made floats, brought to a common size, counted exactly.

Everything that computes with real numbers takes them through `as_float`. Integers then
never wrap round, unsigned ones and bools can be negated, and a Python integer beyond
32 bits is a number like any other.
"""

import math
import sys
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base

Tree = TypeVar("Tree")


def as_float(x: Any, least: Any = None) -> base.Array:
    """Turns a number or an array of any type into floats.

    Args:
      x: real or complex, any shape: bool, integer or floating, traced or not.
      least: a real type that the result is at least as wide as, such as
        ``jnp.float32``; None: half precision stays what it is.

    Returns:
      ``x`` itself if it is real or complex floating and wide enough; integers and
      bools as JAX's default float, rounded and never wrapped round.

    Example:
      >>> as_float(28_000_000_000).item(), as_float(jnp.uint8(3)).dtype.name
      (28000001024.0, 'float32')
    """
    x = jnp.asarray(host_float(x))
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        x = x.astype(jnp.result_type(float))
    if least is not None:
        x = x.astype(jnp.promote_types(x.dtype, least))
    return x


def as_floats(*values: Any) -> tuple[base.Array, ...]:
    """Turns several numbers or arrays into floats of one common type.

    Args:
      *values: as for `as_float`.

    Returns:
      An array for each, of the shapes that they have.
    """
    arrays = [as_float(value) for value in values]
    dtype = jnp.result_type(float, *arrays)
    return tuple(array.astype(dtype) for array in arrays)


def host_float(x: Any) -> Any:
    """Makes numbers of the host floats; arrays of JAX stay as they are.

    A Python integer beyond 32 bits cannot become an array of JAX, and one of NumPy
    would wrap round.

    Args:
      x: anything.

    Returns:
      Python numbers as Python floats, arrays of NumPy as floats, all else untouched.
    """
    if isinstance(x, int):  # bool is one
        return float(x)
    if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in "iub":
        return x.astype(np.float64)
    if isinstance(x, (list, tuple)):
        return host_float(np.asarray(x)) if _is_host(x) else x
    return x


def require_some(x: base.Array, name: str, axis: int = 0) -> None:
    """Refuses an array without elements along an axis.

    Args:
      x: any array.
      name: its name in the message.
      axis: along which something must be.

    Raises:
      ValueError: if nothing is.
    """
    if jnp.shape(x)[axis] == 0:
        raise ValueError(
            f"{name} is empty, of shape {list(jnp.shape(x))}; give one element or more."
        )


def unit_scale(peak: base.Array) -> base.Array:
    """The power of two that brings a size near 1.

    To multiply by a power of two rounds nothing, so what does not depend on the scale
    of its input is the same to the last bit before and after; but squares and products
    neither overflow nor vanish.

    Args:
      peak: greatest absolute value, real floating, any shape.

    Returns:
      ``2^-k``, constant for gradients, so that ``2^-k peak`` is in [1/2, 4); 1 where
      the peak is 0, infinite or NaN.

    Example:
      >>> unit_scale(jnp.array([3.0, 0.0, 2.0**100])).tolist() == [0.25, 1.0, 2.0**-101]
      True
    """
    peak = lax.stop_gradient(as_float(peak))
    known = (peak > 0.0) & (peak < jnp.inf)
    most = jnp.finfo(peak.dtype).maxexp - 2
    exponent = jnp.frexp(jnp.where(known, peak, 0.5))[1]
    return jnp.ldexp(jnp.ones((), peak.dtype), -jnp.clip(exponent, -most, most))


def peak(x: base.Array, axis: int | tuple[int, ...] | None = None) -> base.Array:
    """Greatest absolute value, of both parts if complex; 0 of nothing, NaN with NaN.

    Args:
      x: real or complex floating.
      axis: over which; None: all.

    Returns:
      Real, without these axes.
    """
    size = jnp.abs(x)
    if jnp.iscomplexobj(x):  # the root of squares would overflow
        size = jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag))
    return jnp.max(size, axis=axis, initial=0.0)


def gated(tree: Tree, usable: base.Array) -> Tree:
    """The same values, whose derivatives are 0 unless they are usable.

    What a solver could not solve has no derivative, yet the rules of calculus would
    make NaN of it. Around inputs this stops reverse-mode derivatives, around outputs
    forward-mode ones.

    Args:
      tree: pytree of arrays.
      usable: bool, broadcastable to all of them.

    Returns:
      A tree of the same values.

    Example:
      >>> slope = lambda x: jnp.sqrt(gated(x, x > 0.0))
      >>> float(jax.grad(slope)(0.0)), float(jax.grad(slope)(1.0))
      (0.0, 0.5)
    """
    return jax.tree.map(lambda x: jnp.where(usable, x, lax.stop_gradient(x)), tree)


def ceil_ratio(amount: float, rate: float) -> int:
    """How many whole units an amount takes: ``ceil(amount / rate)``.

    A quotient that is whole but for rounding is whole: 21 bits at a rate of 0.7 take 30
    channel uses, though 21 / 0.7 gives 30.000000000000004.

    Args:
      amount: what is shared out, finite, not negative.
      rate: how much of it a unit takes, positive and finite.

    Returns:
      A count.

    Raises:
      ValueError: if one of the two is out of range.

    Example:
      >>> ceil_ratio(21, 0.7), ceil_ratio(22, 0.7), ceil_ratio(1, 1 / 3)
      (30, 32, 3)
    """
    if not 0.0 <= amount < math.inf:
        raise ValueError(f"amount must be finite and not negative, got {amount!r}.")
    if not 0.0 < rate < math.inf:
        raise ValueError(f"rate must be finite and positive, got {rate!r}.")
    # Rate and quotient are each rounded by half a unit in the last place at most.
    return math.ceil(amount / rate * (1.0 - 2.0 * sys.float_info.epsilon))


def _is_host(values: list | tuple) -> bool:
    return not any(
        isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree.leaves(values)
    )
