"""Spaces, actions and observations as Gymnasium has them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import error, spaces


def to_gymnasium(space: Any) -> spaces.Space:
    """Turns a space of an environment into Gymnasium's.

    A choice becomes `Discrete`; a box `Box`, or `MultiBinary` if it is of booleans; a
    mapping `Dict`.

    Args:
      space: of `m3jax.envs.spaces` or of gymnax.

    Returns:
      The same space.

    Raises:
      ValueError: the space is none of these.

    Example:
      >>> from m3jax.envs import spaces as ours
      >>> to_gymnasium({"action_mask": ours.Binary((7,)), "task": ours.Discrete(3)})
      Dict('action_mask': MultiBinary((7,)), 'task': Discrete(3))
    """
    inner = getattr(space, "spaces", space)
    if isinstance(inner, Mapping):
        return spaces.Dict({name: to_gymnasium(part) for name, part in inner.items()})
    if hasattr(space, "n"):
        return spaces.Discrete(int(space.n))
    if hasattr(space, "shape") and np.dtype(space.dtype) == bool:
        return spaces.MultiBinary(space.shape)
    if hasattr(space, "low") and hasattr(space, "high"):
        dtype = np.dtype(space.dtype)
        low, high = (
            np.full(space.shape, end, dtype) for end in (space.low, space.high)
        )
        return spaces.Box(low, high, dtype=dtype.type)
    raise ValueError(
        f"Gymnasium's form of {space!r} is not known; use a choice of n, a box with low"
        " and high, or a mapping of those"
    )


def to_action(action: Any, space: spaces.Space, what: str = "the action") -> np.ndarray:
    """Checks an action, and gives it the type of its space.

    Numbers for a box are rounded to its type first; nothing is clipped.

    Args:
      action: a number, an array, or lists of numbers.
      space: a `Discrete` or a `Box`.
      what: its name in the message.

    Returns:
      The action.

    Raises:
      gymnasium.error.InvalidAction: it is not in the space.
    """
    given = np.asarray(action)
    if isinstance(space, spaces.Box) and np.issubdtype(given.dtype, np.number):
        given = given.astype(space.dtype)
    if not space.contains(given):
        raise error.InvalidAction(
            f"{what} must be in {space}, got {given.tolist()!r} of shape {given.shape}"
        )
    return given.astype(space.dtype)


def to_actions(
    actions: Any, space: spaces.Space, single_space: spaces.Space
) -> np.ndarray:
    """Checks the actions of many environments; the first wrong one is named.

    Args:
      actions: arrays or lists, one for each environment.
      space: of all actions together.
      single_space: of one action.

    Returns:
      The actions, of the type of the space.

    Raises:
      gymnasium.error.InvalidAction: there are not as many as environments, or one is
        not in its space.
    """
    given = np.asarray(actions)
    if given.shape != space.shape:
        raise error.InvalidAction(
            f"actions must have shape {space.shape}, one for each environment, got"
            f" {given.shape}"
        )
    try:
        return to_action(given, space)
    except error.InvalidAction:
        for i, action in enumerate(given):
            to_action(action, single_space, f"the action of environment {i}")
        raise


def to_observation(obs: Any, space: spaces.Space) -> Any:
    """An observation as the space has it: arrays of its type that may be written."""
    if isinstance(space, spaces.Dict):
        return {name: to_observation(obs[name], part) for name, part in space.items()}
    return np.array(obs, space.dtype)
