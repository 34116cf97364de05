"""Whether the fields of a config hold what they should, all the way down.

Python does not look at annotations, and a wrong type shows late, as an error of some
library deep inside. This looks once, before anything is built. A dataclass may also say
where its values lie, in a table of plain text that needs no import::

    RANGES: ClassVar = {"dim": "[1, inf)", "receiver": ("residual", "mlp")}

An interval holds for each number of a tuple, and for a number that is not None; a tuple
of words lists the choices. What fits together is left to ``validate``.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

INT_LIMIT = 2**32
"""Whole numbers of a config lie below this: JAX counts in 32 bits."""
_EXACT = 2**53  # whole numbers below are floats without rounding
_KINDS = {
    int: "a whole number below 2**32",
    float: "a number",
    bool: "True or False",
    str: "text",
    type(None): "None",
}
Fault = tuple[str, str]  # path below the value, what is wanted there


def check(config: Any) -> None:
    """Raises ValueError for the first field that is of another type, or out of range.

    NaN is no setting of anything, a bool is no number, and whole numbers are bounded by
    what JAX counts in. Infinity is a number: where a field can't take it, its owner's
    ``validate`` says so.

    Args:
      config: a dataclass, with all it holds.

    Raises:
      ValueError: names the field by its path, what stands there and what is wanted.

    Example:
      >>> @dataclasses.dataclass
      ... class Config:
      ...     steps: int = 1
      ...     range_db: tuple[float, float] = (0.0, 20.0)
      >>> check(Config())
      >>> check(Config(steps="many"))
      Traceback (most recent call last):
      ...
      ValueError: steps is 'many'; it must be a whole number below 2**32
      >>> check(Config(range_db=(0.0, math.nan)))
      Traceback (most recent call last):
      ...
      ValueError: range_db[1] is nan; it must be a number
      >>> Config.RANGES = {"steps": "[1, inf)"}
      >>> check(Config(steps=0))
      Traceback (most recent call last):
      ...
      ValueError: steps is 0; it must be in [1, inf)
    """
    for path, value, hint, allowed in _fields(config, ""):
        fault = find(value, hint) or _out_of_range(value, allowed)
        if fault is not None:
            below, wanted = fault
            shown = _short(_at(value, below))
            raise ValueError(f"{path}{below} is {shown}; it must be {wanted}")


def find(value: Any, hint: Any) -> Fault | None:
    """Where a value is not what an annotation says; None if it is everywhere.

    Annotations that say nothing of numbers, text, tuples, mappings or dataclasses are
    taken to fit.

    Example:
      >>> find((1, "2"), tuple[int, ...])
      ('[1]', 'a whole number below 2**32')
      >>> find(None, float | None) is None
      True
    """
    if hint is Any or isinstance(hint, (str, typing.TypeVar)):
        return None
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _any_of(value, args)
    if origin is typing.Literal:
        return None if value in args else ("", f"one of {args}")
    if hint in _KINDS:
        return None if _is_kind(value, hint) else ("", _KINDS[hint])
    if origin is tuple:
        return _in_tuple(value, args)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _in_mapping(value, args)
    if isinstance(hint, type):
        return _of_type(value, hint)
    return None


def _fields(config: Any, prefix: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """Path, value, annotation and range of every field; the outer ones first."""
    hints = typing.get_type_hints(type(config))
    ranges = getattr(config, "RANGES", {})
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), prefix + field.name
        yield path, value, hints[field.name], ranges.get(field.name)
        if _is_dataclass(value):
            yield from _fields(value, f"{path}.")


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _is_kind(value: Any, kind: type) -> bool:
    if kind in (bool, str, type(None)):
        return isinstance(value, kind)
    if isinstance(value, bool):
        return False
    if kind is int:
        return isinstance(value, int) and abs(value) < INT_LIMIT
    if isinstance(value, int):
        return abs(value) < _EXACT
    return isinstance(value, float) and not math.isnan(value)


def _any_of(value: Any, hints: tuple[Any, ...]) -> Fault | None:
    faults = [find(value, hint) for hint in hints]
    if None in faults:
        return None
    # A fault inside says more than that the whole is of another kind.
    inner = [fault for fault in faults if fault[0]]
    return inner[0] if inner else ("", " or ".join(wanted for _, wanted in faults))


def _in_tuple(value: Any, hints: tuple[Any, ...]) -> Fault | None:
    if not isinstance(value, (tuple, list)):
        return "", "a tuple, such as (1, 2)"
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        return "", f"a tuple of {len(hints)}"
    pairs = enumerate(zip(value, hints, strict=True))
    return _first((f"[{i}]", find(*pair)) for i, pair in pairs)


def _in_mapping(value: Any, hints: tuple[Any, ...]) -> Fault | None:
    if not isinstance(value, Mapping):
        return "", "a mapping"
    return _first((f"[{key!r}]", find(value[key], hints[1])) for key in value)


def _of_type(value: Any, kind: type) -> Fault | None:
    """A dataclass, or something that promises to be one, as a protocol does."""
    if getattr(kind, "_is_protocol", False):
        return None if _is_dataclass(value) else ("", f"a {kind.__name__}")
    if dataclasses.is_dataclass(kind) or kind is tuple:
        return None if isinstance(value, kind) else ("", f"a {kind.__name__}")
    return None


def _out_of_range(value: Any, allowed: str | tuple[str, ...] | None) -> Fault | None:
    """Whether a value lies outside an interval such as ``"(0, 1]"``, or of choices."""
    if allowed is None or value is None:
        return None
    if not isinstance(allowed, str):
        return None if value in allowed else ("", f"one of {allowed}")
    if isinstance(value, (tuple, list)):
        each = (_out_of_range(item, allowed) for item in value)
        return _first((f"[{i}]", fault) for i, fault in enumerate(each))
    low, high = (float(end) for end in allowed[1:-1].split(","))
    is_above = low < value or (low == value and allowed[0] == "[")
    is_below = value < high or (value == high and allowed[-1] == "]")
    return None if is_above and is_below else ("", f"in {allowed}")


def _first(found: Iterator[tuple[str, Fault | None]]) -> Fault | None:
    for place, fault in found:
        if fault is not None:
            return place + fault[0], fault[1]
    return None


def _at(value: Any, below: str) -> Any:
    """The part of a value that a path such as ``[1][0]`` leads to."""
    for part in filter(None, below.replace("]", "").split("[")):
        value = (
            value[part.strip("'")] if isinstance(value, Mapping) else value[int(part)]
        )
    return value


def _short(value: Any) -> str:
    """A value in a line: long ones are cut."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print whole numbers of 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
