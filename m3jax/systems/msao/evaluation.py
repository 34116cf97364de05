"""The probes against the truth that EdgeScenes tells, heuristics beside them."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.data.edgescenes import clips, scenes
from m3jax.experiments import contract, over_snr
from m3jax.foundation import sizes as sizes_lib
from m3jax.ops import ranking
from m3jax.systems.msao import activation, heuristics
from m3jax.systems.msao import config as config_lib

CALIBRATION_SAMPLES = 500
METRICS = {
    "patch AUC": "patch_auc",
    "needed modality accuracy": "needed_accuracy",
    "static frame AUC": "static_auc",
}
"""What `scores` finds -> the name of its metric."""
_SEEN = (*sizes_lib.MODALITIES, "video", "question")
_TOLD = ("question", "needs")


@dataclasses.dataclass
class Probed(over_snr.OverSnr):
    """Answers by skill, and the probes against the truth, heuristics beside them."""

    def evaluate(
        self,
        config: config_lib.Config,
        data: contract.DataConfig,
        params: base.Params,
        grid: base.Grid,
        tell: base.Tell,
    ) -> list[base.Record]:
        """As any system, and patch_auc and needed_accuracy of probes and heuristics."""
        rows = super().evaluate(config, data, params, grid, tell)
        train = pipeline.as_arrays(data.source("train"), None, _TOLD)
        names = (*sizes_lib.MODALITIES, *_TOLD, "object_mask")
        test = pipeline.as_arrays(data.source(grid.split), grid.num_examples, names)
        for metric, found in scores(config, params, train, test).items():
            rows += [
                base.Record(
                    *(config.NAME, grid.variant if who == "probe" else who, (), 0),
                    *(METRICS[metric], value, "1"),
                )
                for who, value in found.items()
            ]
        return rows


def probe(
    system: base.System,
    params: base.Params,
    arrays: Mapping[str, np.ndarray],
    batch_size: int = 100,
) -> dict:
    """What ``predict["probe"]`` says of many examples.

    Args:
      system: of ``make_system``.
      params: its parameters.
      arrays: features, [n, ...] each.
      batch_size: examples at a time.

    Returns:
      Its output with leading axis n, on the host.
    """
    predict = jax.jit(system.predict["probe"])
    seen = {name: arrays[name] for name in _SEEN if name in arrays}
    parts = [
        jax.device_get(predict(params, batch, None))
        for batch in pipeline.split_batches(seen, batch_size)
    ]
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def calibrated(
    system: base.System,
    params: base.Params,
    arrays: Mapping[str, np.ndarray],
    percentile: float = 70.0,
) -> base.Params:
    """Parameters with tau_s at a percentile of a calibration set's patches.

    Args:
      system: of ``make_system``.
      params: its parameters.
      arrays: features of the calibration set; the first 500 examples are taken.
      percentile: 0 to 100.
    """
    some = {name: rows[:CALIBRATION_SAMPLES] for name, rows in arrays.items()}
    importance = probe(system, params, some)["importance"]
    tau = activation.calibrate(importance, percentile)
    return {**params, "thresholds": {**params["thresholds"], "spatial": tau}}


def patch_auc(importance: base.Array, object_mask: base.Array) -> float:
    """AUC of all patches of all pictures together, against those that show something.

    Args:
      importance: [n, H, W].
      object_mask: bool [n, H, W].
    """
    return float(ranking.roc_auc(importance, object_mask))


def needed_accuracy(
    relevance: Mapping[str, base.Array],
    needs: base.Array,
    threshold: float = 0.5,
) -> dict[str, float]:
    """How often the modalities said to be needed are those that are.

    Args:
      relevance: {modality: [n]}; those of `scenes.MODALITIES` count.
      needs: bool [n, 3], by `scenes.MODALITIES`.
      threshold: from which on a modality is said to be needed.

    Returns:
      {modality: accuracy}, and "all": the share of examples where all are right.
    """
    right = {
        m: (np.asarray(relevance[m]) >= threshold) == np.asarray(needs)[:, i]
        for i, m in enumerate(scenes.MODALITIES)
        if m in relevance
    }
    out = {m: float(np.mean(each)) for m, each in right.items()}
    return {**out, "all": float(np.mean(np.all(list(right.values()), axis=0)))}


def static_auc(similarity: base.Array, video: np.ndarray) -> float:
    """AUC of the similarity of neighbouring frames, against those that repeat.

    Args:
      similarity: [n, T - 1].
      video: uint8 [n, T, H, W, C].
    """
    return float(ranking.roc_auc(similarity, clips.repeats(video)))


def scores(
    config: config_lib.Config,
    params: base.Params,
    train: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
) -> dict[str, dict[str, float]]:
    """Every probe and every heuristic beside it.

    Args:
      config: settings.
      params: trained parameters.
      train: holds question and needs, which naive Bayes counts.
      test: holds image, audio, question, needs and object_mask; video if static frames
        are to be found too.

    Returns:
      {"patch AUC" | "needed modality accuracy" | "static frame AUC": {who: value}}.
    """
    found = probe(config.make_system(), params, test)
    grid = found["importance"].shape[1:]
    rules = {"probe": found["importance"], **heuristics.spatial(test["image"], grid)}
    bayes = heuristics.NaiveBayes(
        train["question"], train["needs"], config.sizes.decoder.vocab_size
    )
    guess = dict(zip(scenes.MODALITIES, bayes(test["question"]).T, strict=True))
    guess = {m: guess[m] for m in sizes_lib.MODALITIES}
    threshold = config.relevance_threshold
    out = {
        "patch AUC": {
            who: patch_auc(each, test["object_mask"]) for who, each in rules.items()
        },
        "needed modality accuracy": {
            "probe": needed_accuracy(found["relevance"], test["needs"], threshold),
            "naive Bayes": needed_accuracy(guess, test["needs"]),
        },
    }
    out["needed modality accuracy"] = {
        who: each["all"] for who, each in out["needed modality accuracy"].items()
    }
    if "video" in test:
        difference = heuristics.frame_difference(test["video"])
        out["static frame AUC"] = {
            "probe": static_auc(found["similarity"], test["video"]),
            "frame difference": static_auc(difference, test["video"]),
        }
    return out
