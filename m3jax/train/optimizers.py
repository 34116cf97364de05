"""Optimizers: AdamW with warm-up, and a choice of what trains, by path."""

import dataclasses
import math

import jax
import optax

from m3jax import base
from m3jax.ops import paths

SCHEDULES = ("cosine", "constant")


@dataclasses.dataclass
class OptimizerConfig:
    """AdamW with linear warm-up, clipping and frozen parameters.

    A plain dataclass, because command-line overrides set its attributes.

    Attributes:
      learning_rate: the highest learning rate.
      schedule: after the warm-up, "cosine" (down to zero) or "constant".
      warmup_steps: steps over which the learning rate rises linearly from zero.
      weight_decay: decoupled decay, of arrays with two or more axes alone.
      clip_norm: largest global norm of the gradient of what trains; inf for none.
      b1: decay of the mean of gradients.
      b2: decay of the mean of squared gradients.
      trainable: regular expression for whole '/'-joined parameter paths; the others
        are frozen and cost neither gradient nor optimizer state.
    """

    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    b1: float = 0.9
    b2: float = 0.999
    trainable: str = ".*"

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        checks = {
            "learning_rate": math.isfinite(self.learning_rate)
            and self.learning_rate > 0,
            "schedule": self.schedule in SCHEDULES,
            "warmup_steps": self.warmup_steps >= 0,
            "weight_decay": math.isfinite(self.weight_decay) and self.weight_decay >= 0,
            "clip_norm": self.clip_norm > 0,
            "b1": 0 <= self.b1 < 1,
            "b2": 0 <= self.b2 < 1,
        }
        wants = {
            "learning_rate": "a finite number above 0",
            "schedule": "one of " + ", ".join(SCHEDULES),
            "warmup_steps": "0 or more",
            "weight_decay": "a finite number, 0 or more",
            "clip_norm": "above 0 (inf for no clipping)",
            "b1": "in [0, 1)",
            "b2": "in [0, 1)",
        }
        for field, holds in checks.items():
            if not holds:
                raise ValueError(
                    f"optimizer.{field} must be {wants[field]},"
                    f" got {getattr(self, field)!r}"
                )


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Makes the learning rate as a function of the number of finished updates.

    Args:
      config: the optimizer's config.
      steps: length of the whole run; "cosine" reaches zero there.

    Returns:
      A schedule: step -> learning rate.
    """
    remaining = max(steps - config.warmup_steps, 1)
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(config.learning_rate, remaining)
    else:
        main = optax.constant_schedule(config.learning_rate)
    if not config.warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([warmup, main], [config.warmup_steps])


def make_optimizer(
    config: OptimizerConfig, steps: int, params: base.Params
) -> optax.GradientTransformation:
    """Makes AdamW over the trainable part of the parameters.

    Args:
      config: learning rate, schedule, decay, clipping and what trains.
      steps: length of the run, for the schedule.
      params: the parameters (or their shapes), to find the trainable paths.

    Returns:
      A transformation of updates shaped like ``params``. It holds state for trainable
      arrays alone and returns zero updates for the frozen ones.

    Raises:
      ValueError: a field makes no sense, or ``trainable`` matches no path.
    """
    config.validate()
    trains = paths.mask(params, config.trainable)
    adamw = optax.adamw(
        make_schedule(config, steps),
        b1=config.b1,
        b2=config.b2,
        weight_decay=config.weight_decay,
        mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim >= 2, tree),
    )
    clip = optax.clip_by_global_norm(config.clip_norm)
    return optax.partition(
        {"trains": optax.chain(clip, adamw), "frozen": optax.set_to_zero()},
        jax.tree.map(lambda trained: "trains" if trained else "frozen", trains),
    )
