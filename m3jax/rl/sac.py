"""Soft actor-critic (Haarnoja et al. 2018a, 2018b), whole on the device.

A step of the learner is one compiled program: ``chunk`` times, it takes steps in many
environments at once, adds them to the replay, and updates twin critics, actor and
temperature together. Box actions give the tanh-Gaussian version, discrete ones the
version with exact expectations (Christodoulou 2019).

The train state carries everything, the float hyper-parameters too, so that the one host
loop saves and resumes it exactly, and `jax.vmap` over ``init`` and ``step`` trains many
seeds and settings in one program (`m3jax.rl.populations`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from m3jax import base
from m3jax.ops import tracing
from m3jax.rl import agents, losses, replay, rollouts, sac_config

Collect = Callable[..., tuple[rollouts.Rollout, rollouts.Transition]]
"""``(act, rollout, key) -> (rollout, transitions)``."""
AgentAt = Callable[[base.Array], agents.Agent]
"""The agent at a step of the learner, for what is annealed."""
Gradients = Callable[..., tuple[Any, base.Metrics]]
"""``(agent, (params, log_alpha), target_critic, batch, hyper, key) -> (gradients,
metrics)``."""


class Extra(NamedTuple):
    """What a train state carries beside parameters and optimizer.

    Attributes:
      target_critic: slow copy of the critics.
      log_alpha: natural logarithm of the temperature.
      rollout: where the environments stand.
      replay: the transitions remembered.
      hyper: the float hyper-parameters.
    """

    target_critic: base.Params
    log_alpha: base.Array
    rollout: rollouts.Rollout
    replay: replay.Replay
    hyper: sac_config.Hyper


def make_agent(
    config: sac_config.SacConfig, env: Any, env_params: Any = None
) -> agents.Agent:
    """Makes the networks for an environment's actions."""
    env_params = env.default_params if env_params is None else env_params
    space = env.action_space(env_params)
    return agents.make_agent(space, tuple(config.hidden), config.num_critics)


def make_sac(
    config: sac_config.SacConfig,
    env: Any,
    env_params: Any = None,
    hyper: sac_config.Hyper | None = None,
) -> base.Learner:
    """Makes the learner of an environment, with the agent for its kind of actions.

    Args:
      config: sizes, lengths and starting values.
      env: an environment with the calls of gymnax 1.0.
      env_params: its parameters; None for its own.
      hyper: float hyper-parameters, possibly traced; None for the config's.

    Returns:
      A learner that takes no batches: ``batch`` is ``()`` in ``init`` and ``step``.

    Raises:
      ValueError: the config makes no sense, the action space is not supported, or no
        policy over so few actions has the target entropy.
    """
    config.validate()
    agent = make_agent(config, env, env_params)
    _check_target(config, env, env_params)
    return make_learner(config, lambda step: agent, env, env_params, hyper)


def plain_gradients(
    agent: agents.Agent,
    trained: Any,
    target_critic: base.Params,
    batch: rollouts.Transition,
    hyper: sac_config.Hyper,
    key: base.Array,
) -> tuple[Any, base.Metrics]:
    """The gradients of the sum of all losses."""

    def loss(trained):
        return losses.sac_loss(
            *(agent, *trained, target_critic, batch),
            *(hyper.discount, hyper.target_entropy, key),
        )

    return jax.grad(loss, has_aux=True)(trained)


def make_learner(
    config: sac_config.SacConfig,
    agent_at: AgentAt,
    env: Any,
    env_params: Any = None,
    hyper: sac_config.Hyper | None = None,
    gradients: Gradients = plain_gradients,
) -> base.Learner:
    """Makes the learner of any agent in an environment.

    Args:
      config: sizes, lengths and starting values.
      agent_at: the agent; its parameters are those of step 0 at all steps.
      env: an environment with the calls of gymnax 1.0.
      env_params: its parameters; None for its own.
      hyper: float hyper-parameters, possibly traced; None for the config's.
      gradients: how they are taken.

    Returns:
      A learner that takes no batches: ``batch`` is ``()`` in ``init`` and ``step``.

    Raises:
      ValueError: the config makes no sense.
    """
    config.validate()
    env_params = env.default_params if env_params is None else env_params
    agent = agent_at(jnp.int32(0))
    if hyper is None:
        hyper = sac_config.make_hyper(config, agent.target_entropy)

    collect = functools.partial(
        rollouts.collect,
        env,
        env_params,
        length=config.collect_steps,
        remembered=agent.remembered,
    )

    def init(key: base.Array, batch: base.Batch = ()) -> base.TrainState:
        del batch
        env_key, params_key, warmup_key = jax.random.split(key, 3)
        rollout = rollouts.start(env, env_params, env_key, config.num_envs)
        params = agent.init(params_key, rollout.obs)
        shape = jnp.shape(hyper.target_entropy)
        log_alpha = jnp.broadcast_to(jnp.log(hyper.initial_temperature), shape)
        rollout, memory = _warm_up(config, agent, collect, rollout, warmup_key)
        opt_state = optax.scale_by_adam().init((params, log_alpha))
        # A copy, since a step donates the critics and their targets alike.
        target = jax.tree.map(jnp.copy, params["critic"])
        extra = Extra(target, log_alpha, rollout, memory, hyper)
        return base.TrainState(jnp.int32(0), params, opt_state, extra)

    def step(
        state: base.TrainState, batch: base.Batch, key: base.Array
    ) -> tuple[base.TrainState, base.Metrics]:
        del batch
        keys = jax.random.split(key, config.chunk)
        now = agent_at(state.step)
        state, metrics = _scan_means(
            functools.partial(_advance, config, now, collect, gradients), state, keys
        )
        returns = state.extra.rollout.finished_return
        metrics["episode_return"] = jnp.mean(returns)
        return state._replace(step=state.step + 1), metrics

    return base.Learner(init, step)


