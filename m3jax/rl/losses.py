"""The losses of soft actor-critic, as pure functions.

Both kinds of agents share them, since all that differs is the soft value of a state
(Haarnoja et al. 2018b, eq. 3; Christodoulou 2019, eq. 10):

    V(s) = E_{a ~ pi}[min_j Q_j(s, a) - alpha log pi(a | s)]

The critics' target bootstraps with V of the target critics, and the actor ascends V of
the critics themselves.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.rl import agents, rollouts


def td_target(
    reward: base.Array,
    terminated: base.Array,
    discount: base.Array,
    next_value: base.Array,
) -> base.Array:
    """What a state-action pair is worth: ``r + gamma (1 - terminated) V(s')``.

    An episode that is cut short by a time limit goes on as far as its value is
    concerned (Pardo et al. 2018), so only termination stops the bootstrap.

    Args:
      reward: ``[*S, B]``.
      terminated: bool ``[B]``.
      discount: gamma, scalar.
      next_value: ``[*S, B]``, of the state that the action led to.

    Returns:
      ``[*S, B]``.

    Example:
      >>> td_target(jnp.ones(2), jnp.array([True, False]), 0.5, 4.0)
      Array([1., 3.], dtype=float32)
    """
    return reward + discount * jnp.where(terminated, 0.0, next_value)


def critic_loss(q: base.Array, target: base.Array) -> base.Array:
    """Half the squared error, the mean over the batch and the sum over critics.

    Haarnoja et al. 2018b, eq. 5.

    Args:
      q: ``[*S, C, B]``, one row for each critic.
      target: ``[*S, B]``; no gradient flows into it.
    """
    error = q - jax.lax.stop_gradient(target)[..., None, :]
    return 0.5 * jnp.sum(jnp.mean(error**2, axis=-1))


def temperature_loss(
    log_alpha: base.Array,
    entropy: base.Array,
    target_entropy: base.Array,
    reachable: base.Array | None = None,
) -> base.Array:
    """Raises alpha while the entropy is below its target, and lowers it above.

        J = alpha mean_s (H(s) - c(s) H_target)

    Haarnoja et al. 2018b, eq. 18, where c is 1. With masked actions the largest entropy
    differs from state to state; a target above it would raise alpha for ever.

    Args:
      log_alpha: natural logarithm of the temperature, ``[*S]``.
      entropy: ``[*S, B]``, nats; no gradient flows into it.
      target_entropy: nats, ``[*S]``, of a state in which all actions are valid.
      reachable: c, ``[B]``: the largest entropy of the valid actions over that of all;
        None: 1 throughout.

    Returns:
      Scalar, the sum over streams.
    """
    if reachable is not None:
        target_entropy = target_entropy * jnp.mean(reachable)
    excess = jnp.mean(jax.lax.stop_gradient(entropy), axis=-1) - target_entropy
    return jnp.sum(jnp.exp(log_alpha) * excess)


def sac_losses(
    agent: agents.Agent,
    params: base.Params,
    log_alpha: base.Array,
    target_critic: base.Params,
    batch: rollouts.Transition,
    discount: base.Array,
    target_entropy: base.Array,
    key: base.Array,
) -> tuple[dict[str, base.Array], base.Metrics]:
    """The three losses of one batch; each has its own parameters and sees no other's.

    Args:
      agent: the networks; with S streams, ``[*S]`` below is an axis of S, else nothing.
      params: ``{"actor": ..., "critic": ...}``.
      log_alpha: natural logarithm of the temperature, ``[*S]``.
      target_critic: slow copy of the critics.
      batch: transitions ``[B]``.
      discount: gamma, scalar.
      target_entropy: nats, ``[*S]``, of a state in which all actions are valid.
      key: PRNG key.

    Returns:
      The losses ``critic_loss``, ``actor_loss`` ``[*S]`` and ``temperature_loss``, and
      metrics.
    """
    target_key, actor_key = jax.random.split(key)
    actor, critic = params["actor"], params["critic"]
    still = jax.lax.stop_gradient
    alpha = jnp.exp(still(log_alpha))
    next_value, _ = agent.soft_value(
        still(actor), target_critic, batch.next_obs, alpha, target_key
    )
    reward = jnp.moveaxis(batch.reward, 0, -1)
    target = td_target(reward, batch.terminated, discount, next_value)
    q = agent.q_values(critic, batch.obs, batch.action)
    value, entropy = agent.soft_value(actor, still(critic), batch.obs, alpha, actor_key)
    parts = {
        "critic_loss": critic_loss(q, target),
        "actor_loss": -jnp.mean(value, axis=-1),
        "temperature_loss": temperature_loss(
            log_alpha, entropy, target_entropy, agent.reachable(batch.obs)
        ),
    }
    means = {
        "q": jnp.mean(q, axis=(-2, -1)),
        "entropy": jnp.mean(entropy, axis=-1),
        "alpha": alpha,
    }
    return parts, by_stream({**parts, **means}, agent.streams)


def sac_loss(
    agent: agents.Agent, *args: Any, **kwargs: Any
) -> tuple[base.Array, base.Metrics]:
    """The sum of `sac_losses`, whose arguments it takes, and metrics."""
    parts, metrics = sac_losses(agent, *args, **kwargs)
    return sum(map(jnp.sum, parts.values())), metrics


def by_stream(
    values: Mapping[str, base.Array], streams: tuple[str, ...]
) -> base.Metrics:
    """Scalars as they are, and those of each stream as ``name/stream``.

    Example:
      >>> by_stream({"a": jnp.float32(1), "b": jnp.array([2, 3])}, ("x", "y")).keys()
      dict_keys(['a', 'b/x', 'b/y'])
    """
    out = {}
    for name, value in values.items():
        if jnp.ndim(value) == 0:
            out[name] = value
        else:
            out |= {f"{name}/{stream}": value[i] for i, stream in enumerate(streams)}
    return out
