"""Parts of a pytree named by path: ``encoder/block_0/kernel``.

Freezing, partial restore and summaries act on paths, so that networks need not know
about them.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax


def path_string(key_path: tuple[Any, ...]) -> str:
    """Joins a JAX key path by '/': dict keys, attribute names and indices alike."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def flatten(tree: Any) -> dict[str, Any]:
    """Maps the path of each leaf to the leaf.

    Example:
      >>> flatten({"encoder": {"bias": 1.0}, "scale": 2.0})
      {'encoder/bias': 1.0, 'scale': 2.0}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_string(path): leaf for path, leaf in leaves}


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts from paths; undoes `flatten` of those.

    Example:
      >>> unflatten({"encoder/bias": 1.0, "scale": 2.0})
      {'encoder': {'bias': 1.0}, 'scale': 2.0}
    """
    out: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        tree = out
        for parent in parents:
            tree = tree.setdefault(parent, {})
        tree[name] = leaf
    return out


def mask(tree: Any, pattern: str) -> Any:
    """Marks the leaves whose whole path matches a regular expression.

    Args:
      tree: a pytree.
      pattern: regular expression, matched against the whole '/'-joined path.

    Returns:
      A pytree of the same structure holding Python booleans.

    Raises:
      ValueError: the pattern is not a regular expression or matches no leaf.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"path pattern {pattern!r} is not a regular expression: {error}"
        ) from error
    marked = jax.tree_util.tree_map_with_path(
        lambda path, _: compiled.fullmatch(path_string(path)) is not None, tree
    )
    if not any(jax.tree.leaves(marked)):
        heads = sorted({path.split("/")[0] for path in flatten(tree)})
        raise ValueError(
            f"path pattern {pattern!r} matches no parameter; the whole path must match,"
            f" as in '{heads[0] if heads else 'encoder'}/.*'; top-level paths: "
            + ", ".join(heads)
        )
    return marked


def expand(pattern: str, parts: Mapping[str, str]) -> str:
    """Puts patterns for the names of parts that are joined by '|'.

    Args:
      pattern: such as "transceiver|lora"; with brackets it is taken as it is.
      parts: name -> regular expression for whole paths.

    Returns:
      A regular expression for whole paths.

    Example:
      >>> expand("lora|head/bias", {"lora": "lora/.*"})
      'lora/.*|head/bias'
    """
    if "(" in pattern:
        return pattern
    return "|".join(parts.get(name, name) for name in pattern.split("|"))


def select(tree: Any, keep: Any) -> Any:
    """Keeps the marked leaves and puts None (an empty subtree) for the others."""
    return jax.tree.map(lambda leaf, kept: leaf if kept else None, tree, keep)


def merge(first: Any, second: Any) -> Any:
    """Fills the None places of ``first`` from ``second``; undoes ``select``.

    Example:
      >>> keep = mask({"a": 1, "b": 2}, "a")
      >>> merge({"a": 10, "b": None}, {"a": 1, "b": 2})
      {'a': 10, 'b': 2}
    """
    return jax.tree.map(
        lambda a, b: b if a is None else a, first, second, is_leaf=lambda x: x is None
    )


def overlay(tree: Any, partial: Mapping[str, Any]) -> Any:
    """Puts the leaves of a smaller tree over those of a larger one, by path.

    Args:
      tree: the full pytree, such as freshly drawn parameters.
      partial: a nested mapping whose paths all exist in ``tree``, such as pretrained
        parameters of one encoder.

    Returns:
      A pytree like ``tree``; replaced leaves keep the dtype they had in ``tree``.

    Raises:
      ValueError: a path of ``partial`` is not in ``tree`` or has another shape.
    """
    given, known = flatten(partial), flatten(tree)
    for path, leaf in given.items():
        if path not in known:
            raise ValueError(f"{path!r} is not a path of the tree it should go into")
        if leaf.shape != known[path].shape:
            raise ValueError(
                f"{path!r} has shape {tuple(leaf.shape)} but the tree it should go into"
                f" wants {tuple(known[path].shape)}"
            )
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: given.get(path_string(path), leaf).astype(leaf.dtype), tree
    )
