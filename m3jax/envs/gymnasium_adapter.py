"""Environments with the calls of Gymnasium, for trainers that are not written in JAX.

A step is one compiled program, and what comes out is NumPy. The environment within
needs the calls of gymnax 1.0 only, so those of gymnax fit as well. The form of many
environments at once is in `gymnasium_vector`.
"""

import functools
from collections.abc import Mapping
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import error

from m3jax import base
from m3jax.envs import gymnasium_spaces

_OPTIONS = frozenset({"params"})


class GymnasiumEnv(gymnasium.Env):
    """One environment. The last step of an episode shows its last observation.

    A `reset` without a seed goes on with the numbers of the one before, so one seed
    fixes all that follows. ``reset(options={"params": ...})`` changes the parameters,
    without a new compilation if only values differ.

    Attributes:
      env: the environment within.
      params: its parameters.
      state: where it stands, on the device; that of the next episode when one is over.

    Args:
      env: with the calls of gymnax 1.0, and hashable.
      params: parameters; None for the default ones.

    Raises:
      ValueError: Gymnasium has no form of a space.

    Example:
      >>> from m3jax.envs.expert_routing import wireless
      >>> env = GymnasiumEnv(wireless.Wireless(actions="subset"))
      >>> env.observation_space.shape, env.action_space
      ((30,), Discrete(127))
    """

    def __init__(self, env: Any, params: Any = None):
        params = env.default_params if params is None else params
        self.env, self.params, self.state = env, on_device(params), None
        self.metadata = {"render_modes": []}
        self.observation_space, self.action_space = (
            gymnasium_spaces.to_gymnasium(space(params))
            for space in (env.observation_space, env.action_space)
        )
        self._words = self._next_obs = None
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; returns ``(obs, {})``.

        Raises:
          ValueError: an option is not known, or parameters have other shapes.
        """
        super().reset(seed=seed)
        params = from_options(options, self.params)
        if seed is not None or self._words is None:
            self._words, self._next_obs = draw_words(self.np_random), None
        # The step that ended an episode has begun the next one already.
        if self._next_obs is None or params is not self.params:
            self._words, self.state, self._next_obs = begin(
                self.env, self._words, params
            )
        obs, self._next_obs = self._next_obs, None
        self.params, self._over = params, False
        return gymnasium_spaces.to_observation(obs, self.observation_space), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes a step; returns ``(obs, reward, terminated, truncated, info)``.

        Raises:
          gymnasium.error.ResetNeeded: no episode has begun, or it is over.
          gymnasium.error.InvalidAction: the action is not in the action space.
        """
        if self._over:
            raise error.ResetNeeded("no episode is running: call reset() first")
        action = gymnasium_spaces.to_action(action, self.action_space)
        self._words, self.state, next_obs, told = step(
            self.env, self._words, self.state, action, self.params
        )
        final, reward, terminated, truncated, info = jax.device_get(told)
        self._over = bool(terminated or truncated)
        self._next_obs = next_obs if self._over else None
        obs = gymnasium_spaces.to_observation(final, self.observation_space)
        info = jax.tree.map(lambda x: np.array(x) if np.ndim(x) else x.item(), info)
        return obs, float(reward), bool(terminated), bool(truncated), info


def draw_words(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random keys as uint32 ``[*shape, 2]``: what NumPy draws and a program takes."""
    return rng.integers(2**32, size=(*shape, 2), dtype=np.uint32)


def on_device(params: Any) -> Any:
    """Parameters as arrays, so that a step has nothing to bring there."""
    return jax.tree.map(jnp.asarray, params)


def from_options(options: Mapping[str, Any] | None, params: Any) -> Any:
    """The parameters in the options of a reset, or else the present ones.

    Raises:
      ValueError: an option is not known, or parameters have other shapes.
    """
    options = options or {}
    if unknown := set(options) - _OPTIONS:
        raise ValueError(
            f"reset knows the options {sorted(_OPTIONS)}, not {sorted(unknown)}"
        )
    if "params" not in options:
        return params
    new = on_device(options["params"])
    kinds = [
        (jax.tree.structure(tree), [x.shape for x in jax.tree.leaves(tree)])
        for tree in (params, new)
    ]
    if kinds[0] != kinds[1]:
        raise ValueError(
            "new params must have the structure and the shapes of the old ones; make"
            " another environment for other sizes"
        )
    return new


@functools.partial(jax.jit, static_argnums=0)
def begin(env: Any, words: base.Array, params: Any) -> tuple[base.Array, Any, Any]:
    """Begins an episode.

    Args:
      env: the environment.
      words: of a random key, uint32 ``[2]``, consumed.
      params: parameters.

    Returns:
      ``(words, state, obs)``.
    """
    words, key = _split(words)
    obs, state = env.reset(key, params)
    return words, _strong(state), obs


@functools.partial(jax.jit, static_argnums=0)
def step(
    env: Any, words: base.Array, state: Any, action: base.Array, params: Any
) -> tuple[base.Array, Any, Any, tuple]:
    """Takes a step.

    Args:
      env: the environment.
      words: of a random key, uint32 ``[2]``, consumed.
      state: before the step.
      action: in the environment's action space.
      params: parameters.

    Returns:
      ``(words, state, obs, told)``; state and observation are the next episode's if one
      is over. ``told``: final observation, reward, terminated, truncated, info.
    """
    words, key = _split(words)
    obs, state, reward, terminated, truncated, info = env.step(
        key, state, action, params
    )
    final = info["final_observation"]
    apart = ("final_observation", "terminated", "truncated")
    info = {name: value for name, value in info.items() if name not in apart}
    return words, _strong(state), obs, (final, reward, terminated, truncated, info)


def _split(words: base.Array) -> tuple[base.Array, base.Array]:
    """The words to keep, and a key to use up."""
    key, used = jax.random.split(jax.random.wrap_key_data(words, impl="threefry2x32"))
    return jax.random.key_data(key), used


def _strong(tree: Any) -> Any:
    """Without weak types, which a step would lose: that is a second trace."""
    arrays = jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), arrays)
