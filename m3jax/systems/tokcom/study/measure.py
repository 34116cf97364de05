"""What is measured of a trained variant of TokCom."""

import math

import jax
import numpy as np

from m3jax import base
from m3jax.channels import links
from m3jax.evals import axes, snr_sweep
from m3jax.systems.tokcom import separation
from m3jax.systems.tokcom.study import sweeping, training
from m3jax.systems.tokcom.study import variants as variants_lib

SYSTEM = "tokcom"
UNITS = {"nll": "nat/word", "channel_uses": "channel use"}
RATE_SNR_DB = 10.0


def analog(
    settings: variants_lib.Settings,
    trained: training.Trained,
    name: str,
    seed: int,
    test: dict,
) -> list[base.Record]:
    """Accuracy of an analog variant by SNR and skill, and over other channels.

    The noise of the test is the same for all variants and seeds.
    """
    swept = sweeping.sweep(trained.system, trained.params, test, settings.snrs_db)
    rows = snr_sweep.to_records(swept, system=SYSTEM, variant=name, units=UNITS)
    rows = [row for row in rows if _is_wanted(row)]
    for fading in settings.channels[1:]:
        found = sweeping.sweep(
            trained.over(fading), trained.params, test, (RATE_SNR_DB,)
        )
        value = float(found.values["answer_accuracy"][0, 0])
        at = over(settings, fading)
        rows.append(base.Record(SYSTEM, name, at, 0, "answer_accuracy", value, "1"))
    return [row._replace(seed=seed) for row in rows]


def _is_wanted(row: base.Record) -> bool:
    """Of skills only the accuracy at one SNR: the rest would fill the records."""
    if axes.coordinate(row, "skill") is None:
        return True
    at = axes.coordinate(row, "snr_db")
    return row.metric == "answer_accuracy" and at == RATE_SNR_DB


def digital(
    settings: variants_lib.Settings,
    trained: training.Trained,
    name: str,
    seed: int,
    test: dict,
) -> list[base.Record]:
    """Accuracy of a mode of the digital link by SNR, in expectation over losses."""
    count = len(test["question"])
    config = trained.config
    none = np.zeros(count, np.int32)
    lost = {**test, "num_tokens": dict.fromkeys(config.modalities, none)}
    arrives = _answers(trained, test)
    is_lost = _answers(trained, lost)
    num_tokens = config.num_image_tokens + config.num_audio_tokens
    num_uses = variants_lib.num_uses(settings, settings.length)
    rows = []
    for number, snr_db in enumerate(settings.snrs_db):
        errors = separation.codeword_errors(
            jax.random.fold_in(jax.random.key(0), number),
            snr_db,
            num_messages=count,
            num_bits=num_tokens * config.num_reals * training.DIGITAL_BITS,
            num_uses=num_uses,
            block_length=links.LinkConfig().block_length,
        )
        expected = separation.expected_score(arrives, is_lost, errors)
        values = {
            "answer_accuracy": (float(np.mean(expected)), "1"),
            "message_error": (float(np.mean(errors)), "1"),
            "channel_uses": (float(num_uses), "channel use"),
        }
        rows += [
            base.Record(
                *(SYSTEM, name, axes.at(snr_db=snr_db), seed), *(metric, value, unit)
            )
            for metric, (value, unit) in values.items()
        ]
    return rows


def over(settings: variants_lib.Settings, fading: str) -> base.At:
    """Where rate is compared over a channel; that of training needs no name."""
    named = {} if fading == settings.channels[0] else {"fading": fading}
    return axes.at(snr_db=RATE_SNR_DB, **named)


def convergence(trained: training.Trained, name: str, seed: int) -> list[base.Record]:
    """Updates of stage 2 until 90 % of the final accuracy on the validation split."""
    curves = trained.curves
    steps = training.steps_to(0.9, curves["step"], curves["accuracy"])
    row = base.Record(
        *(SYSTEM, name, axes.at(snr_db=training.LOOK_SNR_DB), seed),
        *("steps_to_90_percent", steps, "update"),
    )
    first = row._replace(
        metric="accuracy_before_stage_2", value=curves["accuracy"][0], unit="1"
    )
    return [row, first]


def _answers(trained: training.Trained, test: dict) -> np.ndarray:
    """Accuracy of each example when nothing is disturbed, [n]."""
    right = []
    for number, batch in enumerate(sweeping.batches(test)):
        count = len(batch["question"])
        batch["snr_db"] = np.full(count, math.inf, np.float32)
        key = jax.random.fold_in(jax.random.key(0), number)
        right.append(
            np.asarray(trained.answer(trained.params, batch, key)["answer_accuracy"])
        )
    return np.concatenate(right)
