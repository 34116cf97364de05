"""What the host loop is told: lengths, intervals, seed and optimizer."""

import dataclasses

from m3jax.train import optimizers


@dataclasses.dataclass
class TrainConfig:
    """Settings of one training run.

    A plain dataclass, not a frozen one, because command-line overrides such as
    ``--config.train.steps=200`` set its attributes.

    Attributes:
      steps: updates in the whole run.
      batch_size: examples a step, over all devices.
      seed: seed of the parameters, the noise and the data order.
      log_every: steps between two lines of metrics.
      checkpoint_every: steps between two checkpoints; the last step always has one.
      evaluate_every: steps between two evaluations; 0 for none while training.
      keep: how many of the newest checkpoints stay (the best one stays besides).
      trainable: what trains: a regular expression for whole '/'-joined parameter paths,
        or names of the system's parts joined by '|', such as "transceiver|lora". The
        rest is frozen and costs neither gradient nor optimizer state.
      optimizer: the optimizer's settings.
    """

    steps: int = 1000
    batch_size: int = 64
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 500
    evaluate_every: int = 0
    keep: int = 2
    trainable: str = ".*"
    optimizer: optimizers.OptimizerConfig = dataclasses.field(
        default_factory=optimizers.OptimizerConfig
    )

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for field in ("steps", "batch_size", "log_every", "checkpoint_every", "keep"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"train.{field} must be a whole number of 1 or more, got {value!r}"
                )
        for field in ("evaluate_every", "seed"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(
                    f"train.{field} must be a whole number of 0 or more, got {value!r}"
                )
        self.optimizer.validate()
