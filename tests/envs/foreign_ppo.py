"""Proximal policy optimisation as a project of its own would have it.

In the manner of purejaxrl and rejax: everything is one compiled program, and of an
environment only the calls of gymnax 1.0 are known. (Schulman et al., arXiv:1707.06347;
advantages by Schulman et al., arXiv:1506.02438.)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class Settings(NamedTuple):
    """What a user may set."""

    num_envs: int = 64
    num_steps: int = 32
    num_updates: int = 60
    num_epochs: int = 4
    num_minibatches: int = 4
    hidden: int = 64
    learning_rate: float = 1e-3
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_weight: float = 0.01
    value_weight: float = 0.5
    max_grad_norm: float = 0.5


class Transition(NamedTuple):
    """One step; arrays ``[num_steps, num_envs, ...]`` when collected."""

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    next_value: jax.Array
    reward: jax.Array
    terminated: jax.Array
    done: jax.Array


def init_mlp(key, sizes, last_scale):
    """Orthogonal layers, the last one scaled apart."""
    shapes = list(zip(sizes[:-1], sizes[1:], strict=True))
    scales = [2.0**0.5] * (len(shapes) - 1) + [last_scale]
    keys = jax.random.split(key, len(shapes))
    return [
        (jax.nn.initializers.orthogonal(scale)(k, shape), jnp.zeros(shape[1]))
        for k, scale, shape in zip(keys, scales, shapes, strict=True)
    ]


def mlp(layers, x):
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def init_net(key, env, params, hidden):
    """Actor and critic for the spaces of an environment."""
    action_space = env.action_space(params)
    (width,) = env.observation_space(params).shape
    outputs = action_space.n if is_discrete(action_space) else action_space.shape[0]
    actor_key, critic_key = jax.random.split(key)
    return {
        "actor": init_mlp(actor_key, (width, hidden, hidden, outputs), 0.01),
        "critic": init_mlp(critic_key, (width, hidden, hidden, 1), 1.0),
        "log_std": jnp.zeros(outputs),
    }


def is_discrete(space):
    return hasattr(space, "n")


def sample(key, net, obs, discrete):
    out = mlp(net["actor"], obs)
    if discrete:
        action = jax.random.categorical(key, out)
    else:
        noise = jax.random.normal(key, out.shape)
        action = out + jnp.exp(net["log_std"]) * noise
    return action, log_prob_and_entropy(net, obs, action, discrete)[0]


def log_prob_and_entropy(net, obs, action, discrete):
    out = mlp(net["actor"], obs)
    if discrete:
        log_p = jax.nn.log_softmax(out)
        entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
        return jnp.take_along_axis(log_p, action[..., None], axis=-1)[..., 0], entropy
    log_std = net["log_std"]
    log_p = jax.scipy.stats.norm.logpdf(action, out, jnp.exp(log_std)).sum(axis=-1)
    entropy = jnp.sum(log_std + 0.5 * jnp.log(2.0 * jnp.pi * jnp.e))
    return log_p, jnp.broadcast_to(entropy, log_p.shape)


def to_env(action, space):
    """Actions between the bounds of a box; choices as they are."""
    return action if is_discrete(space) else jnp.clip(action, space.low, space.high)


def advantages(transitions, settings):
    """Generalised advantages; time limits are bootstrapped, terminations are not."""

    def body(after, t):
        goes_on = settings.discount * (1.0 - t.terminated)
        delta = t.reward + goes_on * t.next_value - t.value
        decay = settings.discount * settings.gae_lambda * (1.0 - t.done)
        found = delta + decay * after
        return found, found

    zeros = jnp.zeros_like(transitions.value[0])
    return jax.lax.scan(body, zeros, transitions, reverse=True)[1]


def loss(net, batch, settings, discrete):
    t, advantage, target = batch
    log_prob, entropy = log_prob_and_entropy(net, t.obs, t.action, discrete)
    ratio = jnp.exp(log_prob - t.log_prob)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = jnp.clip(ratio, 1.0 - settings.clip, 1.0 + settings.clip)
    actor = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
    critic = jnp.mean((mlp(net["critic"], t.obs)[..., 0] - target) ** 2)
    return (
        actor
        + settings.value_weight * critic
        - settings.entropy_weight * entropy.mean()
    )


@partial(jax.jit, static_argnames=("env", "settings"))
def train(key, env, params, settings):
    """Trains; returns the network and the mean reward of each update."""
    space = env.action_space(params)
    discrete = is_discrete(space)
    steps = settings.num_updates * settings.num_epochs * settings.num_minibatches
    optimizer = optax.chain(
        optax.clip_by_global_norm(settings.max_grad_norm),
        optax.adam(optax.linear_schedule(settings.learning_rate, 0.0, steps), eps=1e-5),
    )
    vmap_reset = jax.vmap(env.reset, in_axes=(0, None))
    vmap_step = jax.vmap(env.step, in_axes=(0, 0, 0, None))

    def env_step(carry, key):
        net, obs, state = carry
        act_key, step_key = jax.random.split(key)
        action, log_prob = sample(act_key, net, obs, discrete)
        next_obs, state, reward, terminated, truncated, info = vmap_step(
            jax.random.split(step_key, settings.num_envs),
            state,
            to_env(action, space),
            params,
        )
        value, next_value = (
            mlp(net["critic"], o)[..., 0] for o in (obs, info["final_observation"])
        )
        done = terminated | truncated
        transition = Transition(
            obs, action, log_prob, value, next_value, reward, terminated, done
        )
        return (net, next_obs, state), transition

    def minibatch(carry, batch):
        net, opt_state = carry
        grads = jax.grad(loss)(net, batch, settings, discrete)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(net, updates), opt_state), None

    def epoch(carry, key, batch):
        def cut(x):
            x = x.reshape(-1, *x.shape[2:])
            order = jax.random.permutation(key, x.shape[0])
            return x[order].reshape(settings.num_minibatches, -1, *x.shape[1:])

        return jax.lax.scan(minibatch, carry, jax.tree.map(cut, batch))

    def update(carry, key):
        net, opt_state, obs, state = carry
        collect_key, epochs_key = jax.random.split(key)
        (_, obs, state), transitions = jax.lax.scan(
            env_step,
            (net, obs, state),
            jax.random.split(collect_key, settings.num_steps),
        )
        advantage = advantages(transitions, settings)
        batch = transitions, advantage, advantage + transitions.value
        (net, opt_state), _ = jax.lax.scan(
            lambda carry, key: epoch(carry, key, batch),
            (net, opt_state),
            jax.random.split(epochs_key, settings.num_epochs),
        )
        return (net, opt_state, obs, state), transitions.reward.mean()

    net_key, reset_key, update_key = jax.random.split(key, 3)
    net = init_net(net_key, env, params, settings.hidden)
    obs, state = vmap_reset(jax.random.split(reset_key, settings.num_envs), params)
    carry = (net, optimizer.init(net), obs, state)
    keys = jax.random.split(update_key, settings.num_updates)
    (net, *_), rewards = jax.lax.scan(update, carry, keys)
    return net, rewards


def greedy(net, obs, space):
    """The most probable action."""
    out = mlp(net["actor"], obs)
    return jnp.argmax(out, axis=-1) if is_discrete(space) else to_env(out, space)


@partial(jax.jit, static_argnames=("env", "policy", "num_envs", "num_steps"))
def play(key, env, params, policy, net, num_envs, num_steps):
    """Plays ``policy(key, net, obs)``; the world's numbers do not depend on it.

    Returns:
      Rewards and ends of episodes, ``[num_steps, num_envs]``.
    """

    def body(carry, key):
        obs, state = carry
        act_key, step_key = jax.random.split(key)
        action = jax.vmap(policy, in_axes=(0, None, 0))(
            jax.random.split(act_key, num_envs), net, obs
        )
        obs, state, reward, terminated, truncated, _ = jax.vmap(
            env.step, in_axes=(0, 0, 0, None)
        )(jax.random.split(step_key, num_envs), state, action, params)
        return (obs, state), (reward, terminated | truncated)

    reset_key, steps_key = jax.random.split(key)
    begun = jax.vmap(env.reset, in_axes=(0, None))(
        jax.random.split(reset_key, num_envs), params
    )
    return jax.lax.scan(body, begun, jax.random.split(steps_key, num_steps))[1]
