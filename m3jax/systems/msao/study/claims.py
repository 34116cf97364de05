"""The claims about MSAO, judged by records."""

from collections.abc import Sequence

import numpy as np

from m3jax import base
from m3jax.costs import inference, speculation
from m3jax.evals import records as records_lib
from m3jax.studies import study
from m3jax.systems.msao import pricing
from m3jax.systems.msao.study import variants

PAPER_RATES = (200.0, 300.0, 400.0)
"""Mbit/s of the paper's figures."""
_POINT = 0.01
_THE = {
    variants.CLOUD: "the cloud alone",
    variants.EDGE: "the edge alone",
    variants.SPLIT: "the layer split",
    variants.UNIFORM: "uniform offload",
    variants.NO_PROBES: "without modality awareness",
    variants.NO_SCHEDULE: "without scheduling",
}


def verdicts(
    settings: variants.Settings, rows: Sequence[base.Record]
) -> list[study.Verdict]:
    """All claims: accuracy, what is saved, probes, the search of plans."""
    return [
        *_accuracy(rows),
        *(
            verdict
            for workload in variants.WORKLOADS
            for verdict in _saved(settings, rows, workload)
        ),
        *_staying(settings, rows),
        *_probes(rows),
        *_plans(rows),
    ]


def _accuracy(rows) -> list[study.Verdict]:
    """Table 1's ordering; no accuracy here depends on the bandwidth."""
    found = []
    for workload in variants.WORKLOADS:
        own = _of(rows, variants.MSAO, "accuracy", workload)
        cloud = _of(rows, variants.CLOUD, "accuracy", workload)
        edge = _of(rows, variants.EDGE, "accuracy", workload)
        note = (
            f"{workload}; {own.mean():.1%}, the cloud {cloud.mean():.1%}, the edge"
            f" {edge.mean():.1%}, at every bandwidth"
        )
        found += [
            _judge(
                "Answers at most 0.4 points less than the cloud alone",
                own - cloud,
                -0.4 * _POINT,
                paper="-0.2 to -0.4 points",
                note=note,
            ),
            _judge(
                "Answers 4.8 points more than the edge alone",
                own - edge,
                4.8 * _POINT,
                paper="14 to 17 points",
                note=workload,
            ),
            _judge(
                "Answers 4.8 points more than the layer split",
                own - _of(rows, variants.SPLIT, "accuracy", workload),
                4.8 * _POINT,
                paper="4.8 to 7 points",
                note=f"{workload}; a split model says what the whole one does, so"
                " this cannot hold where the claim above it does",
            ),
        ]
    probes = _of(rows, variants.MSAO, "accuracy", variants.QUESTIONS)
    chance = _of(rows, variants.NO_PROBES, "accuracy", variants.QUESTIONS)
    found.append(
        _judge(
            "Probes answer more than as many windows by chance",
            probes - chance,
            0.0,
            paper="6.8 to 7.6 points",
            note=variants.QUESTIONS,
        )
    )
    return found


def _saved(settings, rows, workload: str) -> list[study.Verdict]:
    """Figures 5 to 9, at the mean of the paper's bandwidths."""
    rates = tuple(r for r in settings.rates_mbps if r in PAPER_RATES)

    def ratio(metric, other, own=variants.MSAO):
        return _at(rows, own, metric, workload, rates) / _at(
            rows, other, metric, workload, rates
        )

    def less(metric, other, asked, paper, what):
        return _judge(
            f"Takes {asked:.0%} less {what} than {_THE[other]}",
            1.0 - ratio(metric, other),
            asked,
            paper=paper,
            note=workload,
        )

    found = [
        less("latency_ms", variants.SPLIT, 0.3, "over 30%", "latency"),
        less("latency_ms", variants.CLOUD, 0.5, "over 50%", "latency"),
        less("latency_ms", variants.EDGE, 0.45, "45% to 55%", "latency"),
        _judge(
            "Says 1.5 times as many words a second as the cloud alone",
            ratio("words_per_s", variants.CLOUD),
            1.5,
            paper="1.5 to 2.3",
            unit="x",
            note=f"{workload}; {_region(settings, rows, workload)}",
        ),
        less("tflop", variants.CLOUD, 0.3, "30% to 65%", "operations"),
        less("cloud_tflop", variants.CLOUD, 0.3, "-", "operations in the cloud"),
        less("cloud_gb", variants.CLOUD, 0.3, "60% to 64%", "memory in the cloud"),
        less("up_mbit", variants.CLOUD, 0.3, "-", "sent"),
    ]
    for ablation, paper in {
        variants.NO_PROBES: "-",
        variants.NO_SCHEDULE: "45% to 48%",
        variants.UNIFORM: "-",
    }.items():
        found.append(
            _judge(
                f"Takes less latency than {_THE[ablation]}",
                1.0 - ratio("latency_ms", ablation),
                0.0,
                paper=paper,
                note=workload,
            )
        )
    return found


