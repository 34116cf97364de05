"""Models that are loaded by name in one line: those shipped, and your own exports.

Each is a directory: parameters as Orbax arrays in bfloat16 and a ``card.json`` with the
command, data version, commit, figures and size. Shipped ones lie in the package,
``m3jax/pretrained/<name>``; exports in ``$M3JAX_MODELS_DIR`` or ``m3jax/models`` below
the user's data directory.
"""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.files import homes
from m3jax.train import cards, checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[1] / "pretrained"
"""Where the shipped models lie."""


def own_root() -> pathlib.Path:
    """Where a user's exports lie."""
    chosen = os.environ.get("M3JAX_MODELS_DIR")
    if chosen:
        return pathlib.Path(chosen).expanduser().absolute()
    return homes.own("data", "models")


def names() -> list[str]:
    """Lists the models that are shipped or exported."""
    found = {p.parent.name for root in _roots() for p in root.glob("*/card.json")}
    return sorted(found)


def shipped() -> list[str]:
    """Lists the models of the package."""
    return sorted(path.parent.name for path in ROOT.glob("*/card.json"))


def find(name: str) -> pathlib.Path:
    """The directory of a model.

    Raises:
      FileNotFoundError: no such name; lists those there are.
    """
    for root in _roots():
        if (root / name / "card.json").is_file() and name in names():
            return root / name
    there = ", ".join(names()) or "none"
    raise FileNotFoundError(f"no pretrained model {name!r}; there are: {there}")


def load(name: str) -> tuple[base.Params, dict[str, Any]]:
    """Loads a model.

    Args:
      name: one of ``names()``.

    Returns:
      The parameters (nested dict of float32 NumPy arrays) and the card.

    Raises:
      FileNotFoundError: no such name; lists those there are.
      ValueError: its files are not those that were written.

    Example:
      ``params, card = pretrained.load("generalist")``
    """
    directory = find(name)
    try:
        card = cards.read_card(directory)
        params = checkpoints.restore_params(directory)
    except (OSError, ValueError) as error:
        mend = "install m3jax again" if directory.parent == ROOT else "export it again"
        raise ValueError(
            f"the pretrained model {name!r} is damaged ({error}); {mend}"
        ) from error
    return _cast_floats(params, np.float32), card


def export(
    name: str,
    params: base.Params,
    card: Mapping[str, Any],
    root: str | os.PathLike[str] | None = None,
) -> pathlib.Path:
    """Saves a model under a name; floating arrays are rounded to bfloat16.

    Args:
      name: letters, digits, "_" and "-"; an older export of this name is replaced.
      params: nested dict of arrays.
      card: JSON values: command, data version, commit, figures.
      root: where to; None for the user's own folder.

    Returns:
      The directory.

    Raises:
      ValueError: the name can't be one, or is that of a shipped model.
    """
    check_name(name, root)
    directory = _root_of(root) / name
    checkpoints.save_params(directory, _cast_floats(params, jnp.bfloat16), card)
    return directory


def as_exported(params: base.Params) -> base.Params:
    """The parameters that `load` gives after an `export` of these: rounded.

    Figures of a card are to be measured on them. At low SNRs the rounding alone turns a
    few answers in a thousand.

    Args:
      params: nested dict of arrays.

    Returns:
      The same tree, floats as float32.
    """
    return _cast_floats(_cast_floats(params, jnp.bfloat16), np.float32)


def check_name(
    name: str, root: str | os.PathLike[str] | None = None, replace: bool = True
) -> None:
    """Raises ValueError if a model can't be exported under this name.

    Args:
      name: of the model.
      root: folder of exports; None for the user's own.
      replace: whether an older export of this name may be replaced.
    """
    if not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError(
            f"--export={name!r} is no name; take letters, digits, '_' and '-'"
        )
    if root is None and (ROOT / name).exists():
        raise ValueError(
            f"--export={name!r} is the name of a shipped model; take another name, or"
            " say where with --export_root"
        )
    folder = _root_of(root) / name
    if folder.is_symlink():
        raise ValueError(
            f"--export={name!r} would be written to where {folder} leads; take another"
            " name, or remove that link"
        )
    if folder.exists() and not replace:
        raise ValueError(
            f"--export={name!r} is there already, in {folder}; take another name, or"
            " give --replace"
        )


def _root_of(root: str | os.PathLike[str] | None) -> pathlib.Path:
    return own_root() if root is None else pathlib.Path(root)


def _roots() -> tuple[pathlib.Path, ...]:
    return ROOT, own_root()


def _cast_floats(params: base.Params, dtype: Any) -> base.Params:
    def cast(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, params)
