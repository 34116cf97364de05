"""Evaluation of a run: SNR grid, baselines, records, tables and plots.

A composition root like ``m3jax.experiment``; launchers and notebooks start here.
"""

import functools
import math
import os
import pathlib
from collections.abc import Sequence

import jax

from m3jax import base, experiment
from m3jax.data import scenes
from m3jax.evals import baselines, snr_sweep
from m3jax.evals import report as report_lib

UNITS = {"nll": "nat/word", "channel_uses": "channel use", "bits": "bit"}
METRICS = ("answer_accuracy", "word_accuracy", *UNITS)
BATCH_SIZE = 100


def evaluate(
    run: experiment.Restored,
    snrs_db: Sequence[float],
    num_seeds: int,
    *,
    variant: str,
    num_examples: int | None = None,
    split: str = "test",
) -> list[base.Record]:
    """Measures a trained system over an SNR grid, with common random numbers.

    Args:
      run: from ``experiment.restore``.
      snrs_db: SNRs in dB; inf is a link without noise.
      num_seeds: repetitions with other noise and fading.
      variant: what to call the run in the records.
      num_examples: look at the first that many of the split; None looks at all.
      split: "validation" or "test".

    Returns:
      Rows for each SNR, seed, metric and skill.
    """
    arrays = experiment.load_arrays(run.experiment.data, split, num_examples)
    measured = snr_sweep.sweep(
        run.system.predict["answer"],
        run.params,
        experiment.split_batches(arrays, BATCH_SIZE),
        snrs_db=snrs_db,
        num_seeds=num_seeds,
        key=jax.random.key(0),
        metrics_fn=_pick,
        prepare=functools.partial(_encode, run.system.predict["encode"]),
        groups=scenes.SKILLS,
    )
    return snr_sweep.to_records(
        measured, system=system_name(run.experiment), variant=variant, units=UNITS
    )


def accuracy_by_skill(
    run: experiment.Restored,
    predict: str,
    split: str = "test",
    num_examples: int | None = None,
) -> dict[str, float]:
    """Accuracy of a system whose prediction knows no SNR, such as the generalist.

    Args:
      run: from ``experiment.restore``.
      predict: name of the prediction, such as "answer".
      split: "train", "validation" or "test".
      num_examples: look at the first that many; None looks at all.

    Returns:
      Skill, and "all" -> accuracy in [0, 1].
    """
    arrays = experiment.load_arrays(run.experiment.data, split, num_examples)
    measured = snr_sweep.sweep(
        run.system.predict[predict],
        run.params,
        experiment.split_batches(arrays, BATCH_SIZE),
        snrs_db=(math.inf,),
        num_seeds=1,
        key=jax.random.key(0),
        metrics_fn=_pick_accuracy,
        groups=scenes.SKILLS,
    )
    by_skill = measured.by_group["answer_accuracy"][0, 0]
    out = {"all": float(measured.values["answer_accuracy"][0, 0])}
    for skill, value in zip(scenes.SKILLS, by_skill, strict=True):
        if not math.isnan(value):
            out[skill] = float(value)
    return out


def floor(
    config: experiment.Experiment, num_examples: int | None = None, split: str = "test"
) -> list[base.Record]:
    """Chance and question-only accuracy on the same examples, as rows without SNR."""
    train = experiment.load_arrays(config.data, "train")
    test = experiment.load_arrays(config.data, split, num_examples)
    rows = []
    for variant, guess in (
        ("question only", baselines.question_only),
        ("chance", baselines.chance),
    ):
        rows += baselines.to_records(
            guess(train, test),
            test,
            system=system_name(config),
            variant=variant,
            groups=scenes.SKILLS,
        )
    return rows


def report(
    rows: Sequence[base.Record], directory: str | os.PathLike[str]
) -> tuple[str, list[pathlib.Path]]:
    """Writes what a person looks at: tables and plots.

    Args:
      rows: records of one or more variants, baselines included.
      directory: the workdir; gets ``evaluation.json``, ``table.md`` and ``plots/``.

    Returns:
      The tables as Markdown, and the paths of the plots.
    """
    paths = report_lib.write(rows, directory)
    return report_lib.markdown(rows), paths


def system_name(config: experiment.Experiment) -> str:
    """Name of a config's system: the package it comes from, such as "tokcom"."""
    return type(config.system).__module__.split(".")[-2]


def _pick(outputs, batch):
    del batch
    return {name: outputs[name] for name in METRICS}


def _pick_accuracy(outputs, batch):
    del batch
    return {"answer_accuracy": outputs["answer_accuracy"]}


def _encode(encode, params, batch):
    """Runs the encoders, which no SNR touches, once for the whole grid."""
    kept = {name: batch[name] for name in ("question", "answer", "skill")}
    return {**kept, "tokens": encode(params, batch, None)}
