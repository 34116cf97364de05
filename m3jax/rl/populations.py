"""Many seeds and settings of one learner, trained by one compiled program."""

from typing import Any

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.rl import sac, sac_config


def make_population(
    config: sac_config.SacConfig,
    env: Any,
    hypers: sac_config.Hyper,
    env_params: Any = None,
) -> base.Learner:
    """Makes a learner of P members, each with its own seed and float settings.

    Every leaf of its state but ``step`` has a leading axis of P, so one member's is
    taken out by indexing.

    Args:
      config: the sizes and lengths that all share.
      env: an environment with the calls of gymnax 1.0.
      hypers: float arrays ``[P]``, as `sac_config.spread` makes them.
      env_params: the environment's parameters, the same for all.

    Returns:
      A learner that reports each metric as its mean over members, and of member i as
      ``metric/i``.

    Raises:
      ValueError: the config makes no sense, or the action space is not supported.
    """
    num_members = hypers.discount.shape[0]
    axes = base.TrainState(step=None, params=0, opt_state=0, extra=0)
    step_all = jax.vmap(
        sac.make_sac(config, env, env_params).step,
        in_axes=(axes, None, 0),
        out_axes=(axes, 0),
    )

    def init_one(key: base.Array, hyper: sac_config.Hyper) -> base.TrainState:
        return sac.make_sac(config, env, env_params, hyper).init(key, ())

    def init(key: base.Array, batch: base.Batch = ()) -> base.TrainState:
        del batch
        keys = jax.random.split(key, num_members)
        return jax.vmap(init_one, out_axes=axes)(keys, hypers)

    def step(
        state: base.TrainState, batch: base.Batch, key: base.Array
    ) -> tuple[base.TrainState, base.Metrics]:
        keys = jax.random.split(key, num_members)
        state, each = step_all(state, batch, keys)
        metrics = {name: jnp.mean(values) for name, values in each.items()}
        for name, values in each.items():
            metrics |= {f"{name}/{i}": values[i] for i in range(num_members)}
        return state, metrics

    return base.Learner(init, step)
