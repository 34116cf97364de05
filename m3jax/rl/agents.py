"""Actors and critics for the two kinds of action spaces, behind one interface.

An observation is an array ``[D]``, or a mapping of ``"observation"``: [D] and
``"action_mask"``: bool [A]. Actions are kept as the policy gives them, in [-1, 1] for
continuous ones; ``env_action`` turns them into the environment's.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.rl import networks, policies

LOG_STD_RANGE = (-10.0, 2.0)


class Agent(NamedTuple):
    """Networks as pure functions on batches.

    Attributes:
      init: ``(key, obs [B]) -> {"actor": ..., "critic": ...}``.
      policy: ``(actor, obs [B]) -> distribution of actions [B]``.
      random_action: ``(key, obs [B]) -> actions [B]``, uniform over the valid ones.
      env_action: ``actions [B] -> actions`` of the environment.
      q_values: ``(critic, obs [B], actions [B]) -> [C, B]``, one row for each critic.
      soft_value: ``(actor, critic, obs [B], alpha, key) -> (values [B], entropies
        [B])``, both in expectation over the policy or by one sample of it.
      target_entropy: what is usual for this action space, nats.
      remembered: ``(reward, info) -> reward`` that the critics learn, scalar.
      streams: names of S rewards that are learned side by side, by critics of their
        own. Rewards are then ``[S]``, values, entropies and temperatures have a first
        axis of S, as have q-values before that of critics; () for one plain reward.
    """

    init: Callable[[base.Array, Any], base.Params]
    policy: Callable[[base.Params, Any], distrax.Distribution]
    random_action: Callable[[base.Array, Any], base.Array]
    env_action: Callable[[base.Array], base.Array]
    q_values: Callable[[base.Params, Any, base.Array], base.Array]
    soft_value: Callable[..., tuple[base.Array, base.Array]]
    target_entropy: float | tuple[float, ...]
    remembered: Callable[[base.Array, Any], base.Array] = lambda reward, info: reward
    streams: tuple[str, ...] = ()


def make_agent(space: Any, hidden: tuple[int, ...], num_critics: int) -> Agent:
    """Makes the agent for an action space.

    Args:
      space: with ``n`` (a choice of one) or with ``low``, ``high`` and ``shape`` (a
        box), as gymnax's spaces have.
      hidden: widths of the hidden layers of actor and critics.
      num_critics: how many critics; the smallest value counts.

    Raises:
      ValueError: the space is neither, or a box is not bounded.
    """
    if hasattr(space, "n"):
        return make_discrete(space.n, hidden, num_critics)
    if hasattr(space, "low") and hasattr(space, "high"):
        return make_continuous(space, hidden, num_critics)
    raise ValueError(
        f"actions must come from a discrete space or a box, got {space!r}; wrap the"
        " environment"
    )


def make_continuous(space: Any, hidden: tuple[int, ...], num_critics: int) -> Agent:
    """A squashed Gaussian; critics read the action; values are by one sample."""
    _check_bounded(space)
    dim = math.prod(space.shape)
    actor_net = networks.Mlp(hidden, 2 * dim)
    critic_net = networks.make_critics(hidden, 1, num_critics)

    def init(key: base.Array, obs: Any) -> base.Params:
        actor_key, critic_key = jax.random.split(key)
        x = features(obs)
        action = jnp.zeros((x.shape[0], dim))
        return {
            "actor": actor_net.init(actor_key, x)["params"],
            "critic": critic_net.init(critic_key, x, action)["params"],
        }

    def policy(actor: base.Params, obs: Any) -> policies.TanhGaussian:
        out = actor_net.apply({"params": actor}, features(obs))
        mean, log_std = jnp.split(out, 2, axis=-1)
        return policies.TanhGaussian(mean, jnp.clip(log_std, *LOG_STD_RANGE))

    def random_action(key: base.Array, obs: Any) -> base.Array:
        shape = (features(obs).shape[0], dim)
        return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)

    def env_action(action: base.Array) -> base.Array:
        action = action.reshape(-1, *space.shape)
        return space.low + (space.high - space.low) * (action + 1) / 2

    def q_values(critic: base.Params, obs: Any, action: base.Array) -> base.Array:
        return critic_net.apply({"params": critic}, features(obs), action)[..., 0]

    def soft_value(
        actor: base.Params, critic: base.Params, obs: Any, alpha: Any, key: base.Array
    ) -> tuple[base.Array, base.Array]:
        action, log_prob = policy(actor, obs).sample_and_log_prob(seed=key)
        q = jnp.min(q_values(critic, obs, action), axis=0)
        return q - alpha * log_prob, -log_prob

    return Agent(
        init, policy, random_action, env_action, q_values, soft_value, -float(dim)
    )


def make_discrete(num_actions: int, hidden: tuple[int, ...], num_critics: int) -> Agent:
    """A categorical; critics value every action; values are exact expectations.

    Christodoulou 2019, with its target of 0.98 times the largest entropy.
    """
    actor_net = networks.Mlp(hidden, num_actions)
    critic_net = networks.make_critics(hidden, num_actions, num_critics)

    def init(key: base.Array, obs: Any) -> base.Params:
        actor_key, critic_key = jax.random.split(key)
        return {
            "actor": actor_net.init(actor_key, features(obs))["params"],
            "critic": critic_net.init(critic_key, features(obs))["params"],
        }

    def policy(actor: base.Params, obs: Any) -> distrax.Categorical:
        logits = actor_net.apply({"params": actor}, features(obs))
        return policies.categorical(logits, action_mask(obs))

    def random_action(key: base.Array, obs: Any) -> base.Array:
        logits = jnp.zeros((features(obs).shape[0], num_actions))
        return policies.categorical(logits, action_mask(obs)).sample(seed=key)

    def q_values(critic: base.Params, obs: Any, action: base.Array) -> base.Array:
        q = critic_net.apply({"params": critic}, features(obs))
        return jnp.take_along_axis(q, action[None, :, None], axis=-1)[..., 0]

    def soft_value(
        actor: base.Params, critic: base.Params, obs: Any, alpha: Any, key: base.Array
    ) -> tuple[base.Array, base.Array]:
        del key  # The expectation is exact.
        choice = policy(actor, obs)
        q = jnp.min(critic_net.apply({"params": critic}, features(obs)), axis=0)
        entropy = choice.entropy()
        return jnp.sum(choice.probs * q, axis=-1) + alpha * entropy, entropy

    target = 0.98 * math.log(num_actions)
    return Agent(init, policy, random_action, lambda a: a, q_values, soft_value, target)


def features(obs: Any) -> base.Array:
    """The part of observations that networks read, ``[B, D]``."""
    return obs["observation"] if isinstance(obs, dict) else obs


def action_mask(obs: Any) -> base.Array | None:
    """The valid actions, bool ``[B, A]``, or None where all are."""
    return obs.get("action_mask") if isinstance(obs, dict) else None


def _check_bounded(space: Any) -> None:
    bounds = (space.low, space.high)
    if any(isinstance(bound, jax.core.Tracer) for bound in bounds):
        return
    if not all(np.isfinite(np.asarray(bound)).all() for bound in bounds):
        raise ValueError(
            f"the action space {space!r} has no finite bounds; give it some"
        )
