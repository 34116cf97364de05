"""The claims about M3LLM, judged by records, and the tables beside them."""

from collections.abc import Sequence

import numpy as np

from m3jax import base
from m3jax.evals import records as records_lib
from m3jax.evals import tables as table_lib
from m3jax.reproductions import study
from m3jax.reproductions.m3llm import measure, variants

_NOT_LOWER = -0.01
"""A difference counts as none if it is within a point."""
METRICS = (
    *("task_accuracy", "llm_quality", "alignment", "diversity"),
    *("channel_quality", "snr_quality", "stability", "reward"),
)


def verdicts(rows: Sequence[base.Record]) -> list[study.Verdict]:
    """All claims: routing, ablations, forecasts, disturbances."""
    return [*_routing(rows), *_ablations(rows), *_forecasts(rows), *_disturbances(rows)]


def tables(rows: Sequence[base.Record]) -> str:
    """Table I and Table II of the paper, as measured here, and forecasts."""
    skills = [row for row in rows if row.variant.startswith(measure.EXPERT)]
    table = table_lib.markdown(
        records_lib.aggregate(skills), rows="variant", columns="metric", digits=0
    )
    texts = [f"### Experts, over a link without noise\n\n{table}"]
    for title, names in (
        ("Policies", [variants.FULL, *policies(rows)]),
        ("Ablations", list(variants.VARIANTS)),
    ):
        chosen = [row for row in rows if row.variant in names and row.metric in METRICS]
        chosen.sort(key=lambda row: (names.index(row.variant), _place(row.metric)))
        table = table_lib.markdown(
            records_lib.aggregate(chosen), rows="variant", columns="metric"
        )
        texts.append(f"### {title}\n\n{table}")
    steps = records_lib.select(rows, metric="env_steps_to_95_percent")
    table = table_lib.markdown(
        records_lib.aggregate(steps), rows="variant", columns="metric", digits=0
    )
    texts.append(f"### Environment steps to 95 % of the rise of the reward\n\n{table}")
    errors = [row for row in rows if row.metric.startswith("forecast_error/")]
    table = table_lib.markdown(
        records_lib.aggregate(errors), rows="metric", columns="variant"
    )
    texts.append(
        f"### Mean square errors of one-step forecasts, of the variance\n\n{table}"
    )
    case = [row for row in rows if row.variant.startswith("case, ")]
    table = table_lib.markdown(
        records_lib.aggregate(case), rows="variant", columns="metric"
    )
    texts.append(f"### A sign in fog: its expert at 15 dB, another at 25 dB\n\n{table}")
    return "\n\n".join(texts)


def policies(rows: Sequence[base.Record]) -> list[str]:
    """Names of what does not learn, in the order of the records."""
    named = records_lib.select(rows, metric="task_accuracy")
    names = dict.fromkeys(row.variant for row in named)
    return [
        name
        for name in names
        if name not in variants.VARIANTS and not name.startswith("case, ")
    ]


def _of(rows, variant: str, metric: str) -> np.ndarray:
    return records_lib.by_seed(rows, variant, metric)


def _gain(rows, metric: str, better: str, worse: str) -> np.ndarray:
    return _of(rows, better, metric) - _of(rows, worse, metric)


def _ratio(rows, metric: str, better: str, worse: str) -> np.ndarray:
    """By how much of it the one is above the other."""
    return _of(rows, better, metric) / _of(rows, worse, metric) - 1.0


