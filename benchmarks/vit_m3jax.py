"""The vision-transformer workload in m3jax: its network, learner and donated step."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import optax

from benchmarks import vit_workload
from m3jax import base
from m3jax.nn import vit
from m3jax.train import learner as learner_lib
from m3jax.train import optimizers


class Classifier(nn.Module):
    """Labels an image by the mean of its tokens.

    Attributes:
      config: the encoder's size.
      num_classes: number of labels.
    """

    config: vit.ViTConfig
    num_classes: int

    @nn.compact
    def __call__(self, images: base.Array) -> base.Array:
        """Maps images [B, H, W, 3] to logits [B, num_classes]."""
        tokens = vit.ViT(self.config, name="vit")(images)
        return nn.Dense(self.num_classes, name="head")(tokens.mean(axis=1))


def make_system(workload: vit_workload.Workload, scan_unroll: int) -> base.System:
    """Makes the classifier and its cross-entropy.

    Args:
      workload: the sizes.
      scan_unroll: layers per turn of the scan over depth.
    """
    size, patch = workload.image_size, workload.patch_size
    config = vit.ViTConfig(
        dim=workload.dim,
        depth=workload.depth,
        num_heads=workload.num_heads,
        mlp_dim=workload.mlp_dim,
        input_shape=(size, size, 3),
        patch_shape=(patch, patch),
        order="raster",
        scan_unroll=scan_unroll,
    )
    model = Classifier(config, workload.num_classes)

    def init(key: base.Array, batch: base.Batch) -> base.Params:
        return model.init(key, batch["image"])["params"]

    def loss(
        params: base.Params, batch: base.Batch, key: base.Array
    ) -> tuple[base.Array, base.Metrics]:
        del key  # nothing is drawn
        logits = model.apply({"params": params}, batch["image"])
        nats = optax.losses.softmax_cross_entropy_with_integer_labels(
            logits, batch["label"]
        )
        return nats.mean(), {}

    return base.System(init=init, loss=loss, predict={})


def make_learner(workload: vit_workload.Workload, scan_unroll: int) -> base.Learner:
    """Makes the supervised learner that any system is trained by."""
    config = optimizers.OptimizerConfig(
        learning_rate=vit_workload.LEARNING_RATE,
        schedule="constant",
        weight_decay=vit_workload.WEIGHT_DECAY,
        clip_norm=vit_workload.CLIP_NORM,
    )
    return learner_lib.make_learner(make_system(workload, scan_unroll), config, steps=1)


def make_step(
    learner: base.Learner, state: base.TrainState, batch: base.Batch
) -> Callable[[], float]:
    """Binds a train state, which is donated, to a call that advances it by one step.

    Returns:
      A function that does one step, waits for its end and returns the loss before it.
    """
    step = jax.jit(learner.step, donate_argnums=0)
    key = jax.random.key(0)

    def call() -> float:
        nonlocal state
        state, metrics = step(state, batch, key)
        jax.block_until_ready(state)
        return float(metrics["loss"])

    return call


def start(
    workload: vit_workload.Workload, scan_unroll: int, batch: Any
) -> tuple[base.Learner, base.TrainState]:
    """Makes a learner and its first state."""
    learner = make_learner(workload, scan_unroll)
    return learner, jax.jit(learner.init)(jax.random.key(0), batch)
