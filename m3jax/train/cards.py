"""Cards: the JSON beside the arrays of a checkpoint, which tells what they are.

Reading a card needs neither model code nor Orbax. A card has a checksum for each array,
and one for itself.
"""

import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from m3jax.files import sums
from m3jax.ops import paths
from m3jax.train import environment, typed_json

_OWN = "xxh3"


def make_card(tree: Any, **fields: Any) -> dict[str, Any]:
    """Describes a pytree as JSON values: each path with shape, dtype and sum; versions.

    Args:
      tree: a pytree of arrays.
      **fields: further JSON values to put into the card.
    """
    leaves = paths.flatten(tree)
    found = sums_of(leaves)
    tree = [
        {
            "path": path,
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
            "xxh3": found.get(path),
        }
        for path, leaf in leaves.items()
    ]
    return signed({**fields, "versions": environment.versions(), "tree": tree})


def signed(card: dict[str, Any]) -> dict[str, Any]:
    """A card as JSON has it, with its own checksum."""
    card = typed_json.plain({k: v for k, v in card.items() if k != _OWN})
    return {**card, _OWN: sums.of_json(card)}


def sums_of(leaves: Mapping[str, Any]) -> dict[str, str]:
    """Checksums of arrays by path; without those that other hosts have parts of."""
    here = {
        path: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in leaves.items()
        if getattr(leaf, "is_fully_addressable", True)
    }
    return sums.of_arrays(here)


def check_sums(card: Mapping[str, Any], tree: Any, directory: pathlib.Path) -> None:
    """Compares arrays that were read with the checksums of their card.

    Args:
      card: of the checkpoint.
      tree: what was read of it, all or a part: a pytree with the card's paths.
      directory: the checkpoint, to be named.

    Raises:
      sums.DamagedError: an array has changed on disk.
    """
    wanted = {leaf["path"]: leaf.get("xxh3") for leaf in card["tree"]}
    if _OWN not in card:
        logging.warning(
            "%s was saved without checksums by an older version; its numbers are taken"
            " as they are",
            directory,
        )
        return
    sums.check(sums_of(paths.flatten(tree)), wanted)


def read_card(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the card of one step or of what ``save_params`` made.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is not whole, or not what was written.
    """
    directory = pathlib.Path(directory)
    alone = directory / "card.json"
    path = alone if alone.exists() else directory / "card" / "metadata"
    card = typed_json.read(path)
    if not _is_card(card):
        raise sums.DamagedError(f"{path} is not the card of a checkpoint")
    if _OWN in card and signed(card)[_OWN] != card[_OWN]:
        raise sums.DamagedError(f"{path} has changed on disk since it was written")
    return card


def _is_card(card: Any) -> bool:
    """Whether JSON values have what is read of every card."""
    if not isinstance(card, Mapping) or not isinstance(card.get("tree"), list):
        return False
    return isinstance(card.get("metrics", {}), Mapping) and all(
        isinstance(leaf, Mapping)
        and isinstance(leaf.get("path"), str)
        and isinstance(leaf.get("shape"), list)
        and isinstance(leaf.get("dtype"), str)
        for leaf in card["tree"]
    )


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


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
