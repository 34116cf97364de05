"""The losses of soft actor-critic, as pure functions.

Both kinds of agents share them, since all that differs is the soft value of a state
(Haarnoja et al. 2018b, eq. 3; Christodoulou 2019, eq. 10):

    V(s) = E_{a ~ pi}[min_j Q_j(s, a) - alpha log pi(a | s)]

The critics' target bootstraps with V of the target critics, and the actor ascends V of
the critics themselves.
"""

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
      reward: ``[B]``.
      terminated: bool ``[B]``.
      discount: gamma, scalar.
      next_value: ``[B]``, of the state that the action led to.

    Returns:
      ``[B]``.

    Example:
      >>> td_target(jnp.ones(2), jnp.array([True, False]), 0.5, 4.0)
      Array([1., 3.], dtype=float32)
    """
    return reward + discount * jnp.where(terminated, 0.0, next_value)


def critic_loss(q: base.Array, target: base.Array) -> base.Array:
    """Half the squared error, the mean over the batch and the sum over critics.

    Haarnoja et al. 2018b, eq. 5.

    Args:
      q: ``[C, B]``, one row for each critic.
      target: ``[B]``; no gradient flows into it.
    """
    error = q - jax.lax.stop_gradient(target)
    return 0.5 * jnp.sum(jnp.mean(error**2, axis=-1))


def temperature_loss(
    log_alpha: base.Array, entropy: base.Array, target_entropy: base.Array
) -> base.Array:
    """Raises alpha while the entropy is below its target, and lowers it above.

        J = alpha (mean H - H_target)

    Haarnoja et al. 2018b, eq. 18.

    Args:
      log_alpha: natural logarithm of the temperature, scalar.
      entropy: ``[B]``, nats; no gradient flows into it.
      target_entropy: nats, scalar.
    """
    excess = jnp.mean(jax.lax.stop_gradient(entropy)) - target_entropy
    return jnp.exp(log_alpha) * excess


def sac_loss(
    agent: agents.Agent,
    params: base.Params,
    log_alpha: base.Array,
    target_critic: base.Params,
    batch: rollouts.Transition,
    discount: base.Array,
    target_entropy: base.Array,
    key: base.Array,
) -> tuple[base.Array, base.Metrics]:
    """The three losses of one batch; each has its own parameters and sees no other's.

    Args:
      agent: the networks.
      params: ``{"actor": ..., "critic": ...}``.
      log_alpha: natural logarithm of the temperature, scalar.
      target_critic: slow copy of the critics.
      batch: transitions ``[B]``.
      discount: gamma, scalar.
      target_entropy: nats, scalar.
      key: PRNG key.

    Returns:
      The sum of the losses, and metrics.
    """
    target_key, actor_key = jax.random.split(key)
    actor, critic = params["actor"], params["critic"]
    still = jax.lax.stop_gradient
    alpha = jnp.exp(still(log_alpha))
    next_value, _ = agent.soft_value(
        still(actor), target_critic, batch.next_obs, alpha, target_key
    )
    target = td_target(batch.reward, batch.terminated, discount, next_value)
    q = agent.q_values(critic, batch.obs, batch.action)
    value, entropy = agent.soft_value(actor, still(critic), batch.obs, alpha, actor_key)
    parts = {
        "critic_loss": critic_loss(q, target),
        "actor_loss": -jnp.mean(value),
        "temperature_loss": temperature_loss(log_alpha, entropy, target_entropy),
    }
    metrics = {"q": jnp.mean(q), "entropy": jnp.mean(entropy), "alpha": alpha}
    return sum(parts.values()), {**parts, **metrics}
