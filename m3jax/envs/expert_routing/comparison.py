"""Policies on common random numbers: all of them meet the same tasks and links."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.envs.expert_routing import policies, wireless, world

ActionPolicy = Callable[[base.Array, Any, world.State, world.Params], base.Array]
"""``(key, obs, state, params) -> action``; the state is for oracles."""


def of_members(env: wireless.Wireless, policy: policies.Policy) -> ActionPolicy:
    """Turns a policy of subsets into one of the environment's actions."""

    def act(key, obs, state, params):
        return env.from_subset(policy(key, obs, state, params))

    return act


def play(
    env: wireless.Wireless,
    params: world.Params,
    acts: Mapping[str, ActionPolicy],
    key: base.Array,
    num_steps: int,
) -> dict[str, dict[str, base.Array]]:
    """Plays one environment with each policy, and keeps what it tells.

    Tasks, links, events and reports depend on the key only, not on the actions.

    Args:
      env: the environment.
      params: its parameters.
      acts: name -> what chooses actions.
      key: PRNG key, consumed.
      num_steps: T, from episode to episode.

    Returns:
      Name -> arrays ``[T]``: ``reward``, the scalars of ``info``, and the true ``task``
      and ``snr_db`` ([T, N]) before each step.
    """
    begin_key, steps_key = jax.random.split(key)
    # The key has no axis of policies, so what is random is drawn once for all.
    step = jax.vmap(env.step, in_axes=(None, 0, 0, None))

    def body(carry, key):
        act_key, env_key = jax.random.split(key)
        actions = jnp.stack(
            [
                act(act_key, *jax.tree.map(lambda x, i=i: x[i], carry), params)
                for i, act in enumerate(acts.values())
            ]
        )
        state = carry[1]
        obs, after, reward, _, _, info = step(env_key, state, actions, params)
        info.pop("final_observation")
        truth = {"task": state.task, "snr_db": state.history[:, 0]}
        return (obs, after), {"reward": reward, **truth, **info}

    begun = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (len(acts), *x.shape)),
        env.reset(begin_key, params),
    )
    told = jax.lax.scan(body, begun, jax.random.split(steps_key, num_steps))[1]
    return {
        name: jax.tree.map(lambda x, i=i: x[:, i], told) for i, name in enumerate(acts)
    }


def compare(
    env: wireless.Wireless,
    params: world.Params,
    acts: Mapping[str, ActionPolicy],
    key: base.Array,
    num_envs: int,
    num_steps: int,
) -> dict[str, dict[str, base.Array]]:
    """Plays each policy in the same environments, with the oracle beside it.

    Args:
      env: the environment.
      params: its parameters.
      acts: name -> policy; `reference` gives the usual ones.
      key: PRNG key, consumed.
      num_envs: E.
      num_steps: T.

    Returns:
      Name -> what `play` tells, ``[E, T]``, and ``regret``: what the per-step oracle
      earned more. Against weights that are not equal it may be below 0.
    """
    oracle = of_members(env, policies.make_policies(env)["oracle"])
    acts = {"oracle": oracle, **acts}
    played = jax.vmap(lambda key: play(env, params, acts, key, num_steps))(
        jax.random.split(key, num_envs)
    )
    best = played["oracle"]["reward"]
    return {
        name: {**told, "regret": best - told["reward"]} for name, told in played.items()
    }


def reference(env: wireless.Wireless) -> dict[str, ActionPolicy]:
    """The policies of `policies.make_policies` as actions of the environment."""
    chosen = policies.make_policies(env)
    return {name: of_members(env, policy) for name, policy in chosen.items()}