def _region(settings, rows, workload: str) -> str:
    """What decoding alone could gain at the acceptance that was measured."""
    acceptance = _of(rows, variants.MSAO, "acceptance", workload).mean()
    best = {
        overlap: float(
            speculation.best(
                far(settings), float(acceptance), settings.draft_lengths[-1], overlap
            ).speed_up
        )
        for overlap in (False, True)
    }
    return (
        f"acceptance {acceptance:.2f}, at which decoding alone gains {best[False]:.2f}"
        f" times, {best[True]:.2f} with ideal overlap"
    )


def far(settings: variants.Settings) -> speculation.Setting:
    """The machines for the break-even calculator."""
    place = pricing.Place(pricing.fading_link(300.0), rtt_s=settings.rtt_s)
    machines, scale = place.machines, place.scale
    context = scale.text_tokens + scale.image_tokens + scale.audio_tokens
    language = machines.target.language
    return speculation.Setting(
        draft_s=float(
            inference.decode_time(machines.edge, machines.draft.language, context)
        ),
        verify_s=float(inference.decode_time(machines.cloud, language, context)),
        rtt_s=settings.rtt_s,
    )


def _staying(settings, rows) -> list[study.Verdict]:
    """Unverified answers on the edge: what they save, and what they cost."""
    rates = tuple(r for r in settings.rates_mbps if r in PAPER_RATES)
    threshold = staying_threshold(settings, rows)
    at = {"workload": variants.QUESTIONS, "rate_mbps": rates, "threshold": threshold}
    share, work, right = (
        records_lib.by_seed(rows, variants.WHOLE, metric, **at)
        for metric in ("staying", "tflop", "accuracy")
    )
    cloud = _at(rows, variants.CLOUD, "tflop", variants.QUESTIONS, rates)
    target = _of(rows, variants.CLOUD, "accuracy", variants.QUESTIONS)
    return [
        _judge(
            "Unverified: with sure answers left on the edge takes 30% fewer operations"
            " than the cloud alone",
            1.0 - work / cloud,
            0.3,
            paper="30% to 65%",
            note=f"threshold {threshold:g}, {share.mean():.0%} stay; answers"
            f" {100 * (right - target).mean():+.1f} points",
        )
    ]


def staying_threshold(settings, rows) -> float:
    """The greatest threshold at which accuracy is within 2 % of the cloud's."""
    target = _of(rows, variants.CLOUD, "accuracy", variants.QUESTIONS).mean()
    kept = [
        threshold
        for threshold in settings.staying
        if records_lib.by_seed(
            rows,
            variants.WHOLE,
            "accuracy",
            workload=variants.QUESTIONS,
            rate_mbps=records_lib.ALL,
            threshold=threshold,
        ).mean()
        >= 0.98 * target
    ]
    return max(kept, default=min(settings.staying))


def _probes(rows) -> list[study.Verdict]:
    def of(variant, metric):
        return records_lib.by_seed(rows, variant, metric)

    found = []
    for variant in (variants.MSAO, variants.PROBES):
        named = "The shipped probes" if variant == variants.MSAO else "Probes anew"
        found += [
            _judge(
                f"{named} find the patches that show something (AUC)",
                of(variant, "patch_auc"),
                0.9,
                note=f"local variance of pixels"
                f" {of('local variance', 'patch_auc').mean():.3f}",
            ),
            _judge(
                f"{named} tell the modalities that are needed",
                of(variant, "needed_accuracy"),
                0.95,
                note="naive Bayes on the question's words, told the truth in training,"
                f" {of('naive Bayes', 'needed_accuracy').mean():.1%}",
            ),
        ]
    return [
        *found,
        study.judge(
            "Probes take at most 2% of the model's operations",
            of(variants.MSAO, "operations"),
            0.02,
            unit="1",
            paper="0.47% to 1.23%",
            below=True,
            note="exact counts of our networks; at published sizes see figure 4",
        ),
    ]


def _plans(rows) -> list[study.Verdict]:
    bayesian, chance = (
        records_lib.by_seed(rows, variants.PLANS, metric)
        for metric in ("bayesian_evaluations", "random_evaluations")
    )
    reached = records_lib.by_seed(rows, variants.PLANS, "reached")
    return [
        study.judge(
            "Bayesian optimisation comes within 2% of the enumerated plan in 50"
            " evaluations",
            reached,
            0.95,
            unit="1",
            note="share of searches",
        ),
        study.judge(
            "... and takes fewer evaluations than random search",
            chance - bayesian,
            0.0,
            unit="evaluations",
            note=f"{bayesian.mean():.0f} against {chance.mean():.0f}",
        ),
    ]


def _of(rows, variant, metric, workload) -> np.ndarray:
    return records_lib.by_seed(rows, variant, metric, workload=workload)


def _at(rows, variant, metric, workload, rates) -> np.ndarray:
    return records_lib.by_seed(
        rows, variant, metric, workload=workload, rate_mbps=rates
    )


def _judge(claim, values, asked, *, unit="1", **others) -> study.Verdict:
    return study.judge(claim, values, asked, unit=unit, **others)
