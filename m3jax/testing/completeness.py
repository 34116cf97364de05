"""Whether a table has a row for every public function of a package."""

import importlib
import inspect
import pkgutil
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def public_functions(package: types.ModuleType) -> dict[str, Callable[..., Any]]:
    """The public functions of a package and the public methods of its classes.

    Args:
      package: an imported package; its modules are walked, those that start with ``_``
        left out.

    Returns:
      ``module.function`` or ``module.Class.method`` below the package -> the callable.
      ``module.Class`` stands for a ``__call__`` of its own.

    Example:
      >>> from m3jax import ops
      >>> "masks.keep" in public_functions(ops)
      True
    """
    found = {}
    prefix = package.__name__ + "."
    for info in pkgutil.walk_packages(package.__path__, prefix):
        if info.ispkg or "._" in info.name:
            continue
        module = importlib.import_module(info.name)
        short = info.name.removeprefix(prefix)
        for name, item in vars(module).items():
            if name.startswith("_") or getattr(item, "__module__", "") != info.name:
                continue
            if inspect.isclass(item):
                found |= _methods(f"{short}.{name}", item)
            elif callable(item):
                found[f"{short}.{name}"] = item
    return found


def missing(
    package: types.ModuleType, covered: Iterable[str], exempt: Mapping[str, str]
) -> list[str]:
    """What keeps a table from being complete; empty if nothing does.

    Args:
      package: as for `public_functions`.
      covered: names that the table has rows for, with or without the package's.
      exempt: names, or ``module.*`` for a whole module, and why each has no row.

    Returns:
      A line for each public function without a row, and for each row or exemption that
      names nothing.
    """
    prefix = package.__name__ + "."
    public = public_functions(package)
    covered = {name.removeprefix(prefix) for name in covered}
    wanted = {n for n in public if not _exempted(n, exempt)}
    lines = [f"no row: {name}" for name in sorted(wanted - covered)]
    lines += [f"row of nothing: {name}" for name in sorted(covered - set(public))]
    stale = [name for name in exempt if not any(_exempted(n, [name]) for n in public)]
    lines += [f"exempt, but not there: {name}" for name in stale]
    twice = [name for name in exempt if name in covered]
    return lines + [f"exempt and in the table: {name}" for name in twice]


def _exempted(name: str, exempt: Iterable[str]) -> bool:
    parts = name.split(".")
    heads = {".".join(parts[:i]) + ".*" for i in range(1, len(parts))}
    return name in exempt or any(head in exempt for head in heads)


def _methods(prefix: str, cls: type) -> dict[str, Callable[..., Any]]:
    if getattr(cls, "_is_protocol", False):
        return {}
    found = {}
    for name, item in vars(cls).items():
        item = getattr(item, "__func__", item)
        if not inspect.isfunction(item) or item.__module__ != cls.__module__:
            continue
        if name == "__call__":
            found[prefix] = item
        elif not name.startswith("_"):
            found[f"{prefix}.{name}"] = item
    return found
