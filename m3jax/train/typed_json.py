"""Strict JSON, written whole or not at all, and dataclasses that survive it.

JSON has no NaN or infinity, so they are written as the strings "nan", "inf" and
"-inf", which ``float`` reads back.
"""

import dataclasses
import importlib
import json
import math
import os
import pathlib
import sys
import typing
from collections.abc import Mapping
from typing import Any

from absl import logging

from m3jax.files import disk

_homes = {"m3jax"}  # packages whose modules a file may ask for
NOTHING = "nothing"


def dumps(value: Any, indent: int | None = None) -> str:
    """Writes plain values as strict JSON; NumPy scalars become Python numbers."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def plain(value: Any) -> Any:
    """Turns tuples, NumPy values and non-finite numbers into what JSON has.

    Raises:
      ValueError: a value, or a key that is not a string, that JSON has no place for.
    """
    if isinstance(value, Mapping):
        return {_string_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{type(value).__name__} has no place in JSON: {value!r}")


def write(path: str | os.PathLike[str], value: Any) -> None:
    """Writes a JSON file so that a reader sees the old one or the new one, whole."""
    disk.write_text(path, dumps(value, indent=2) + "\n")


def read(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not JSON, for one because it was cut short.
    """
    text = pathlib.Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not whole JSON ({error})") from error


def to_json(value: Any) -> Any:
    """Turns a dataclass, with all it holds, into plain JSON values.

    A dataclass becomes ``{"type": "package.module:Class", field: value, ...}``, named
    by the shortest package that has it.

    Args:
      value: a dataclass of a module that can be imported, whose fields are numbers,
        strings, None, tuples, mappings with string keys, or such dataclasses.

    Raises:
      ValueError: a value that could not come back the same.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {
            field.name: to_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
        return {"type": _public_name(kind), **fields}
    if isinstance(value, Mapping):
        return {_string_key(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list):
        raise ValueError(f"a config holds tuples, not lists: {value!r}")
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return plain(value)


def from_json(value: Any, lenient: bool = False) -> Any:
    """Builds again what ``to_json`` took apart; lists come back as tuples.

    A file never decides which code is loaded: types come from m3jax, from packages that
    were named to `trust`, or from modules that are imported already.

    Args:
      value: plain JSON values.
      lenient: leave out fields that the type does not have (any more), and tell so.

    Returns:
      The dataclass, equal to the original.

    Raises:
      ValueError: a type of a package that is not imported, or unknown to it, or a field
        that the type does not have.
    """
    if isinstance(value, list):
        return tuple(from_json(item, lenient) for item in value)
    if not isinstance(value, Mapping):
        return value
    if "type" not in value:
        return {key: from_json(item, lenient) for key, item in value.items()}
    kind = _find_dataclass(value["type"])
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(value) - known - {"type"})
    if unknown and lenient:
        lost = ", ".join(f"{name}={value[name]!r}" for name in unknown)
        logging.warning("%s has no field %s any more", value["type"], lost)
    elif unknown:
        raise ValueError(
            f"{value['type']} has no field {', '.join(unknown)}; it has "
            + ", ".join(sorted(known))
        )
    fields = {
        name: _revive_floats(from_json(item, lenient), hints[name])
        for name, item in value.items()
        if name in known
    }
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"{value['type']}: {error}") from error


def trust(package: str) -> None:
    """Imports a package, and lets `from_json` import what lies below it.

    Raises:
      ValueError: there is no such package.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"--package={package!r} can't be imported ({error}); name one that lies in"
            " the current directory or is installed"
        ) from error
    _homes.add(package.split(".")[0])


def first_difference(first: Any, second: Any, path: str = "") -> str | None:
    """Names the first place where two JSON values differ, or None.

    Example:
      >>> first_difference({"a": {"b": 1}}, {"a": {"b": 2}})
      'a.b: 1 and 2'
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in [*first, *(key for key in second if key not in first)]:
            below = f"{path}.{key}" if path else str(key)
            if key not in first or key not in second:
                return (
                    f"{below}: {first.get(key, NOTHING)} and {second.get(key, NOTHING)}"
                )
            found = first_difference(first[key], second[key], below)
            if found:
                return found
        return None
    if first == second:
        return None
    return f"{path or 'the value'}: {first!r} and {second!r}"


def _string_key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"JSON keys are strings, got {key!r}")
    return key


def _public_name(kind: type) -> str:
    """``package.module:Class``, by the shortest module that has the class."""
    parts = kind.__module__.split(".")
    # A config file is loaded under a name that nobody can import it by.
    file = pathlib.Path(getattr(sys.modules.get(kind.__module__), "__file__", "") or "")
    counts = range(1, len(parts) + 1) if parts[-1] in file.parts + (file.stem,) else ()
    for count in counts:
        module = ".".join(parts[:count])
        if _attribute(sys.modules.get(module), kind.__qualname__) is kind:
            return f"{module}:{kind.__qualname__}"
    raise ValueError(
        f"{kind.__qualname__} of {kind.__module__!r} can't be found again by its name;"
        " define a config's types in a module that can be imported, such as"
        " mine/system.py, and not in the config file"
    )


def _attribute(module: Any, path: str) -> Any:
    """What a dotted path of classes leads to in a module; None if nowhere."""
    found = module
    for part in path.split("."):
        if found is not module and not isinstance(found, type):
            return None  # no way through other modules
        found = getattr(found, part, None)
    return found


def _find_dataclass(name: str) -> type:
    module, _, path = str(name).partition(":")
    package = module.split(".")[0]
    if module not in sys.modules and package not in _homes:
        raise ValueError(
            f"config type {name!r} is of the module {module!r}, which is not imported;"
            f" a file does not decide what is: give --package={package}, or import it"
            " first"
        )
    if module not in sys.modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f"{_unknown(name, package)}: {error}") from error
    found = _attribute(sys.modules[module], path)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ValueError(f"{_unknown(name, package)}, or is not a dataclass")
    if found.__module__.split(".")[0] != package:
        raise ValueError(f"config type {name!r} is not one of {package!r} itself")
    return found


def _unknown(name: str, package: str) -> str:
    return (
        f"config type {name!r} is not in this version of {package}; a run of an older"
        " version is restored by that version, or trained again"
    )


def _revive_floats(value: Any, hint: Any) -> Any:
    """Turns "nan", "inf", "-inf" into floats where the annotation speaks of floats."""
    if not _mentions_float(hint):
        return value
    if isinstance(value, tuple):
        return tuple(_revive_floats(item, hint) for item in value)
    return float(value) if value in ("nan", "inf", "-inf") else value


def _mentions_float(hint: Any) -> bool:
    return hint is float or any(map(_mentions_float, typing.get_args(hint)))
