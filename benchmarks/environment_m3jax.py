"""m3jax's side of the environment benchmark, and the check that NumPy's is the same."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import environment_numpy
from m3jax import base
from m3jax.envs.expert_routing import wireless, world

ENV = wireless.Wireless()
TOLERANCE = 2e-3
AMPLIFIED = ("stability", "channel", "reward", "earned")
"""Stability, which at a mean SNR near SNR_min divides roundings, and what adds it."""
ALLOWED = 1e-3
"""Share of the environments in which those may be off by more."""


def draw_actions(num_steps: int, *shape: int) -> np.ndarray:
    """Weights ``[num_steps, *shape]``, float32, uniform in [0, 1)."""
    return np.random.default_rng(0).random((num_steps, *shape), np.float32)


@functools.partial(jax.jit, static_argnames=("num_envs", "axis"))
def begin(
    params: world.Params, key: base.Array, num_envs: int = 1, axis: int | None = None
) -> world.State:
    """State of one environment, or of so many, which stand on an axis."""
    if axis is None:
        return ENV.reset(key, params)[1]
    reset = jax.vmap(ENV.reset, (0, None), out_axes=axis)
    return reset(jax.random.split(key, num_envs), params)[1]


@functools.partial(jax.jit, static_argnames="axis")
def play(
    params: world.Params,
    state: world.State,
    key: base.Array,
    actions: base.Array,
    axis: int | None = None,
) -> dict[str, base.Array]:
    """Takes given actions.

    Args:
      params: parameters.
      state: where to begin.
      key: random key.
      actions: ``[num_steps, ...]``.
      axis: where environments stand in states and actions; None: there is one.

    Returns:
      The sums over steps of all that they told: observation, reward and its parts.
    """
    step, num_envs = ENV.step, 0
    if axis is not None:
        step = jax.vmap(step, in_axes=(0, axis, axis, None), out_axes=axis)
        num_envs = actions.shape[1:][axis]

    def told(key, state, action):
        keys = jax.random.split(key, num_envs) if num_envs else key
        obs, state, reward, _, _, info = step(keys, state, action, params)
        del info["final_observation"]
        return state, {"obs": obs, "reward": reward, **info}

    def body(carry, inputs):
        state, total = carry
        state, more = told(inputs[0], state, inputs[1])
        return (state, jax.tree.map(jnp.add, total, more)), None

    shapes = jax.eval_shape(told, key, state, actions[0])[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), shapes)
    keys = jax.random.split(key, actions.shape[0])
    return jax.lax.scan(body, (state, zeros), (keys, actions))[0][1]


def noise_of(key: base.Array, params: world.Params) -> environment_numpy.Noise:
    """What a step of our environment draws from its key."""
    num_tasks, num_experts = params.tasks.core.shape
    step_key, _ = jax.random.split(key)
    move_key, report_key = jax.random.split(step_key)
    radio_key, _, task_key = jax.random.split(move_key, 3)
    shadow_key, scatter_key = jax.random.split(radio_key)
    return environment_numpy.Noise(
        shadow=jax.random.normal(shadow_key, (num_experts,)),
        scatter=jax.random.normal(scatter_key, (num_experts, 2)).T,
        report=jax.random.normal(jax.random.split(report_key)[0], (num_experts,)),
        task=jax.random.randint(jax.random.split(task_key)[1], (), 0, num_tasks),
    )


def load(peer: environment_numpy.World, state: world.State) -> None:
    """Puts NumPy's side where ours stands; environments on the last axis, or one."""
    state = jax.tree.map(np.asarray, state)
    links = state.radio
    peer.set_distances(np.maximum(np.hypot(links.start[:, 0], links.start[:, 1]), 1.0))
    peer.shadow_std_db, peer.shadow_db = links.shadow_std_db, links.shadow_db
    peer.scatter = np.moveaxis(links.scatter, 1, 0)
    peer.task, peer.weights = state.task, state.weights
    peer.earned, peer.time = tuple(state.earned), int(state.time.max())
    peer.history = list(state.history)


def check(num_envs: int, num_steps: int = 4) -> None:
    """Checks that both sides take the same steps, given the same noise.

    Args:
      num_envs: environments of the batch.
      num_steps: steps from the beginning of an episode; the last one ends it.

    Raises:
      RuntimeError: they do not; says in what, and by how much.
    """
    params = ENV.default_params._replace(max_steps=num_steps)
    state = begin(params, jax.random.key(1), num_envs, axis=-1)
    peer = environment_numpy.World(params, (num_envs,))
    load(peer, state)
    step = jax.jit(jax.vmap(ENV.step, in_axes=(0, -1, -1, None), out_axes=-1))
    draw = jax.jit(jax.vmap(noise_of, (0, None), out_axes=-1))
    actions = draw_actions(num_steps, params.tasks.num_experts, num_envs)
    # Some weights are 0, in one environment all.
    actions = np.where(actions < 0.3, np.float32(0.0), actions)
    actions[:, :, 0] = 0.0
    for i, action in enumerate(actions):
        keys = jax.random.split(jax.random.key(i), num_envs)
        noise = environment_numpy.Noise(*map(np.asarray, draw(keys, params)))
        _, state, reward, _, truncated, info = step(keys, state, action, params)
        obs, peer_reward, over, parts = peer.step(action, noise)
        if not (np.asarray(truncated) == over).all() or over != (i + 1 == num_steps):
            raise RuntimeError(f"step {i + 1} of {num_steps} ends on one side only")
        final = info["final_observation"]
        ours = {**info, "reward": reward, "obs": final[:-1], "earned": final[-1]}
        peers = {**parts, "reward": peer_reward, "obs": obs[:-1], "earned": obs[-1]}
        _compare(ours, peers, i + 1)


def _compare(ours: dict[str, Any], peers: dict[str, Any], step: int) -> None:
    for name, value in peers.items():
        errors = np.abs(np.asarray(ours[name]) - value)
        allowed = ALLOWED if name in AMPLIFIED else 0.0
        error = np.quantile(errors, 1.0 - allowed)
        if not error <= TOLERANCE:
            raise RuntimeError(f"{name} differs by {error:.3g} in step {step}")
