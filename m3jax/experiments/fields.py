"""Fields of a config by dotted path: read from text, set, compared."""

import ast
import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


def parse_over(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Turns ``path=value,value`` texts into the axes of a grid.

    Args:
      texts: such as ``"train.seed=0,1,2"``; values are Python literals or bare words.

    Returns:
      Path of the config field -> its values.

    Raises:
      ValueError: a text is malformed, has no value, or a path or value comes twice.

    Example:
      >>> parse_over(["train.seed=0,1", "system.compressor=stride,window_pool"])
      {'train.seed': (0, 1), 'system.compressor': ('stride', 'window_pool')}
    """
    axes: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        if not path.strip() or not equals or not values.strip():
            raise ValueError(
                f"--over={text!r} is malformed; write path=value,value, for example "
                "train.seed=0,1,2"
            )
        if path.strip() in axes:
            raise ValueError(f"--over names {path.strip()!r} twice")
        axes[path.strip()] = parsed = _parse_values(values)
        if len(set(map(repr, parsed))) < len(parsed):
            raise ValueError(f"--over={text!r} has a value twice")
    return axes


def _parse_values(text: str) -> tuple[Any, ...]:
    try:
        values = ast.literal_eval(f"({text},)")
    except (SyntaxError, ValueError):
        values = tuple(_parse_value(part.strip()) for part in text.split(","))
    return values


def _parse_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def get(config: Any, path: str) -> Any:
    """The value of a field.

    Raises:
      ValueError: there is no such field.
    """
    holder, name = _holder(config, path)
    return getattr(holder, name)


def replace(config: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a config with some fields set.

    Raises:
      ValueError: there is no such field, or the value is of another type.
    """
    config = copy.deepcopy(config)
    for path, value in values.items():
        holder, name = _holder(config, path)
        old = getattr(holder, name)
        if type(old) is float and type(value) is int:
            value = float(value)
        hint = str(type(holder).__dataclass_fields__[name].type)
        may_be_none = value is None and "None" in hint
        if old is not None and type(value) is not type(old) and not may_be_none:
            raise ValueError(
                f"{path} is {type(old).__name__} {old!r}; it can't be {value!r}"
            )
        setattr(holder, name, value)
    return config


def substitute(config: Any, values: Mapping[str, Any]) -> Any:
    """As `replace`, but takes any value, such as traced numbers."""
    config = copy.deepcopy(config)
    for path, value in values.items():
        holder, name = _holder(config, path)
        setattr(holder, name, value)
    return config


def _holder(config: Any, path: str) -> tuple[Any, str]:
    """The dataclass that a field belongs to, and the field's name."""
    *parents, name = path.split(".")
    holder = config
    for parent in parents:
        holder = getattr(holder, parent, None)
    is_known = dataclasses.is_dataclass(holder)
    known = [field.name for field in dataclasses.fields(holder)] if is_known else []
    if name not in known:
        raise ValueError(
            f"the config has no field {path!r}; see the fields of "
            f"{type(holder if is_known else config).__name__}"
        )
    return holder, name