def make_act(agent: agents.Agent, actor: base.Params) -> rollouts.Act:
    """The policy without noise, for `rollouts.evaluate`."""

    def act(obs: Any, key: base.Array) -> tuple[base.Array, base.Array]:
        del key
        action = agent.policy(actor, obs).mode()
        return action, agent.env_action(action)

    return act


def _check_target(config: sac_config.SacConfig, env: Any, env_params: Any) -> None:
    """Refuses a target that the temperature would chase for ever."""
    env_params = env.default_params if env_params is None else env_params
    num_actions = getattr(env.action_space(env_params), "n", None)
    target = tracing.known(config).target_entropy
    if num_actions is None or target is None:
        return
    if target > math.log(num_actions):
        raise ValueError(
            f"sac.target_entropy={target} is above the largest entropy of"
            f" {num_actions} actions, log {num_actions} = {math.log(num_actions):.3f}"
            " nats: the temperature would grow without end. Give less, or None."
        )


def _act_with(agent: agents.Agent, actor: base.Params) -> rollouts.Act:
    def act(obs: Any, key: base.Array) -> tuple[base.Array, base.Array]:
        action = agent.policy(actor, obs).sample(seed=key)
        return action, agent.env_action(action)

    return act


def _warm_up(
    config: sac_config.SacConfig,
    agent: agents.Agent,
    collect: Collect,
    rollout: rollouts.Rollout,
    key: base.Array,
) -> tuple[rollouts.Rollout, replay.Replay]:
    """Fills the replay with what random actions bring."""

    def act(obs: Any, key: base.Array) -> tuple[base.Array, base.Array]:
        action = agent.random_action(key, obs)
        return action, agent.env_action(action)

    def body(carry, key):
        rollout, memory = carry
        rollout, transitions = collect(act, rollout, key)
        return (rollout, replay.add(memory, transitions)), None

    shapes = jax.eval_shape(lambda: collect(act, rollout, key)[1])
    item = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), shapes)
    memory = replay.make(item, config.capacity)
    count = -(-config.warmup // (config.num_envs * config.collect_steps))
    (rollout, memory), _ = jax.lax.scan(
        body, (rollout, memory), jax.random.split(key, count)
    )
    return rollout, memory


def _advance(
    config: sac_config.SacConfig,
    agent: agents.Agent,
    collect: Collect,
    gradients: Gradients,
    state: base.TrainState,
    key: base.Array,
) -> tuple[base.TrainState, base.Metrics]:
    """Collects, remembers, and updates."""
    collect_key, update_key = jax.random.split(key)
    extra = state.extra
    act = _act_with(agent, state.params["actor"])
    rollout, transitions = collect(act, extra.rollout, collect_key)
    memory = replay.add(extra.replay, transitions)
    state = state._replace(extra=extra._replace(rollout=rollout, replay=memory))
    return _scan_means(
        functools.partial(_update, agent, gradients, config.batch_size),
        state,
        jax.random.split(update_key, config.updates),
    )


def _update(
    agent: agents.Agent,
    gradients: Gradients,
    batch_size: int,
    state: base.TrainState,
    key: base.Array,
) -> tuple[base.TrainState, base.Metrics]:
    """One update of critics, actor and temperature, and of the target critics."""
    sample_key, loss_key = jax.random.split(key)
    extra, hyper = state.extra, state.extra.hyper
    batch = replay.sample(extra.replay, sample_key, batch_size)

    trained = (state.params, extra.log_alpha)
    grads, metrics = gradients(
        agent, trained, extra.target_critic, batch, hyper, loss_key
    )
    updates, opt_state = optax.scale_by_adam().update(grads, state.opt_state)
    updates = jax.tree.map(lambda u: -hyper.learning_rate * u, updates)
    params, log_alpha = optax.apply_updates(trained, updates)
    target = optax.incremental_update(params["critic"], extra.target_critic, hyper.tau)
    extra = extra._replace(target_critic=target, log_alpha=log_alpha)
    metrics = {**metrics, "grad_norm": optax.tree.norm(grads)}
    return base.TrainState(state.step, params, opt_state, extra), metrics


def _scan_means(
    body: Callable[..., tuple[base.TrainState, base.Metrics]],
    state: base.TrainState,
    keys: base.Array,
) -> tuple[base.TrainState, base.Metrics]:
    """Runs a step once for each key; its metrics are averaged."""
    state, metrics = jax.lax.scan(body, state, keys)
    return state, jax.tree.map(jnp.mean, metrics)
