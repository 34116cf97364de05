"""Cards: the JSON beside the arrays of a checkpoint, which tells what they are.

Reading a card needs neither model code nor Orbax.
"""

import math
import os
import pathlib
from typing import Any

import numpy as np

from m3jax.ops import paths
from m3jax.train import environment, typed_json


def make_card(tree: Any, **fields: Any) -> dict[str, Any]:
    """Describes a pytree as JSON values: each path with shape and dtype, and versions.

    Args:
      tree: a pytree of arrays.
      **fields: further JSON values to put into the card.
    """
    leaves = [
        {"path": path, "shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for path, leaf in paths.flatten(tree).items()
    ]
    return {**fields, "versions": environment.versions(), "tree": leaves}


def read_card(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the card of one step or of what ``save_params`` made."""
    directory = pathlib.Path(directory)
    alone = directory / "card.json"
    return typed_json.read(alone if alone.exists() else directory / "card" / "metadata")


def find(directory: str | os.PathLike[str], step: int | None = None) -> pathlib.Path:
    """Finds the directory of one checkpoint.

    Args:
      directory: a workdir, its ``checkpoints``, one step, or what ``save_params`` made.
      step: the step; None for the newest whose card is whole.

    Raises:
      FileNotFoundError: there is none; the message names what was looked for.
    """
    for found in candidates(directory, step):
        try:
            read_card(found)
        except (OSError, ValueError):
            continue
        return found
    wanted = "checkpoint" if step is None else f"checkpoint of step {step}"
    raise FileNotFoundError(f"no whole {wanted} in {directory}")


def candidates(
    directory: str | os.PathLike[str], step: int | None = None
) -> list[pathlib.Path]:
    """Lists the directories that may hold the checkpoint wanted, newest first."""
    directory = pathlib.Path(directory).absolute()
    if not directory.is_dir():
        raise FileNotFoundError(f"no directory {directory}")
    if (directory / "card.json").exists() or (directory / "card").is_dir():
        return [directory]
    if (directory / "checkpoints").is_dir():
        directory = directory / "checkpoints"
    steps = [number for number in list_steps(directory) if step in (None, number)]
    if not steps:
        wanted = "checkpoint" if step is None else f"checkpoint of step {step}"
        there = list_steps(directory) or "none"
        raise FileNotFoundError(f"no {wanted} in {directory}; steps there: {there}")
    return [directory / str(number) for number in reversed(steps)]


def describe(
    directory: str | os.PathLike[str], step: int | None = None
) -> dict[str, Any]:
    """Tells what a checkpoint holds from its card alone; no model code, no arrays.

    Args:
      directory: a workdir, its ``checkpoints``, one step, or what ``save_params`` made.
      step: the step; None for the newest.

    Returns:
      The card (step, metrics, config, versions, tree), with ``directory``, ``steps``
      (those there are), ``num_params`` and ``num_bytes`` (of the parameters) added.
    """
    found = find(directory, step)
    card = read_card(found)
    whole_state = "step" in card
    arrays = [
        leaf
        for leaf in card["tree"]
        if not whole_state or leaf["path"].startswith("params/")
    ]
    sizes = {leaf["path"]: math.prod(leaf["shape"]) for leaf in arrays}
    widths = {leaf["path"]: np.dtype(leaf["dtype"]).itemsize for leaf in arrays}
    return {
        "directory": str(found),
        "steps": list_steps(found.parent) if whole_state else [],
        "num_params": sum(sizes.values()),
        "num_bytes": sum(size * widths[path] for path, size in sizes.items()),
        **card,
    }


def check_tree(
    saved: list[dict[str, Any]], wanted: Any, directory: pathlib.Path
) -> None:
    """Compares a saved tree with the one wanted, before any array is read.

    Args:
      saved: the ``tree`` of a card.
      wanted: a pytree of arrays or of their shapes.
      directory: the checkpoint, to be named.

    Raises:
      ValueError: a path, shape or dtype differs; names the first ones.
    """
    have = {leaf["path"]: (tuple(leaf["shape"]), leaf["dtype"]) for leaf in saved}
    want = {
        path: (tuple(leaf.shape), str(leaf.dtype))
        for path, leaf in paths.flatten(wanted).items()
    }
    wrong = [
        f"{path}: saved {have.get(path, 'nothing')}, wanted {want.get(path, 'nothing')}"
        for path in [*have, *(path for path in want if path not in have)]
        if have.get(path) != want.get(path)
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"{directory} was saved by another model or optimizer: "
            + "; ".join(wrong[:3])
            + more
        )


def list_steps(directory: pathlib.Path) -> list[int]:
    """Returns the steps that stand, whole or torn, in a directory; oldest first."""
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())
