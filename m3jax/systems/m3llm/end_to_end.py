"""The router trained through the links and the task model, without reinforcement.

The same two heads as CE-SAC's, and the same environment. But what a decision is worth
is not learned by critics: the experts' tokens cross the links at the true SNRs,
weighted by Gumbel-softmax samples, the decoder answers, and the gradient of

    L = alpha nll(answer) - beta sum_i w_i q_i

runs back through decoder, sum, links and samples into the router. q_i is the SNR of a
link, 0 at SNR_min and 1 at SNR_max: R_channel itself is a function of which links are
active, whose gradient is zero nearly everywhere. Links move whatever the router does,
so nothing is gained by looking further ahead than one step.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from m3jax import base
from m3jax.envs.expert_routing import rewards, world
from m3jax.rl import agents, rollouts
from m3jax.systems.m3llm import ce_sac, routing_env


class Said(NamedTuple):
    """What the experts say of each example of the bank, and what is right.

    Attributes:
      tokens: float32 ``[K, M, E, L, D]``, of E experts.
      question: int32 ``[K, M, Q]``.
      answer: int32 ``[K, M, A]``.
    """

    tokens: base.Array
    question: base.Array
    answer: base.Array


def make_batch(
    said: Said,
    task: base.Array,
    example: base.Array,
    weights: base.Array,
    snr_db: base.Array,
) -> base.Batch:
    """What the data plane is to do in B situations.

    Args:
      said: what the experts say.
      task: int32 ``[B]``.
      example: int32 ``[B]``, of the bank.
      weights: ``[B, N]``; where N is a multiple of E, devices host copies of experts,
        expert e's being e, e + E, ...
      snr_db: ``[B, N]``.

    Returns:
      A batch of ``m3jax.systems.m3llm.make_system``.
    """
    picked = {name: rows[task, example] for name, rows in said._asdict().items()}
    copies = weights.shape[1] // said.tokens.shape[2]
    picked["tokens"] = jnp.tile(picked["tokens"], (1, copies, 1, 1))
    return {**picked, "weights": weights, "snr_db": snr_db}


@dataclasses.dataclass
class Config:
    """Settings.

    Attributes:
      heads: of the router; of ``sac`` only ``hidden`` and ``num_envs`` count.
      collect_steps: steps of each environment in an update.
      chunk: updates in a step of the learner.
      learning_rate: of Adam.
      answer_weight: alpha, of the answer's nats a word.
      channel_weight: beta, of the mean SNR of those that are heard.
    """

    heads: ce_sac.CeSacConfig = dataclasses.field(default_factory=ce_sac.CeSacConfig)
    collect_steps: int = 4
    chunk: int = 10
    learning_rate: float = 1e-3
    answer_weight: float = 0.5
    channel_weight: float = 0.5

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        self.heads.validate()
        for name in ("collect_steps", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"agent.{name} must be 1 or more")

    def make_learner(
        self, env: routing_env.RoutingEnv, params: routing_env.Params, made: Any
    ) -> base.Learner:
        """The learner in a world, whose experts have spoken of real examples."""
        if made.pool is None:
            raise ValueError(
                "a router is trained end to end through real experts, and this world"
                " has drawn features; set world.drawn=None, or take CE-SAC"
            )
        pool = made.pool
        plane = pool.system, pool.task_model, made.train_said
        return make_learner(self, env, params, *plane)


class _Met(NamedTuple):
    """A situation that was met: what the router saw, and the truth behind it."""

    obs: Any
    wireless: world.State
    example: base.Array


def make_learner(
    config: Config,
    env: routing_env.RoutingEnv,
    env_params: routing_env.Params,
    data_plane: base.System,
    task_model: base.Params,
    said: Said,
) -> base.Learner:
    """Makes the learner.

    Args:
      config: settings.
      env: the environment, whose rewards are not used.
      env_params: its parameters, with the bank that ``said`` belongs to.
      data_plane: of ``m3jax.systems.m3llm.make_system``.
      task_model: parameters {decoder, silence}, which stay.
      said: what experts say of the bank's examples.

    Returns:
      A learner that takes no batches; ``params["actor"]`` is a policy of CE-SAC's kind.

    Raises:
      ValueError: a setting makes no sense.
    """
    config.heads.validate()
    num_experts = env_params.wireless.tasks.num_experts
    num_envs = config.heads.sac.num_envs
    optimizer = optax.adam(config.learning_rate)

    def agent_at(step: base.Array) -> agents.Agent:
        return ce_sac.make_agent(
            config.heads, num_experts, config.heads.temperature(step)
        )

    def init(key: base.Array, batch: base.Batch = ()) -> base.TrainState:
        del batch
        env_key, params_key = jax.random.split(key)
        rollout = rollouts.start(env, env_params, env_key, num_envs)
        params = {"actor": agent_at(0).init(params_key, rollout.obs)["actor"]}
        return base.TrainState(
            jnp.int32(0), params, optimizer.init(params), extra=rollout
        )

    def meet(rollout: rollouts.Rollout, key: base.Array):
        """Takes a step of every environment; actions move nothing, so none is taken."""
        met = _Met(rollout.obs, rollout.env_state.wireless, rollout.env_state.example)
        idle = jnp.ones((num_envs, 2, num_experts))
        obs, env_state, *_ = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            jax.random.split(key, num_envs), rollout.env_state, idle, env_params
        )
        return rollout._replace(env_state=env_state, obs=obs), met

    def loss(params, agent, met: _Met, key):
        act_key, link_key = jax.random.split(key)
        actions = agent.policy(params["actor"], met.obs).sample(seed=act_key)
        _, _, weights = jax.vmap(env.inner.score, in_axes=(0, 0, None))(
            met.wireless, actions, env_params.wireless
        )
        snr_db = met.wireless.history[:, 0]
        situations = met.wireless.task, met.example, weights.final, snr_db
        batch = make_batch(said, *situations)
        nll, metrics = data_plane.loss(task_model, batch, link_key)
        earned = env_params.wireless.rewards
        quality = rewards.normalised(snr_db, (earned.min_snr_db, earned.max_snr_db))
        heard = jnp.sum(weights.final * jnp.clip(quality, 0.0, 1.0), axis=-1)
        channel = jnp.mean(heard)
        total = config.answer_weight * nll - config.channel_weight * channel
        return total, {**metrics, "loss": total, "channel": channel}

    def update(state: base.TrainState, key: base.Array):
        collect_key, loss_key = jax.random.split(key)
        agent = agent_at(state.step)
        rollout, met = jax.lax.scan(
            meet, state.extra, jax.random.split(collect_key, config.collect_steps)
        )
        met = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), met)
        grads, metrics = jax.grad(loss, has_aux=True)(
            state.params, agent, met, loss_key
        )
        updates, opt_state = optimizer.update(grads, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, extra=rollout)
        return state, metrics

    def step(
        state: base.TrainState, batch: base.Batch, key: base.Array
    ) -> tuple[base.TrainState, base.Metrics]:
        del batch
        state, metrics = jax.lax.scan(
            update, state, jax.random.split(key, config.chunk)
        )
        state = state._replace(step=state.step + 1)
        return state, jax.tree.map(jnp.mean, metrics)

    return base.Learner(init, step)
