"""Shipped starting points: small pretrained models, loaded by name in one line.

Each is a directory of the package, ``m3jax/pretrained/<name>``: parameters as Orbax
arrays in bfloat16 and a ``card.json`` with the command, data version, commit, figures
and size.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.train import cards, checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[1] / "pretrained"


def names(root: str | os.PathLike[str] = ROOT) -> list[str]:
    """Lists the starting points that are shipped."""
    return sorted(path.parent.name for path in pathlib.Path(root).glob("*/card.json"))


def load(
    name: str, root: str | os.PathLike[str] = ROOT
) -> tuple[base.Params, dict[str, Any]]:
    """Loads a starting point.

    Args:
      name: one of ``names()``.
      root: where to look; the package by default.

    Returns:
      The parameters (nested dict of float32 NumPy arrays) and the card.

    Raises:
      FileNotFoundError: no such name; lists those there are.

    Example:
      ``params, card = pretrained.load("decoder")``
    """
    if name not in names(root):
        there = ", ".join(names(root)) or "none"
        raise FileNotFoundError(f"no pretrained model {name!r}; there are: {there}")
    directory = pathlib.Path(root) / name
    params = _cast_floats(checkpoints.restore_params(directory), np.float32)
    return params, cards.read_card(directory)


def save(
    directory: str | os.PathLike[str], params: base.Params, card: Mapping[str, Any]
) -> None:
    """Saves a starting point; floating arrays are rounded to bfloat16.

    Args:
      directory: ``<root>/<name>``; an older one is replaced.
      params: nested dict of arrays.
      card: JSON values: command, data version, commit, figures.
    """
    checkpoints.save_params(directory, _cast_floats(params, jnp.bfloat16), card)


def _cast_floats(params: base.Params, dtype: Any) -> base.Params:
    def cast(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, params)
