"""What came of a call at the edges, and whether that is what was declared."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from m3jax.testing import edge_arguments as edges

_EXTERNAL = "site-packages/jax/", "site-packages/jaxlib/", "site-packages/numpy/"


def call(fn: Callable[..., Any], args: tuple, position: int, label: str) -> Any:
    """Calls a function.

    Args:
      fn: the function.
      args: its arguments.
      position: of the argument that may be refused.
      label: of this call, in messages.

    Returns:
      The output, or the clear error that came instead: a ValueError or TypeError that
      names the argument and was raised neither by JAX nor by NumPy.

    Raises:
      AssertionError: if another error came.
    """
    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "off")  # shows who raised
    try:
        with np.errstate(all="ignore"):  # constants beyond half precision
            return jax.block_until_ready(fn(*args))
    except Exception as error:  # of whatever type: which ones are clear is checked
        _check_clear(fn, error, position, label)
        return error
    finally:
        jax.config.update("jax_traceback_filtering", before)


def _check_clear(fn, error: Exception, position: int, label: str) -> None:
    raw = f"{label}: {type(error).__name__}, not a clear error: {error}"
    assert isinstance(error, (ValueError, TypeError)), raw
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    assert not any(part in file for part in _EXTERNAL), raw
    names = list(inspect.signature(fn).parameters)
    # By the argument's own name, or that of one that shares its axis.
    words = [word for name in names for word in (name, name.replace("_", " "))]
    text = str(error).lower()
    named = any(re.search(rf"\b{re.escape(word.lower())}\b", text) for word in words)
    assert named, f"{label}: the error does not name {names[position]}: {error}"


def check_expected(out: Any, expected: Any, label: str) -> None:
    """Holds an output to what a row declares, see ``edge_values.Row``."""
    if isinstance(out, Exception):
        assert isinstance(expected, str) and expected in ("nan", "lost", "any"), (
            f"{label}: {type(out).__name__}: {out}"
        )
        return
    rules = {
        "any": lambda: True,
        "nan": lambda: contains(np.isnan, out),
        "lost": lambda: contains(lambda leaf: ~np.isfinite(leaf), out),
        "number": lambda: not contains(np.isnan, out),
        "finite": lambda: not contains(lambda leaf: ~np.isfinite(leaf), out),
    }
    if isinstance(expected, str):
        rule = rules[expected]
        assert rule(), f"{label}: expected {expected}, {show(out)}."
    elif callable(expected):
        assert np.all(expected(out)), f"{label}: {show(out)}."
    elif np.ndim(expected) == 0 and not isinstance(expected, tuple):
        same = [_is_close(leaf, expected, 1e-4) for leaf in _leaves(out)]
        assert all(same), f"{label}: {show(out)}, not {expected}."
    else:
        check_equal(out, expected, 1e-4, f"{label}: not the declared limit")


def check_equal(out: Any, wanted: Any, rtol: float, label: str) -> None:
    """Two outputs alike: floats within a tolerance, NaN with NaN, all else exactly."""
    if isinstance(out, Exception) or isinstance(wanted, Exception):
        kinds = type(out).__name__, type(wanted).__name__
        assert type(out) is type(wanted), f"{label}: {kinds[0]} {out}, {kinds[1]}."
        return
    pairs = list(zip(_leaves(out), _leaves(wanted), strict=True))
    same = all(_is_close(a, b, rtol) for a, b in pairs)
    assert same, f"{label}: {show(out)}, wanted {show(wanted)}."


def _is_close(a: np.ndarray, b: Any, rtol: float) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if np.iscomplexobj(b):  # by parts, since complex infinities are never close
        return _is_close(a.real, b.real, rtol) and _is_close(a.imag, b.imag, rtol)
    if not np.issubdtype(b.dtype, np.inexact):
        return bool(np.all(a == b))
    finite = np.abs(b[np.isfinite(b)])
    atol = 0.1 * rtol * float(finite.max(initial=0.0))
    with np.errstate(all="ignore"):
        return bool(np.allclose(a, b, rtol, atol, equal_nan=True))


def _leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(tree) if not edges.is_key(x)]


def contains(test: Callable[[np.ndarray], np.ndarray], tree: Any) -> bool:
    """Whether a test holds for any float of an output."""
    with np.errstate(all="ignore"):
        return any(
            bool(np.any(test(leaf)))
            for leaf in _leaves(tree)
            if np.issubdtype(leaf.dtype, np.inexact) or leaf.dtype.name == "bfloat16"
        )


def show(out: Any) -> str:
    """What came, in one line."""
    if isinstance(out, Exception):
        return f"gave {type(out).__name__}: {out}"
    shown = [np.array2string(leaf, precision=4, threshold=8) for leaf in _leaves(out)]
    return "gave " + ", ".join(" ".join(text.split()) for text in shown[:4])
