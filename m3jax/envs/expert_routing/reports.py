"""What an agent gets to see of wireless routing: late, noisy and missing reports."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.envs.expert_routing import rewards, world


class View(NamedTuple):
    """What an observation says, in its order.

    Attributes:
      task: [K], one-hot.
      live: [N], 1 for experts that answer.
      reported: [N], 1 where a report of the link has come.
      snr: [N], reported SNR, 0 at SNR_min and 1 at SNR_max; 0 where none has come.
      earned: [2], semantic and channel reward of the last step.
    """

    task: base.Array
    live: base.Array
    reported: base.Array
    snr: base.Array
    earned: base.Array


def report(key: base.Array, state: world.State, params: world.Params) -> View:
    """Late and noisy reports of the SNRs, the task, and what was earned.

    Args:
      key: PRNG key, consumed.
      state: the truth.
      params: delay, noise and loss of reports.

    Returns:
      What an agent sees.
    """
    noise_key, loss_key = jax.random.split(key)
    late_db = jnp.take(state.history, params.report_delay, axis=0, mode="clip")
    noise = jax.random.normal(noise_key, late_db.shape, jnp.float32)
    noise = params.report_noise_db * noise
    bounds = (params.rewards.min_snr_db, params.rewards.max_snr_db)
    snr = rewards.normalised(late_db + noise, bounds)
    chance = jax.random.uniform(loss_key, snr.shape, jnp.float32)
    reported = chance >= params.report_loss
    return View(
        task=jax.nn.one_hot(state.task, params.tasks.num_tasks, dtype=jnp.float32),
        live=state.events.live.astype(jnp.float32),
        reported=reported.astype(jnp.float32),
        snr=jnp.where(reported, snr, 0.0),
        earned=state.earned,
    )


def split(obs: base.Array, params: world.Params) -> View:
    """Takes an observation ``[..., K + 3 N + 2]`` apart."""
    num_tasks, num_experts = params.tasks.core.shape
    ends = [num_tasks + i * num_experts for i in range(4)]
    return View(*jnp.split(obs, ends, axis=-1))
