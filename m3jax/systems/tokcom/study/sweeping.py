"""Evaluation over SNRs, by one compiled program for looks and test alike."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.data.edgescenes import scenes
from m3jax.evals import snr_sweep

BATCH_SIZE = 200
METRICS = ("answer_accuracy", "first_word_accuracy", "nll", "channel_uses")
_NAMES = ("tokens", "question", "answer", "skill", "num_tokens")


def sweep(
    system: base.System,
    params: base.Params,
    examples: dict[str, Any],
    snrs_db: Sequence[float],
) -> snr_sweep.Sweep:
    """Measures a system at one SNR after the other, with the same noise at each.

    Args:
      system: with ``predict["answer"]``.
      params: its parameters.
      examples: arrays [n, ...], with tokens of cached encoders.
      snrs_db: in dB.

    Returns:
      A sweep of one seed of noise, by skill.
    """
    params = jax.device_put(params)
    cut = batches(examples)
    parts = [
        snr_sweep.sweep(
            system.predict["answer"],
            params,
            cut,
            snrs_db=(snr_db,),
            num_seeds=1,
            key=jax.random.key(0),
            metrics_fn=_pick,
            groups=scenes.SKILLS,
        )
        for snr_db in snrs_db
    ]

    def join(name):
        dicts = [getattr(part, name) for part in parts]
        return {m: np.concatenate([found[m] for found in dicts]) for m in dicts[0]}

    return parts[0]._replace(
        snrs_db=tuple(map(float, snrs_db)),
        values=join("values"),
        by_group=join("by_group"),
    )


def batches(examples: dict[str, Any]) -> list[dict[str, Any]]:
    """Cuts examples into host batches of at most ``BATCH_SIZE``."""
    examples = {name: examples[name] for name in _NAMES if name in examples}
    return pipeline.split_batches(examples, BATCH_SIZE)


def _pick(outputs, batch):
    del batch
    return {name: outputs[name] for name in METRICS}