def _routing(rows) -> list[study.Verdict]:
    full, semantic = variants.FULL, variants.SEMANTIC
    note = "not lower: the interval is above minus one point"
    found = [
        study.judge(
            f"{what} is not lower than semantic-first's",
            _gain(rows, metric, full, semantic),
            _NOT_LOWER,
            unit="1",
            paper=paper,
            note=note,
        )
        for what, metric, paper in (
            ("Task accuracy", "task_accuracy", ""),
            ("LLM quality", "llm_quality", "0.730 against 0.630"),
        )
    ]
    found += [
        study.judge(
            f"{what} is above semantic-first's by {asked:.0%}",
            _ratio(rows, metric, full, semantic),
            asked,
            unit="1",
            paper=paper,
        )
        for what, metric, asked, paper in (
            ("Channel quality", "channel_quality", 0.3, "+58.3 %"),
            ("SNR quality", "snr_quality", 0.5, "+102 %"),
            ("Stability", "stability", 0.0, "+54.6 %"),
        )
    ]
    found.append(
        study.judge(
            "LLM quality is above network-first's by 15%",
            _ratio(rows, "llm_quality", full, variants.NETWORK),
            0.15,
            unit="1",
        )
    )
    found += [
        study.judge(
            f"Task accuracy is above that of: {name}",
            _gain(rows, "task_accuracy", full, name),
            0.0,
            unit="1",
            note=how,
        )
        for name, how in (
            (variants.LOCAL, "no link at all"),
            (variants.CENTRAL, "as many channel uses, over one link"),
        )
    ]
    share = _of(rows, full, "reward") / _of(rows, variants.ORACLE, "reward")
    found.append(
        study.judge(
            "Combined reward is at least 90 % of the per-step oracle's",
            share,
            0.9,
            unit="1",
            note="equal weights over the best subset of experts in the true state",
        )
    )
    found.append(
        study.judge(
            "Trained end to end, the router answers as well as CE-SAC's",
            _gain(rows, "task_accuracy", variants.END_TO_END, full),
            _NOT_LOWER,
            unit="1",
            note=f"equal environment steps; {note}",
        )
    )
    return found


def _ablations(rows) -> list[study.Verdict]:
    full = variants.FULL
    steps = "env_steps_to_95_percent"
    return [
        study.judge(
            "Without ASEM stability falls",
            -_ratio(rows, "stability", variants.NO_ASEM, full),
            0.0,
            unit="1",
            paper="30.2 % (table II)",
        ),
        study.judge(
            "Without decoupled critics convergence takes longer by 25%",
            _ratio(rows, steps, variants.JOINT, full),
            0.25,
            unit="1",
            paper="40.5 %",
            note="environment steps to 95 % of the rise of the reward",
        ),
        study.judge(
            "Without MCP LLM quality falls by 20%",
            -_ratio(rows, "llm_quality", variants.NO_MCP, full),
            0.2,
            unit="1",
            paper="37.8 % (table II)",
        ),
        study.judge(
            "The two streams' gradients work against each other",
            _of(rows, full, "gradient_cosine"),
            0.0,
            unit="",
            below=True,
            note="cosine on the shared trunk, mean over training",
        ),
        study.judge(
            "PCGrad raises the combined reward",
            _gain(rows, "reward", variants.PROJECTED, full),
            0.0,
            unit="1",
        ),
    ]


def _forecasts(rows) -> list[study.Verdict]:
    def error(variant, name):
        return _of(rows, variant, f"forecast_error/{name}")

    linear, bursty = variants.LINEAR, variants.BURSTY
    return [
        study.judge(
            "ASEM forecasts within 10 % of the Kalman filter where that is optimal",
            error(linear, "ASEM") / error(linear, "Kalman") - 1.0,
            0.1,
            unit="1",
            below=True,
            note="mean square error one step ahead",
        ),
        *(
            study.judge(
                f"ASEM forecasts better than {name} under bursts",
                1.0 - error(bursty, "ASEM") / error(bursty, name),
                0.0,
                unit="1",
                note="share of the mean square error one step ahead that is saved",
            )
            for name in ("EWMA", "AR(1)")
        ),
    ]


def _disturbances(rows) -> list[study.Verdict]:
    left = measure.SURVIVOR
    return [
        study.judge(
            "After a burst the reward recovers sooner with ASEM",
            _gain(rows, "recovery_steps", variants.NO_ASEM, variants.FULL),
            0.0,
            unit="step",
            note="steps to 95 % of the reward before the burst, saved",
        ),
        study.judge(
            "When its expert fails, a task is answered as well as by the best that is"
            " left",
            _of(rows, variants.FULL, "accuracy_after_failure")
            - _of(rows, variants.FULL, left),
            _NOT_LOWER,
            unit="1",
            note="the interval is above minus one point",
        ),
    ]


def _place(metric: str) -> int:
    return METRICS.index(metric)
