"""Many environments at once with the calls of Gymnasium, in one compiled program."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import error, spaces, vector
from gymnasium.utils import seeding
from gymnasium.vector import utils

from m3jax import base
from m3jax.envs import gymnasium_adapter, gymnasium_spaces


class GymnasiumVectorEnv(vector.VectorEnv):
    """Environments that step together.

    One that is over begins anew by itself, in one of Gymnasium's two ways:

    - ``SAME_STEP``, in the same step: ``obs`` is the first observation of its next
      episode, and ``final_obs`` and ``final_info`` in the infos are the last of the old
      one. No step is lost.
    - ``NEXT_STEP``, in the next one: ``obs`` is the last observation of the old
      episode. The next step ignores the action, and brings the first observation of the
      new episode, a reward of 0 and no info. It is Gymnasium's own default, and some
      of its wrappers, such as ``NormalizeObservation``, ask for it.

    With seeds s, s + 1, ... they do what so many `gymnasium_adapter.GymnasiumEnv` do in
    a `gymnasium.vector.SyncVectorEnv` of the same mode, and meet the same episodes in
    both modes.

    Attributes:
      env: the environment within.
      params: its parameters, the same for all.
      state: where they stand, on the device, arrays ``[num_envs, ...]``.

    Args:
      env: with the calls of gymnax 1.0, and hashable.
      num_envs: how many, at least 1.
      params: parameters; None for the default ones.
      autoreset_mode: when an episode that is over is followed by the next, an
        ``AutoresetMode`` or its value: SAME_STEP or NEXT_STEP.

    Raises:
      ValueError: there is no environment, the mode is another one, or Gymnasium has no
        form of a space.

    Example:
      >>> from m3jax.envs.expert_routing import wireless
      >>> envs = GymnasiumVectorEnv(wireless.Wireless(), num_envs=2)
      >>> envs.observation_space.shape, envs.action_space.shape
      ((2, 30), (2, 7))
    """

    def __init__(
        self,
        env: Any,
        num_envs: int,
        params: Any = None,
        autoreset_mode: vector.AutoresetMode | str = vector.AutoresetMode.NEXT_STEP,
    ):
        mode = _mode(autoreset_mode)
        if num_envs < 1:
            raise ValueError(f"num_envs must be 1 or more, got {num_envs}")
        params = env.default_params if params is None else params
        self.env, self.num_envs, self.state = env, num_envs, None
        self.params = gymnasium_adapter.on_device(params)
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self.single_observation_space, self.single_action_space = (
            gymnasium_spaces.to_gymnasium(space(params))
            for space in (env.observation_space, env.action_space)
        )
        self.observation_space, self.action_space = (
            utils.batch_space(space, num_envs)
            for space in (self.single_observation_space, self.single_action_space)
        )
        self._words = None
        # Those whose next episode has begun and was not shown, and what it begins with.
        self._over, self._first = np.zeros(num_envs, bool), None
        self._waits = mode is vector.AutoresetMode.NEXT_STEP

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in all; returns ``(obs, {})``.

        Args:
          seed: s for s, s + 1, ...; or one for each environment, None to go on with
            its numbers.
          options: ``{"params": ...}`` for new parameters.

        Raises:
          ValueError: there are not as many seeds as environments, an option is not
            known, or parameters have other shapes.
        """
        seeds = self._seeds(seed)
        super().reset(seed=seeds[0])
        params = gymnasium_adapter.from_options(options, self.params)
        words = self._words
        if words is None:
            words = gymnasium_adapter.draw_words(self.np_random, self.num_envs)
        words = np.array(words)
        for i, one in enumerate(seeds):
            if one is not None:
                words[i] = gymnasium_adapter.draw_words(seeding.np_random(one)[0])
        begun = _begin_all(self.env, words, params)
        stays = self._over & [one is None for one in seeds]
        if stays.any() and params is self.params:
            begun = _choose(stays, (self._words, self.state, self._first), begun)
        self._words, self.state, obs = begun
        self.params, self._first = params, obs
        self._over = np.zeros(self.num_envs, bool)
        return gymnasium_spaces.to_observation(obs, self.observation_space), {}

    def step(
        self, actions: Any
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes a step; ``(obs, rewards, terminations, truncations, infos)``.

        Raises:
          gymnasium.error.ResetNeeded: `reset` has never been called.
          gymnasium.error.InvalidAction: an action is not in the action space.
        """
        if self.state is None:
            raise error.ResetNeeded("no episode is running: call reset() first")
        actions = gymnasium_spaces.to_actions(
            actions, self.action_space, self.single_action_space
        )
        carry = self._words, self.state
        begun = self._over
        if self._waits:
            carry, self._first, told = _step_others(
                self.env, carry, actions, self.params, begun, self._first
            )
        else:
            carry, self._first, told = _step_all(self.env, carry, actions, self.params)
        self._words, self.state = carry
        final, rewards, terminated, truncated, info = jax.device_get(told)
        over = np.logical_or(terminated, truncated)
        if self._waits:
            self._over = over
            obs, infos = final, {} if begun.all() else _infos(info, ~begun)
        else:
            obs, infos = self._first, {} if over.all() else _infos(info, ~over)
            if over.any():
                infos |= _last(final, info, over, self.observation_space)
        obs = gymnasium_spaces.to_observation(obs, self.observation_space)
        rewards = np.array(rewards, np.float64)
        return obs, rewards, np.array(terminated), np.array(truncated), infos

    def _seeds(self, seed: Any) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(
                f"{len(seed)} seeds for {self.num_envs} environments; give one number,"
                " or one for each"
            )
        return [None if one is None else int(one) for one in seed]


@functools.partial(jax.jit, static_argnums=0)
def _begin_all(env: Any, words: base.Array, params: Any) -> tuple:
    return jax.vmap(lambda words: gymnasium_adapter.begin(env, words, params))(words)


@functools.partial(jax.jit, static_argnums=0)
def _step_all(env: Any, carry: tuple, actions: base.Array, params: Any) -> tuple:
    """``(carry, first observations of what comes, told)``, carry is words and state."""

    def one(carry, action):
        *carry, first, told = gymnasium_adapter.step(env, *carry, action, params)
        return tuple(carry), first, told

    return jax.vmap(one)(carry, actions)


@functools.partial(jax.jit, static_argnums=0)
def _step_others(
    env: Any,
    carry: tuple,
    actions: base.Array,
    params: Any,
    begun: base.Array,
    first: Any,
) -> tuple:
    """As `_step_all`, but those that have ``begun`` stay and show their first."""
    after, next_first, told = _step_all(env, carry, actions, params)
    final, *rest = told
    nothing = jax.tree.map(jnp.zeros_like, tuple(rest))
    stayed = carry, first, (first, *nothing)
    return _choose(begun, stayed, (after, next_first, told))


@jax.jit
def _choose(stays: base.Array, old: Any, new: Any) -> Any:
    """The old of those that stay, the new of the others."""
    return jax.vmap(
        lambda one, *pair: jax.tree.map(lambda a, b: jnp.where(one, a, b), *pair)
    )(stays, old, new)


def _mode(given: Any) -> vector.AutoresetMode:
    known = (vector.AutoresetMode.SAME_STEP, vector.AutoresetMode.NEXT_STEP)
    for mode in known:
        if given in (mode, mode.value):
            return mode
    raise ValueError(
        f"autoreset_mode must be one of {[str(mode) for mode in known]}, got {given!r}"
    )


def _last(
    final: Any, info: Mapping[str, Any], over: np.ndarray, space: spaces.Space
) -> dict[str, Any]:
    """What Gymnasium adds to the infos of a step that ended episodes."""
    final = gymnasium_spaces.to_observation(final, space)
    each = np.full(over.shape, None, object)
    for i in np.flatnonzero(over):
        each[i] = jax.tree.map(lambda x, i=i: x[i], final)
    return {
        "final_obs": each,
        "_final_obs": over.copy(),
        "final_info": _infos(info, over),
        "_final_info": over.copy(),
    }


def _infos(info: Mapping[str, Any], of: np.ndarray) -> dict[str, Any]:
    """What some environments tell, 0 for the others; a mask beside each value."""
    told = {}
    for name, value in info.items():
        if isinstance(value, Mapping):
            told[name] = _infos(value, of)
        else:
            told[name] = np.zeros_like(value)
            told[name][of] = value[of]
        told[f"_{name}"] = of.copy()
    return told
