"""Checks of gradients: that they arrive, are finite, and are right."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import paths


def assert_finite(tree: Any, what: str) -> None:
    """Asserts that no leaf holds NaN or infinity.

    Args:
      tree: a pytree of arrays.
      what: its name in the message.

    Raises:
      AssertionError: names the paths that are not finite.
    """
    bad = [
        path
        for path, leaf in paths.flatten(tree).items()
        if not np.isfinite(np.asarray(leaf)).all()
    ]
    assert not bad, f"{what} not finite at {bad}."


def check_gradients_reach(grads: Any, patterns: Iterable[str]) -> None:
    """Asserts that a gradient reaches every group of parameters that is named.

    Leaves are grouped by the text that a pattern matches at the start of their path:
    ``encoder`` makes one group, ``encoder/block_[0-9]+`` one for each block. A leaf may
    be zero (the key bias of attention always is), a whole group may not.

    Args:
      grads: gradients of a scalar loss, a pytree.
      patterns: regular expressions, matched from the start of '/'-joined paths.

    Raises:
      AssertionError: if a pattern matches nothing, or a group's gradient is zero or not
        finite.

    Example:
      >>> check_gradients_reach({"encoder": {"w": jnp.ones(2)}}, ["encoder"])
    """
    leaves = {k: np.asarray(v) for k, v in paths.flatten(grads).items()}
    for pattern in patterns:
        matched = [(re.match(pattern, path), path) for path in leaves]
        groups: dict[str, list[str]] = {}
        for match, path in matched:
            if match:
                groups.setdefault(match.group(0), []).append(path)
        assert groups, f"pattern {pattern!r} matches none of {sorted(leaves)}."
        for name, members in groups.items():
            assert_finite({p: leaves[p] for p in members}, f"gradient of {name}")
            reached = any(np.any(leaves[path] != 0) for path in members)
            assert reached, f"no gradient reaches {name} ({members})."


def check_against_finite_differences(
    fn: Callable[..., base.Array],
    args: tuple,
    seed: int = 0,
    step: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-8,
) -> None:
    """Compares the gradient by every argument with central differences, in float64.

    For each argument ``a`` in turn and a random direction ``v`` of unit length:

        Re <grad_a f, v>  ~  (f(a + e v) - f(a - e v)) / (2 e),   e = step max(1, |a|)

    Values and gradients come from one compiled program: compiling is most of the time.

    Args:
      fn: ``(*args) -> real scalar``, smooth at ``args``; it is compiled here.
      args: pytrees of float or complex arrays.
      seed: of the random directions.
      step: relative step.
      rtol: relative tolerance.
      atol: absolute tolerance.

    Raises:
      AssertionError: naming the argument whose gradient is wrong.
    """
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        args = jax.tree.map(_widen, args)
        run = jax.jit(jax.value_and_grad(fn, argnums=tuple(range(len(args)))))
        _, grads = run(*args)
        assert_finite(grads, "gradients")
        for i, grad in enumerate(grads):
            direction = _direction(rng, args[i])
            claimed = _real_inner(grad, direction)
            measured = _slope(run, args, i, direction, step)
            np.testing.assert_allclose(
                claimed,
                measured,
                rtol=rtol,
                atol=atol,
                err_msg=f"gradient by argument {i} is not the slope of the function",
            )


def _slope(run, args: tuple, i: int, direction: Any, step: float) -> float:
    size = np.sqrt(_real_inner(jax.tree.map(jnp.conj, args[i]), args[i]))
    e = step * max(1.0, size)

    def at(offset: float) -> float:
        moved = jax.tree.map(lambda a, v: a + offset * v, args[i], direction)
        return float(run(*args[:i], moved, *args[i + 1 :])[0])

    return (at(e) - at(-e)) / (2.0 * e)


def _widen(leaf: Any) -> base.Array:
    leaf = np.asarray(leaf)
    wide = np.complex128 if np.iscomplexobj(leaf) else np.float64
    return jnp.asarray(leaf.astype(wide))


def _direction(rng: np.random.Generator, tree: Any) -> Any:
    """A random direction of unit length."""

    def draw(leaf: base.Array) -> np.ndarray:
        real, imag = rng.normal(size=(2, *leaf.shape))
        return real + 1j * imag if jnp.iscomplexobj(leaf) else real

    drawn = jax.tree.map(draw, tree)
    norm = np.sqrt(sum(np.sum(np.abs(v) ** 2) for v in jax.tree.leaves(drawn)))
    return jax.tree.map(lambda v: v / norm, drawn)


def _real_inner(a: Any, b: Any) -> float:
    """``Re sum a b``, without conjugate: how JAX's gradients pair with directions."""
    products = jax.tree.map(lambda p, q: float(jnp.real(jnp.sum(p * q))), a, b)
    return sum(jax.tree.leaves(products))
