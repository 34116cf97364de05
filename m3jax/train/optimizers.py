"""Optimizers: AdamW or Muon with warm-up, and a choice of what trains, by path."""

import dataclasses
import math

import jax
import optax
import optax.contrib

from m3jax import base
from m3jax.ops import paths, tracing

NAMES = ("adamw", "muon")
SCHEDULES = ("cosine", "constant", "plateau")
_PLATEAU_STEPS = 10  # losses of so many updates are averaged before they are compared
# Tables of vectors: a step of equal size in every direction means nothing there.
_NOT_MUON = ("embedding", "position_embed", "head", "queries")


@dataclasses.dataclass
class OptimizerConfig:
    """AdamW or Muon with linear warm-up, clipping and frozen parameters.

    A plain dataclass, because command-line overrides set its attributes.

    Attributes:
      name: "adamw", or "muon" (Jordan et al. 2024), which orthogonalises the updates of
        weight matrices and leaves all other arrays to AdamW.
      learning_rate: the highest learning rate of AdamW.
      muon_learning_rate: the highest learning rate of Muon's matrices.
      schedule: after the warm-up, "cosine" (down to zero), "constant", or "plateau",
        which multiplies the rate by ``plateau_factor`` whenever the training loss, as a
        mean over ten updates, has not fallen for ``plateau_patience`` updates.
      plateau_factor, plateau_patience: of that schedule.
      warmup_steps: updates over which the learning rate rises linearly from zero.
      accumulate: steps whose gradients are averaged for an update.
      weight_decay: decoupled decay, of arrays with two or more axes alone.
      clip_norm: largest global norm of the gradient of what trains; inf for none.
      b1: decay of the mean of gradients.
      b2: decay of the mean of squared gradients.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    muon_learning_rate: float = 5e-3
    schedule: str = "cosine"
    plateau_factor: float = 0.8
    plateau_patience: int = 50
    warmup_steps: int = 0
    accumulate: int = 1
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    b1: float = 0.9
    b2: float = 0.999

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        given = tracing.known(self)
        checks = {
            "name": given.name in NAMES,
            "muon_learning_rate": math.isfinite(given.muon_learning_rate)
            and given.muon_learning_rate > 0,
            "learning_rate": math.isfinite(given.learning_rate)
            and given.learning_rate > 0,
            "schedule": given.schedule in SCHEDULES,
            "plateau_factor": 0 < given.plateau_factor < 1,
            "plateau_patience": given.plateau_patience >= 1,
            "warmup_steps": given.warmup_steps >= 0,
            "accumulate": given.accumulate >= 1,
            "weight_decay": math.isfinite(given.weight_decay)
            and given.weight_decay >= 0,
            "clip_norm": given.clip_norm > 0,
            "b1": 0 <= given.b1 < 1,
            "b2": 0 <= given.b2 < 1,
        }
        wants = {
            "name": "one of " + ", ".join(NAMES),
            "muon_learning_rate": "a finite number above 0",
            "learning_rate": "a finite number above 0",
            "schedule": "one of " + ", ".join(SCHEDULES),
            "plateau_factor": "in (0, 1)",
            "plateau_patience": "1 or more",
            "warmup_steps": "0 or more",
            "accumulate": "1 or more",
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


def make_schedule(
    config: OptimizerConfig, steps: int, peak: float | None = None
) -> optax.Schedule:
    """Makes the learning rate as a function of the number of finished updates.

    Args:
      config: the optimizer's config.
      steps: updates of the whole run; "cosine" reaches zero there.
      peak: the highest learning rate; None takes the config's.

    Returns:
      A schedule: step -> learning rate.
    """
    peak = config.learning_rate if peak is None else peak
    remaining = max(steps - config.warmup_steps, 1)
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(peak, remaining)
    else:
        main = optax.constant_schedule(peak)
    if not config.warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, peak, config.warmup_steps)
    return optax.join_schedules([warmup, main], [config.warmup_steps])


def make_optimizer(
    config: OptimizerConfig,
    steps: int,
    params: base.Params,
    trainable: str = ".*",
) -> optax.GradientTransformation:
    """Makes AdamW or Muon over the trainable part of the parameters.

    Args:
      config: learning rate, schedule, decay and clipping.
      steps: length of the run, for the schedule.
      params: the parameters (or their shapes), to find the trainable paths.
      trainable: regular expression for whole '/'-joined parameter paths; the others
        are frozen and cost neither gradient nor optimizer state.

    Returns:
      A transformation of updates shaped like ``params``, whose ``update`` takes the
      loss as ``value``. It holds state for trainable arrays alone and returns zero
      updates for the frozen ones.

    Raises:
      ValueError: a field makes no sense, or ``trainable`` matches no path.
    """
    config.validate()
    trains = paths.mask(params, trainable)
    updates = -(-steps // config.accumulate)
    make = _muon if config.name == "muon" else _adamw
    clip = optax.clip_by_global_norm(config.clip_norm)
    descend = optax.chain(clip, make(config, updates), *_plateau(config))
    if config.accumulate > 1:
        every = optax.MultiSteps(descend, config.accumulate)
        # Its own gradient_transformation() would not hand the loss on.
        descend = optax.GradientTransformationExtraArgs(every.init, every.update)
    return optax.partition(
        {"trains": descend, "frozen": optax.set_to_zero()},
        jax.tree.map(lambda trained: "trains" if trained else "frozen", trains),
    )


def _plateau(config: OptimizerConfig) -> list[optax.GradientTransformation]:
    if config.schedule != "plateau":
        return []
    return [
        optax.contrib.reduce_on_plateau(
            config.plateau_factor,
            patience=-(-config.plateau_patience // _PLATEAU_STEPS),
            accumulation_size=_PLATEAU_STEPS,
        )
    ]


def _adamw(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    return optax.adamw(
        make_schedule(config, steps),
        b1=config.b1,
        b2=config.b2,
        weight_decay=config.weight_decay,
        mask=_matrices,
    )


def _muon(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    return optax.contrib.muon(
        make_schedule(config, steps, config.muon_learning_rate),
        weight_decay=config.weight_decay,
        weight_decay_mask=_matrices,
        adam_b1=config.b1,
        adam_b2=config.b2,
        adam_weight_decay=config.weight_decay,
        adam_learning_rate=make_schedule(config, steps),
        muon_weight_dimension_numbers=_muon_axes,
    )


def _matrices(tree: base.Params) -> base.Params:
    """What decays: arrays with two or more axes, but for biases and scales.

    Those of scanned layers have two axes too, being stacked over depth.
    """

    def decays(key_path, leaf):
        name = paths.path_string(key_path).split("/")[-1]
        return leaf.ndim >= 2 and name not in ("bias", "scale")

    return jax.tree_util.tree_map_with_path(decays, tree)


def _muon_axes(tree: base.Params) -> base.Params:
    """Input and output axes of the matrices that Muon updates; None for the others.

    The kernels of scanned layers are stacked on their first axis.
    """

    def axes(key_path, leaf):
        path = paths.path_string(key_path)
        is_matrix = path.endswith("kernel") and leaf.ndim in (2, 3)
        if not is_matrix or any(name in path.split("/") for name in _NOT_MUON):
            return None
        return optax.contrib.MuonDimensionNumbers((leaf.ndim - 2,), (leaf.ndim - 1,))

    return jax.tree_util.tree_map_with_path(axes, tree)
