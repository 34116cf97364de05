"""The workload of soft actor-critic in m3jax: its learner, jitted and donated."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import sac_workload
from m3jax import base
from m3jax.envs import environment, spaces
from m3jax.rl import agents, losses, rollouts, sac, sac_config


@dataclasses.dataclass(frozen=True)
class Table(environment.Environment):
    """Shows the rows of a table in turn. The table is its parameters, time its state.

    Attributes:
      workload: the sizes.
    """

    workload: sac_workload.Workload = sac_workload.FULL

    @property
    def default_params(self) -> base.Array:
        """The table."""
        return jnp.asarray(self.workload.table())

    def action_space(self, params: base.Array) -> spaces.Box:
        """Numbers in [-1, 1]."""
        return spaces.Box(-1.0, 1.0, (self.workload.action_dim,))

    def reset_env(self, key: base.Array, params: base.Array) -> tuple[Any, base.Array]:
        """Begins an episode at the first row."""
        del key
        return params[0], jnp.int32(0)

    def step_env(
        self, key: base.Array, state: base.Array, action: base.Array, params: base.Array
    ) -> tuple[Any, base.Array, base.Array, base.Array, dict[str, Any]]:
        """Shows the next row."""
        del key
        reward = -jnp.mean(action**2)
        obs = params[(state + 1) % len(params)]
        return obs, state + 1, reward, jnp.bool_(False), {}

    def is_truncated(self, state: base.Array, params: base.Array) -> base.Array:
        """Whether the episode's time is over."""
        return state >= sac_workload.EPISODE


def make_config(workload: sac_workload.Workload) -> sac_config.SacConfig:
    """The settings of m3jax's learner; the rest are its defaults."""
    return sac_config.SacConfig(
        hidden=workload.hidden,
        num_envs=1,
        chunk=workload.steps,
        batch_size=workload.batch,
        capacity=workload.capacity,
        warmup=workload.warmup,
        learning_rate=sac_workload.LEARNING_RATE,
        discount=sac_workload.DISCOUNT,
        tau=sac_workload.TAU,
    )


def make_step(workload: sac_workload.Workload) -> Callable[[], dict[str, float]]:
    """Makes a call that takes so many steps, goes on from there, and gives metrics."""
    learner = sac.make_sac(make_config(workload), Table(workload))
    state = jax.jit(learner.init)(jax.random.key(0))
    advance = jax.jit(learner.step, donate_argnums=0)
    held = {"state": state, "key": jax.random.key(1)}

    def step() -> dict[str, float]:
        held["key"], key = jax.random.split(held["key"])
        held["state"], metrics = advance(held["state"], (), key)
        return {name: float(value) for name, value in metrics.items()}

    return step


class Losses(NamedTuple):
    """What is compared.

    Attributes:
      values: critic and actor loss.
      grads: of all parameters, and of the logarithm of the temperature.
      params: at which they were taken.
      target: the target critics' parameters.
      noise: standard normal ``[2, B, A]``: of the actor's actions, and of those that
        the target is made with.
    """

    values: dict[str, base.Array]
    grads: tuple[base.Params, base.Array]
    params: base.Params
    target: base.Params
    noise: base.Array


def find_losses(workload: sac_workload.Workload) -> Losses:
    """Losses and gradients of one batch, at a temperature of 1."""
    env = Table(workload)
    agent = sac.make_agent(make_config(workload), env)
    batch = rollouts.Transition(**workload.transitions())
    keys = jax.random.split(jax.random.key(0), 3)
    params, other = (agent.init(key, batch.obs) for key in keys[:2])

    def loss_fn(trained):
        return losses.sac_loss(
            agent,
            *trained,
            other["critic"],
            batch,
            sac_workload.DISCOUNT,
            agent.target_entropy,
            keys[2],
        )

    grads, metrics = jax.jit(jax.grad(loss_fn, has_aux=True))((params, 0.0))
    values = {name: metrics[name] for name in ("critic_loss", "actor_loss")}
    noise = _noise(agent, params["actor"], batch, keys[2])
    return Losses(values, grads, params, other["critic"], noise)


def _noise(
    agent: agents.Agent,
    actor: base.Params,
    batch: rollouts.Transition,
    key: base.Array,
) -> base.Array:
    """What the loss draws with this key."""
    target_key, actor_key = jax.random.split(key)

    def drawn(obs, key):
        gaussian = agent.policy(actor, obs).distribution
        return (gaussian.sample(seed=key) - gaussian.loc) / gaussian.stddev()

    return jnp.stack([drawn(batch.obs, actor_key), drawn(batch.next_obs, target_key)])
