"""Steps of many environments at once, in one compiled program.

An environment has the calls of gymnax 1.0: ``reset(key, params) -> (obs, state)``, and
``step(key, state, action, params) -> (obs, state, reward, terminated, truncated,
info)``, which resets itself at an episode's end and leaves the last observation of the
old episode in ``info["final_observation"]``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base

Act = Callable[[Any, base.Array], tuple[base.Array, base.Array]]
"""``(obs [N], key) -> (actions [N] to remember, actions [N] for the environment)``."""
Remembered = Callable[[base.Array, Any], base.Array]
"""``(reward, info) -> reward`` of one step: what a learner makes of it."""


class Transition(NamedTuple):
    """What is remembered of a step; arrays have leading axes.

    Attributes:
      obs: before the step.
      action: as the policy gave it.
      reward: float32; a vector if several are remembered side by side.
      next_obs: after the step; at an episode's end, the last of the old episode.
      terminated: bool, False where a time limit cut the episode short.
    """

    obs: Any
    action: base.Array
    reward: base.Array
    next_obs: Any
    terminated: base.Array


class Rollout(NamedTuple):
    """Where N environments stand.

    Attributes:
      env_state: the environments' states.
      obs: what they show.
      running_return: float32 [N], undiscounted sum of the episode's rewards so far.
      finished_return: float32 [N], the whole sum of the last finished episode; 0
        before the first.
    """

    env_state: Any
    obs: Any
    running_return: base.Array
    finished_return: base.Array


def start(env: Any, env_params: Any, key: base.Array, num_envs: int) -> Rollout:
    """Resets so many environments."""
    keys = jax.random.split(key, num_envs)
    obs, env_state = jax.vmap(env.reset, in_axes=(0, None))(keys, env_params)
    # Python numbers in a state are of weak type, which the first step would change.
    obs, env_state = jax.tree.map(
        lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), (obs, env_state)
    )
    zeros = jnp.zeros(num_envs, jnp.float32)
    return Rollout(env_state, obs, zeros, zeros)


def collect(
    env: Any,
    env_params: Any,
    act: Act,
    rollout: Rollout,
    key: base.Array,
    length: int,
    remembered: Remembered = lambda reward, info: reward,
) -> tuple[Rollout, Transition]:
    """Takes ``length`` steps of each environment.

    Args:
      env: the environment.
      env_params: its parameters, the same for all.
      act: chooses actions.
      rollout: where the N environments stand.
      key: PRNG key.
      length: number of steps.
      remembered: the reward of a transition, from that of the step and its ``info``.

    Returns:
      Where they stand afterwards, and transitions ``[length * N, ...]``.
    """

    def body(rollout: Rollout, key: base.Array) -> tuple[Rollout, Transition]:
        rollout, transition, _ = _step(env, env_params, act, rollout, key, remembered)
        return rollout, transition

    rollout, transitions = jax.lax.scan(body, rollout, jax.random.split(key, length))
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), transitions)
    return rollout, flat


def evaluate(
    env: Any, env_params: Any, act: Act, key: base.Array, num_envs: int, length: int
) -> base.Array:
    """Undiscounted return of the first episode of each environment.

    Args:
      env: the environment.
      env_params: its parameters, the same for all.
      act: chooses actions.
      key: PRNG key.
      num_envs: how many episodes.
      length: steps after which an episode still alive counts as it stands.

    Returns:
      float32 ``[num_envs]``.
    """
    start_key, steps_key = jax.random.split(key)
    rollout = start(env, env_params, start_key, num_envs)
    nothing = jnp.zeros(num_envs, jnp.float32)
    fresh = (rollout, nothing, jnp.ones(num_envs, bool))

    def body(carry, key):
        rollout, total, alive = carry
        rollout, transition, done = _step(
            env, env_params, act, rollout, key, lambda reward, info: reward
        )
        total += jnp.where(alive, transition.reward, 0.0)
        return (rollout, total, alive & ~done), None

    keys = jax.random.split(steps_key, length)
    (_, total, _), _ = jax.lax.scan(body, fresh, keys)
    return total


def _step(
    env: Any,
    env_params: Any,
    act: Act,
    rollout: Rollout,
    key: base.Array,
    remembered: Remembered,
) -> tuple[Rollout, Transition, base.Array]:
    act_key, env_key = jax.random.split(key)
    action, env_action = act(rollout.obs, act_key)
    keys = jax.random.split(env_key, rollout.running_return.shape[0])
    obs, env_state, reward, terminated, truncated, info = jax.vmap(
        env.step, in_axes=(0, 0, 0, None)
    )(keys, rollout.env_state, env_action, env_params)
    reward = reward.astype(jnp.float32)
    done = terminated | truncated
    total = rollout.running_return + reward
    transition = Transition(
        rollout.obs,
        action,
        jax.vmap(remembered)(reward, info).astype(jnp.float32),
        info["final_observation"],
        terminated,
    )
    finished = jnp.where(done, total, rollout.finished_return)
    running = jnp.where(done, 0.0, total)
    return Rollout(env_state, obs, running, finished), transition, done
