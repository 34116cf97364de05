"""What a numerical function does at the edges of its domain, as one table row each.

A row names a function, good arguments and which of them is poked. `check` puts into its
first element what people meet by accident, hands the argument over in other types, and
takes elements away, eager and under ``jit``. The rule: the right value, or one clear
``ValueError`` or ``TypeError`` that names the argument.

    types       int32, uint8, uint32, bool, float16, bfloat16 and float64: what the same
                numbers give in float32, within the precision of the type
    values      NaN, inf, -inf, 0, 1e-30, 1e30: as the row declares
    sizes       no element and one element along the leading axis; a mask that is all
                False; NaN where a mask is False

    defaults    NaN gives NaN somewhere in the output; all other values give no NaN; a
                masked NaN changes nothing

`completeness.missing` names the public functions of a package without a row.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from m3jax.testing import edge_arguments as edges

VALUES = {
    "nan": float("nan"),
    "inf": float("inf"),
    "ninf": float("-inf"),
    "zero": 0.0,
    "tiny": 1e-30,
    "huge": 1e30,
}
"""Name of an edge, as in a row, to what is put into the argument."""

DTYPES = ("int32", "uint8", "uint32", "bool", "float16", "bfloat16", "float64")
"""Types that an argument is handed over in; float64 with 64-bit JAX enabled."""

SIZES = ("empty", "one", "all_masked")

_EXTERNAL = (f"{jax.__name__}/", "jaxlib/", "numpy/")


@dataclasses.dataclass(frozen=True)
class Row:
    """A function and what is expected of it at the edges.

    What is expected of an edge is one of

    - ``"nan"``: some number of the output is NaN, or an error names the argument;
    - ``"lost"``: likewise, or infinite: a delay without end is no better result;
    - ``"number"``: no NaN;
    - ``"finite"``: neither NaN nor infinity;
    - ``"error"``: a clear error where the value is known; compiled, NaN or the same;
    - ``"any"``: only that eager and compiled agree; say why beside the row;
    - a function of the output that says whether it is right;
    - anything else: the output itself, the declared limit (a tree; a scalar for all).

    Attributes:
      fn: the function; bind what is static (`functools.partial`, a lambda).
      args: good arguments: arrays, pytrees of arrays or random keys.
      poke: position of the poked argument, or several positions in turn.
      name: what it stands for, ``module.function`` below the package, where ``fn``
        does not tell.
      nan: what is expected of NaN; and so the five below.
      inf: of infinity.
      ninf: of minus infinity.
      zero: of 0.
      tiny: of 1e-30.
      huge: of 1e30.
      grad: names of edges, in one text, at which the gradient by all float arguments is
        finite.
      mask: position of an argument that masks the poked one's leading axes. Then a
        masked NaN must change nothing, and nothing valid must be finite.
      skip: names of types and sizes, in one text, that are not tried; say why.

    Example:
      >>> check(Row(jnp.sqrt, (jnp.array([1.0, 4.0]),), ninf="nan"), dtypes=["bool"])
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    poke: int | tuple[int, ...] = 0
    name: str = ""
    _: dataclasses.KW_ONLY
    nan: Any = "nan"
    inf: Any = "number"
    ninf: Any = "number"
    zero: Any = "number"
    tiny: Any = "number"
    huge: Any = "number"
    grad: str = ""
    mask: int | None = None
    skip: str = ""

    @property
    def positions(self) -> tuple[int, ...]:
        """The poked positions."""
        return self.poke if isinstance(self.poke, tuple) else (self.poke,)

    @property
    def covers(self) -> str:
        """``module.function`` as `completeness` names it, without the package."""
        if self.name:
            return self.name
        fn = inspect.unwrap(self.fn)
        fn = fn.func if isinstance(fn, functools.partial) else fn
        return f"{fn.__module__}.{fn.__qualname__}"

    def __str__(self) -> str:
        return self.covers


def check(row: Row, dtypes: Iterable[str] = DTYPES, quick: bool = False) -> None:
    """Checks a row.

    Args:
      row: the function and its expectations.
      dtypes: of ``DTYPES``, those that are tried; each is a program to compile.
      quick: leaves out what takes most of the time: the eager calls, other than of
        values that are to be refused, and the sizes.

    Raises:
      AssertionError: names function, argument and edge, and what came instead.
    """
    compiled = jax.jit(row.fn)
    for position in row.positions:
        for edge, value in VALUES.items():
            _check_value(row, compiled, position, edge, value, quick)
        _check_dtypes(row, compiled, position, tuple(dtypes))
        if not quick:
            _check_sizes(row, compiled, position)
    if row.mask is not None:
        _check_mask(row, compiled, quick)
    if row.grad:
        _check_gradients(row)


