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
ENTROPY_RATIO = 0.5
"""Usual target entropy of choices, of the largest there is: of two actions the better
one is then taken 89 times of 100, at a temperature of half of what it is worth more."""


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
      target_entropy: what is usual for this action space, nats; of a state in which
        all actions are valid.
      remembered: ``(reward, info) -> reward`` that the critics learn, scalar.
      streams: names of S rewards that are learned side by side, by critics of their
        own. Rewards are then ``[S]``, values, entropies and temperatures have a first
        axis of S, as have q-values before that of critics; () for one plain reward.
      reachable: ``obs [B] -> [B]``, the largest entropy of the valid actions over that
        of all, from 0 to 1: in each state it takes its share of the target entropy.
        None in place of an array: everything is valid.
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
    reachable: Callable[[Any], base.Array | None] = lambda obs: None


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
        action = jnp.zeros((x.shape[0], dim), jnp.float32)
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
        return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)

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

    Christodoulou 2019, but for the target entropy. Its 0.98 of the largest entropy asks
    for a policy that is all but uniform: a temperature that brings that about is many
    times as large as the differences of values, and its errors are what is learned. See
    `ENTROPY_RATIO`. Masked actions count in no target.
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
        logits = jnp.zeros((features(obs).shape[0], num_actions), jnp.float32)
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

    return Agent(
        *(init, policy, random_action, lambda a: a, q_values, soft_value),
        target_entropy=ENTROPY_RATIO * math.log(num_actions),
        reachable=lambda obs: log_share(action_mask(obs)),
    )


def features(obs: Any) -> base.Array:
    """The part of observations that networks read, ``[B, D]``."""
    return obs["observation"] if isinstance(obs, dict) else obs


def action_mask(obs: Any) -> base.Array | None:
    """The valid actions, bool ``[B, A]``, or None where all are."""
    return obs.get("action_mask") if isinstance(obs, dict) else None


def log_share(mask: base.Array | None) -> base.Array | None:
    """Largest entropy of a choice of one valid action, over that of all.

        log(number of valid actions) / log(number of actions)

    Args:
      mask: bool ``[..., A]``, True for valid actions; None: all are.

    Returns:
      float32 ``[...]``, exactly 1 where all actions are valid and 0 where one is; None
      without a mask.

    Example:
      >>> log_share(jnp.array([[True, True, False, False], [True] * 4])).tolist()
      [0.5, 1.0]
    """
    if mask is None:
        return None
    num_actions = mask.shape[-1]
    count = jnp.maximum(jnp.sum(mask, axis=-1), 1)
    share = jnp.log(count.astype(jnp.float32)) / math.log(max(num_actions, 2))
    return jnp.where(count == num_actions, 1.0, share)


def _check_bounded(space: Any) -> None:
    bounds = (space.low, space.high)
    if any(isinstance(bound, jax.core.Tracer) for bound in bounds):
        return
    if not all(np.isfinite(np.asarray(bound)).all() for bound in bounds):
        raise ValueError(
            f"the action space {space!r} has no finite bounds; give it some"
        )
