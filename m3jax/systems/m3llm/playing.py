"""Policies of M3LLM in its environment, on common random numbers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from m3jax import base
from m3jax.envs.expert_routing import policies
from m3jax.systems.m3llm import ce_sac, routing_env


class Played(NamedTuple):
    """What happened at each step of some episodes; all arrays ``[E, T, ...]``.

    Attributes:
      reward: combined reward.
      info: its parts, and ``switching``.
      weights: [.., N], final weights.
      snr_db: [.., N], true SNRs.
      live: bool [.., N].
      task, example: int32, which example of the bank was asked.
    """

    reward: base.Array
    info: dict[str, base.Array]
    weights: base.Array
    snr_db: base.Array
    live: base.Array
    task: base.Array
    example: base.Array


Act = Callable[..., base.Array]
"""``(actor, key, obs, state, params) -> action``; ``actor`` are its parameters."""
Player = Callable[[Any, routing_env.Params, base.Array], Played]
"""``(actor, params, key) -> what happened``."""


def make_act(config: ce_sac.CeSacConfig, num_experts: int) -> Act:
    """The policy that was trained, without noise, at the last temperature."""
    agent = ce_sac.make_agent(config, num_experts, config.last_temperature)

    def act(actor, key, obs, state, params):
        del key, state, params
        one = jax.tree.map(lambda leaf: leaf[None], obs)
        return agent.policy(actor, one).mode()[0]

    return act


REFERENCES = (
    *("random", "uniform", "semantic_first", "network_first", "greedy_product"),
    "oracle",
)
"""Policies that do not learn, in the order of their numbers."""


def reference(env: routing_env.RoutingEnv) -> Act:
    """The policies of ``envs.policies``, as one whose ``actor`` is their number.

    ``oracle`` is the best of both heads in the true state (``policies.best_heads``).
    So that all of them are compiled once, the number may be traced.
    """
    made = policies.make_policies(env.inner)

    def wrap(name: str):
        if name == "oracle":
            return lambda key, state, params: policies.best_heads(
                env.inner, state.wireless, params.wireless
            )[0]
        return lambda key, state, params: env.inner.from_subset(
            made[name](key, state.seen, state.wireless, params.wireless)
        )

    branches = [wrap(name) for name in REFERENCES]

    def act(actor, key, obs, state, params):
        del obs
        return jax.lax.switch(actor, branches, key, state, params)

    return act


def make_player(
    env: routing_env.RoutingEnv, act: Act, num_envs: int, num_steps: int
) -> Player:
    """Compiles the playing of episodes from their start.

    Tasks, examples, links, events and reports depend on the key only, so all policies
    meet the same at the same key.

    Args:
      env: the environment.
      act: the policy.
      num_envs: E.
      num_steps: T.

    Returns:
      A compiled function.
    """

    def play(actor, params, key):
        begin_key, steps_key = jax.random.split(key)

        def body(carry, key):
            obs, state = carry
            act_key, env_key = jax.random.split(key)
            action = act(actor, act_key, obs, state, params)
            obs, after, reward, _, info = env.step_env(env_key, state, action, params)
            told = Played(
                reward,
                info,
                after.wireless.weights,
                state.wireless.history[0],
                state.wireless.events.live,
                state.wireless.task,
                state.example,
            )
            return (obs, after), told

        begun = env.reset_env(begin_key, params)
        return jax.lax.scan(body, begun, jax.random.split(steps_key, num_steps))[1]

    def all_of(actor, params, key):
        keys = jax.random.split(key, num_envs)
        return jax.vmap(play, in_axes=(None, None, 0))(actor, params, keys)

    return jax.jit(all_of)