def _check_value(row, compiled, position: int, edge: str, value: float, quick: bool):
    args = edges.poke(row.args, position, value)
    if args is None:  # no float in it
        return
    label = f"{_short(row)}(arg {position} = {edge})"
    expected = getattr(row, edge)
    refused = isinstance(expected, str) and expected == "error"
    fast = _call(row, compiled, args, position, label)
    eager = _call(row, row.fn, args, position, label) if refused or not quick else fast
    if refused:
        assert isinstance(eager, Exception), f"{label}: no error, but {_show(eager)}."
        broken = isinstance(fast, Exception) or _any(np.isnan, fast)
        assert broken, f"{label}, compiled: no error and no NaN, but {_show(fast)}."
        return
    _check_expected(fast, expected, f"{label}, compiled")
    if isinstance(eager, Exception):  # the value is known, so it is refused
        _check_expected(eager, expected, label)
    else:
        _check_equal(fast, eager, 1e-4, f"{label}: compiled differs from eager")


def _check_expected(out: Any, expected: Any, label: str) -> None:
    if isinstance(out, Exception):
        assert isinstance(expected, str) and expected in ("nan", "lost", "any"), (
            f"{label}: {type(out).__name__}: {out}"
        )
        return
    rules = {
        "any": lambda: True,
        "nan": lambda: _any(np.isnan, out),
        "lost": lambda: _any(lambda leaf: ~np.isfinite(leaf), out),
        "number": lambda: not _any(np.isnan, out),
        "finite": lambda: not _any(lambda leaf: ~np.isfinite(leaf), out),
    }
    if isinstance(expected, str):
        rule = rules[expected]
        assert rule(), f"{label}: expected {expected}, {_show(out)}."
    elif callable(expected):
        assert np.all(expected(out)), f"{label}: {_show(out)}."
    elif np.ndim(expected) == 0 and not isinstance(expected, tuple):
        same = [_is_close(leaf, expected, 1e-4) for leaf in _leaves(out)]
        assert all(same), f"{label}: {_show(out)}, not {expected}."
    else:
        _check_equal(out, expected, 1e-4, f"{label}: not the declared limit")


def _check_dtypes(row: Row, compiled, position: int, dtypes: tuple[str, ...]) -> None:
    for name in dtypes:
        if name in row.skip.split():
            continue
        label = f"{_short(row)}(arg {position} as {name})"
        if name == "float64":
            _check_float64(row, compiled, position, label)
            continue
        pair = edges.cast(row.args, position, name)
        if pair is None:
            return
        given, as_float = pair
        out = _call(row, jax.jit(row.fn), given, position, label)
        if not isinstance(out, Exception):  # one clear error, which `_call` has checked
            wanted = _call(row, compiled, as_float, position, f"{label}, in float32")
            _check_equal(out, wanted, _precision(name), label)


def _check_float64(row: Row, compiled, position: int, label: str) -> None:
    wanted = _call(row, compiled, row.args, position, label)
    with jax.enable_x64(True):
        args = edges.widen(row.args)
        out = _call(row, jax.jit(row.fn), args, position, label)
        eager = _call(row, row.fn, args, position, label)
        _check_equal(out, eager, 1e-6, f"{label}: compiled differs from eager")
    if not isinstance(out, Exception):
        _check_equal(out, wanted, 1e-3, label)


def _check_sizes(row: Row, compiled, position: int) -> None:
    length = edges.leading_length(row.args[position])
    if length is None:
        return
    for name, size in (("empty", 0), ("one", 1)):
        if name in row.skip.split():
            continue
        args = edges.shorten(row.args, length, size)
        label = f"{_short(row)}(arg {position}: {name})"
        out = _call(row, compiled, args, position, label)
        assert name == "empty" or not _any(np.isnan, out), f"{label}: {_show(out)}."


