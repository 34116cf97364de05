"""ASEM in M3LLM: what to train the state-space model on, and how its scale is set.

Links move whatever the router does, so the reports of any policy are as good as those
of any other: series are simulated once, and ASEM is trained before the router.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.envs.expert_routing import wireless, world
from m3jax.nn import state_space


class Reports(NamedTuple):
    """What is reported of the links in some episodes.

    Attributes:
      snr: float32 ``[B, T, N]``, 0 at SNR_min and 1 at SNR_max.
      mask: bool ``[B, T, N]``, where a report came.
      true_snr: float32 ``[B, T, N]``, what a report without delay and noise would be.
    """

    snr: base.Array
    mask: base.Array
    true_snr: base.Array


@dataclasses.dataclass
class Config:
    """Settings of ASEM.

    Attributes:
      fast_dim, slow_dim, hidden_dim: widths of z1, z2 and the GRU.
      prior, core: see ``m3jax.nn.state_space``.
      free_nats: what each latent may say at each step without paying.
      gap_rate: share of reports that training hides beside those that are missing; it
        helps where more are missing later than in training, and costs accuracy else.
    """

    fast_dim: int = 32
    slow_dim: int = 16
    hidden_dim: int = 64
    prior: str = "learned"
    core: str = "observations"
    free_nats: float = 0.05
    gap_rate: float = 0.0

    RANGES: ClassVar = {
        **dict.fromkeys(("fast_dim", "slow_dim", "hidden_dim"), "[1, inf)"),
        "free_nats": "[0, inf)",
        "gap_rate": "[0, 1)",
    }


def simulate(
    env: wireless.Wireless,
    params: world.Params,
    key: base.Array,
    num_series: int,
    num_steps: int,
) -> Reports:
    """Collects the reports of some episodes.

    Args:
      env: the environment; actions do not matter.
      params: its parameters.
      key: PRNG key, consumed.
      num_series: B, at least 1.
      num_steps: T, at least 1.

    Returns:
      The reports.
    """

    def one(key):
        begin_key, steps_key = jax.random.split(key)
        low, high = params.rewards.min_snr_db, params.rewards.max_snr_db
        idle = jnp.zeros(env.action_space(params).shape)

        def body(carry, key):
            obs, state = carry
            view = env.view(obs, params)
            told = Reports(
                view.snr,
                view.reported > 0.5,
                (state.history[0] - low) / (high - low),
            )
            obs, after, *_ = env.step_env(key, state, idle, params)
            return (obs, after), told

        begun = env.reset_env(begin_key, params)
        return jax.lax.scan(body, begun, jax.random.split(steps_key, num_steps))[1]

    return jax.jit(jax.vmap(one))(jax.random.split(key, num_series))


def scale(reports: Reports) -> tuple[base.Array, base.Array]:
    """Mean and standard deviation of the reports that came, over all links."""
    count = jnp.maximum(jnp.sum(reports.mask), 1)
    mean = jnp.sum(jnp.where(reports.mask, reports.snr, 0.0)) / count
    spread = jnp.where(reports.mask, (reports.snr - mean) ** 2, 0.0)
    return mean, jnp.sqrt(jnp.sum(spread) / count)


def make_model(
    config: Config, params: world.Params, std: float
) -> state_space.StateSpace:
    """The model for an environment, which tells the noise of its reports.

    Args:
      config: settings.
      params: of the environment.
      std: of the reports, as `scale` gives it.

    Returns:
      The model.
    """
    bounds = params.rewards.max_snr_db - params.rewards.min_snr_db
    noise = float(params.report_noise_db / bounds / std)
    return state_space.StateSpace(
        params.tasks.num_experts,
        fast_dim=config.fast_dim,
        slow_dim=config.slow_dim,
        hidden_dim=config.hidden_dim,
        prior=config.prior,
        core=config.core,
        observation_std=noise if noise > 0 else None,
    )


def make_system(config: Config, model: state_space.StateSpace) -> base.System:
    """ASEM's training as a system.

    Batches hold ``series`` float32 [B, T, N], standardised, and ``mask`` bool of that
    shape. The loss is the negative bound (equation 21), in nats for each report.
    ``predict["forecast"]`` gives mean and std [B, T, N] of each report as it was
    expected one step before.

    Args:
      config: settings.
      model: of `make_model`.
    """

    def init(key, batch):
        del batch  # sizes are known
        return model.init(key, jnp.zeros((1, 1, model.num_observed)))

    def loss(params, batch, key):
        gap_key, path_key = jax.random.split(key)
        hidden = jax.random.bernoulli(gap_key, config.gap_rate, batch["mask"].shape)
        elbo = model.apply(
            *(params, batch["series"], path_key, batch["mask"] & ~hidden),
            method="elbo",
        )
        total = elbo.loss(config.free_nats)
        return total, {"negative_elbo": elbo.loss()}

    def forecast(params, batch, key):
        del key
        _, step = model.apply(params, batch["series"], batch["mask"], method="filter")
        return step.predicted._asdict()

    return base.System(init=init, loss=loss, predict={"forecast": forecast})
