"""Fields of a config by dotted path: read from text, set, compared."""

import ast
import copy
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from m3jax.train import typed_fields


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
        axes[path.strip()] = parsed = parse_values(values)
        if len(set(map(repr, parsed))) < len(parsed):
            raise ValueError(f"--over={text!r} has a value twice")
    return axes


def parse_value(text: str) -> Any:
    """What a person means who types the value of a field.

    Args:
      text: a Python literal, in which ``inf`` and ``nan`` are numbers; or a bare word.

    Example:
      >>> [parse_value(text) for text in ("-inf", "(0, inf)", "None", "stride", "1e-3")]
      [-inf, (0, inf), None, 'stride', 0.001]
    """
    try:
        return _literal(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text


def parse_values(text: str) -> tuple[Any, ...]:
    """As `parse_value`, of several between commas."""
    try:
        return _literal(f"({text},)")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return tuple(parse_value(part.strip()) for part in text.split(","))


def _literal(text: str) -> Any:
    tree = ast.parse(text.strip(), mode="eval")
    return ast.literal_eval(_Numbers().visit(tree))


class _Numbers(ast.NodeTransformer):
    """Takes the names ``inf`` and ``nan`` for the numbers that they are."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        is_number = node.id in ("inf", "nan")
        return ast.Constant(float(node.id)) if is_number else node


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
        old, hint = getattr(holder, name), typing.get_type_hints(type(holder))[name]
        if type(old) is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        fault = typed_fields.find(value, hint)
        if fault is not None:
            raise ValueError(
                f"{path} is {type(old).__name__} {old!r}; it can't be {value!r}, as it"
                f" must be {fault[1]}"
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