def _check_mask(row: Row, compiled, quick: bool) -> None:
    mask = np.asarray(row.args[row.mask]).astype(bool)
    hidden = np.array(mask)
    hidden[(0,) * mask.ndim] = False
    position = row.positions[0]
    clean = edges.replace(row.args, row.mask, jnp.asarray(hidden))
    spoilt = edges.poke(clean, position, np.nan, np.argwhere(~hidden)[0])
    label = f"{_short(row)}(arg {position}: masked NaN)"
    wanted = _call(row, compiled, clean, position, label)
    # XLA may turn a product with a mask into a choice, so compiled is not all.
    for fn in (compiled,) if quick else (compiled, row.fn):
        _check_equal(_call(row, fn, spoilt, position, label), wanted, 1e-4, label)
    if "all_masked" in row.skip.split():
        return
    nothing = edges.replace(row.args, row.mask, jnp.zeros_like(mask))
    label = f"{_short(row)}(all masked)"
    _check_expected(_call(row, compiled, nothing, row.mask, label), "finite", label)


def _check_gradients(row: Row) -> None:
    floats = tuple(i for i, arg in enumerate(row.args) if edges.is_float(arg))

    def loss(*args):
        return sum(jnp.sum(jnp.abs(leaf)) for leaf in _floats(row.fn(*args)))

    gradient = jax.jit(jax.grad(loss, argnums=floats))
    for edge in row.grad.split():
        for position in row.positions:
            args = edges.poke(row.args, position, VALUES[edge])
            found = gradient(*args)
            bad = _any(lambda leaf: ~np.isfinite(leaf), found)
            assert not bad, f"{_short(row)}(arg {position} = {edge}): {_show(found)}."


def _call(row: Row, fn, args: tuple, position: int, label: str) -> Any:
    """The output, or the clear error that came instead."""
    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "off")  # shows who raised
    try:
        return jax.block_until_ready(fn(*args))
    except Exception as error:
        _check_clear(row, error, position, label)
        return error
    finally:
        jax.config.update("jax_traceback_filtering", before)


def _check_clear(row: Row, error: Exception, position: int, label: str) -> None:
    raw = f"{label}: {type(error).__name__}, not a clear error: {error}"
    assert isinstance(error, (ValueError, TypeError)), raw
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    assert not any(f"site-packages/{part}" in file for part in _EXTERNAL), raw
    names = list(inspect.signature(row.fn).parameters)
    name = names[position] if position < len(names) else ""
    words = [name, name.replace("_", " ")]
    named = any(re.search(rf"\b{re.escape(word)}\b", str(error)) for word in words)
    assert name and named, f"{label}: the error does not name {name}: {error}"


def _check_equal(out: Any, wanted: Any, rtol: float, label: str) -> None:
    if isinstance(out, Exception) or isinstance(wanted, Exception):
        kinds = type(out).__name__, type(wanted).__name__
        assert type(out) is type(wanted), f"{label}: {kinds[0]} {out}, {kinds[1]}."
        return
    pairs = list(zip(_leaves(out), _leaves(wanted), strict=True))
    same = all(_is_close(a, b, rtol) for a, b in pairs)
    assert same, f"{label}: {_show(out)}, wanted {_show(wanted)}."


def _is_close(a: np.ndarray, b: Any, rtol: float) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if not np.issubdtype(b.dtype, np.inexact):
        return bool(np.all(a == b))
    finite = np.abs(b[np.isfinite(b)])
    atol = 0.1 * rtol * float(finite.max(initial=0.0))
    with np.errstate(all="ignore"):
        return bool(np.allclose(a, b, rtol, atol, equal_nan=True))


def _leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(tree) if not edges.is_key(x)]


def _floats(tree: Any) -> list:
    return [x for x in jax.tree.leaves(tree) if edges.is_float(x)]


def _any(test, tree: Any) -> bool:
    with np.errstate(all="ignore"):
        return any(
            bool(np.any(test(leaf)))
            for leaf in _leaves(tree)
            if np.issubdtype(leaf.dtype, np.inexact) or leaf.dtype.name == "bfloat16"
        )


def _precision(name: str) -> float:
    halves = {"float16": 1e-3, "bfloat16": 8e-3}
    return 16.0 * halves[name] if name in halves else 1e-5


def _short(row: Row) -> str:
    return row.covers.split(".")[-1]


def _show(out: Any) -> str:
    if isinstance(out, Exception):
        return f"gave {type(out).__name__}: {out}"
    shown = [np.array2string(leaf, precision=4, threshold=8) for leaf in _leaves(out)]
    return "gave " + ", ".join(" ".join(text.split()) for text in shown[:4])
