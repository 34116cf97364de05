"""Runs of seconds, for tests of what holds at any length."""

from typing import Any

from m3jax.experiments import over_snr
from m3jax.train import config as train_config


def training(steps: int = 4) -> dict[str, Any]:
    """Fields of ``supervised.Supervised`` for a run of seconds."""
    return {
        "learner": train_config.LearnerConfig(batch_size=4),
        "train": train_config.TrainConfig(
            steps=steps, log_every=2, checkpoint_every=2, evaluate_every=4
        ),
        "evaluator": over_snr.OverSnr(batch_size=26, num_watched=8),
    }
