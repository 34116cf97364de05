"""Many seeds and settings of one learner, trained by one compiled program."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.rl import sac_config


def make_population(
    make_member: Callable[[sac_config.Hyper], base.Learner],
    hypers: sac_config.Hyper,
) -> base.Learner:
    """Makes a learner of P members, each with its own seed and float settings.

    Every leaf of its state but ``step`` has a leading axis of P, so one member's is
    taken out by indexing.

    Args:
      make_member: makes the learner of given float hyper-parameters, such as
        ``lambda hyper: sac.make_sac(config, env, params, hyper)``.
      hypers: float arrays ``[P]``, as `sac_config.spread` makes them.

    Returns:
      A learner that reports each metric as its mean over members, and of member i as
      ``metric/i``.
    """
    num_members = hypers.discount.shape[0]
    axes = base.TrainState(step=None, params=0, opt_state=0, extra=0)
    step_all = jax.vmap(
        make_member(jax.tree.map(lambda leaf: leaf[0], hypers)).step,
        in_axes=(axes, None, 0),
        out_axes=(axes, 0),
    )

    def init_one(key: base.Array, hyper: sac_config.Hyper) -> base.TrainState:
        return make_member(hyper).init(key, ())

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
