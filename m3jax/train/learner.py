"""The supervised learner: a system and an optimizer become ``init`` and ``step``."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from m3jax import base
from m3jax.ops import paths
from m3jax.train import optimizers


def training_loss(
    system: base.System,
) -> Callable[[base.Params, base.Batch, base.Array], tuple[base.Array, base.Metrics]]:
    """The loss of a system over what training draws, such as an SNR for each example.

    What a batch holds itself is not drawn.
    """
    if system.draw is None:
        return system.loss

    def loss(params: base.Params, batch: base.Batch, key: base.Array):
        draw_key, key = jax.random.split(key)
        return system.loss(params, {**system.draw(batch, draw_key), **batch}, key)

    return loss


def make_learner(
    system: base.System,
    config: optimizers.OptimizerConfig,
    steps: int,
    warm_start: base.Params | None = None,
    trainable: str = ".*",
) -> base.Learner:
    """Makes a learner that descends ``system.loss``.

    Only the trainable partition is differentiated, so a frozen encoder costs no
    backward pass.

    Args:
      system: the system to train.
      config: the optimizer.
      steps: length of the run, for the learning-rate schedule.
      warm_start: parameters laid by path over those of ``system.init``, such as
        pretrained ones; None keeps all of them.
      trainable: regular expression for whole '/'-joined paths of what trains.

    Returns:
      A learner whose step reports ``loss``, ``grad_norm`` (before clipping) and the
      system's own metrics.
    """
    config.validate()
    loss = training_loss(system)

    def init(key: base.Array, batch: base.Batch) -> base.TrainState:
        params = system.init(key, batch)
        if warm_start is not None:
            params = paths.overlay(params, warm_start)
        optimizer = optimizers.make_optimizer(config, steps, params, trainable)
        return base.TrainState(jnp.int32(0), params, optimizer.init(params))

    def step(
        state: base.TrainState, batch: base.Batch, key: base.Array
    ) -> tuple[base.TrainState, base.Metrics]:
        trains = paths.mask(state.params, trainable)

        def loss_fn(trained: base.Params) -> tuple[base.Array, base.Metrics]:
            return loss(paths.merge(trained, state.params), batch, key)

        trained = paths.select(state.params, trains)
        (value, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(trained)
        optimizer = optimizers.make_optimizer(config, steps, state.params, trainable)
        # Zeros stand for the frozen gradients; being unused, they are never computed.
        full_grads = paths.merge(grads, jax.tree.map(jnp.zeros_like, state.params))
        updates, opt_state = optimizer.update(
            full_grads, state.opt_state, state.params, value=value
        )
        updated = optax.apply_updates(trained, paths.select(updates, trains))
        params = paths.merge(updated, state.params)
        metrics = {**metrics, "loss": value, "grad_norm": optax.tree.norm(grads)}
        return base.TrainState(state.step + 1, params, opt_state, state.extra), metrics

    return base.Learner(init=init, step=step)
