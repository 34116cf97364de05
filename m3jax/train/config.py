"""What the host loop is told, and what a supervised learner is."""

import dataclasses

from m3jax.train import optimizers


@dataclasses.dataclass
class TrainConfig:
    """Settings of one training run.

    A plain dataclass, not a frozen one, because command-line overrides such as
    ``--config.train.steps=200`` set its attributes.

    Attributes:
      steps: updates in the whole run.
      seed: seed of the parameters, the noise and the data order.
      log_every: steps between two lines of metrics.
      checkpoint_every: steps between two checkpoints; the last step always has one.
      evaluate_every: steps between two evaluations; 0 for none while training.
      keep: how many of the newest checkpoints stay (the best one stays besides).
    """

    steps: int = 1000
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 500
    evaluate_every: int = 0
    keep: int = 2

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for field in ("steps", "log_every", "checkpoint_every", "keep"):
            check_count(f"train.{field}", getattr(self, field), 1)
        for field in ("evaluate_every", "seed"):
            check_count(f"train.{field}", getattr(self, field), 0)
        if self.seed >= 2**32:
            raise ValueError(f"train.seed is {self.seed}; it must be below 2**32")


@dataclasses.dataclass
class LearnerConfig:
    """How a system learns from batches.

    Attributes:
      batch_size: examples a step, over all devices.
      trainable: what trains: a regular expression for whole '/'-joined parameter paths,
        or names of the system's parts joined by '|', such as "transceiver|lora". The
        rest is frozen and costs neither gradient nor optimizer state.
      optimizer: the optimizer's settings.
    """

    batch_size: int = 64
    trainable: str = ".*"
    optimizer: optimizers.OptimizerConfig = dataclasses.field(
        default_factory=optimizers.OptimizerConfig
    )

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        check_count("learner.batch_size", self.batch_size, 1)
        self.optimizer.validate()


def check_count(name: str, value: object, least: int) -> None:
    """Raises ValueError if a field is no whole number of ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(
            f"{name} must be a whole number of {least} or more, got {value!r}"
        )
