"""The claims about M3LLM, judged by records."""

from collections.abc import Sequence

import numpy as np

from m3jax import base
from m3jax.evals import records as records_lib
from m3jax.studies import study
from m3jax.systems.m3llm.study import forecasts, measure, tables, variants

_NOT_LOWER = -0.01
"""A difference counts as none if it is within a point."""


def verdicts(rows: Sequence[base.Record]) -> list[study.Verdict]:
    """All claims: routing in both worlds, ablations, forecasts, disturbances."""
    shared, alone = (tables.at_copies(rows, number) for number in (2, 1))
    return [
        *_routing(shared, ""),
        *_routing(alone, variants.ALONE),
        *_end_to_end(shared),
        *_ablations(shared),
        *_forecasts(rows),
        *_disturbances(shared),
    ]


def _of(rows, variant: str, metric: str, **at: str) -> np.ndarray:
    return records_lib.by_seed(rows, variant, metric, **at)


def _gain(rows, metric: str, better: str, worse: str) -> np.ndarray:
    return _of(rows, better, metric) - _of(rows, worse, metric)


def _ratio(rows, metric: str, better: str, worse: str) -> np.ndarray:
    """By how much of it the one is above the other."""
    return _of(rows, better, metric) / _of(rows, worse, metric) - 1.0


def _routing(rows, suffix: str) -> list[study.Verdict]:
    full, semantic = variants.FULL, variants.SEMANTIC
    note = "not lower: the interval is above minus one point"
    found = [
        study.judge(
            f"{what} is not lower than semantic-first's{suffix}",
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
            f"{what} is above semantic-first's by {asked:.0%}{suffix}",
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
            f"LLM quality is above network-first's by 15%{suffix}",
            _ratio(rows, "llm_quality", full, variants.NETWORK),
            0.15,
            unit="1",
        )
    )
    found += [
        study.judge(
            f"Task accuracy is above that of: {name}{suffix}",
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
    found.append(
        study.judge(
            f"Combined reward is at least 90 % of the per-step oracle's{suffix}",
            _of(rows, full, "reward") / _of(rows, variants.ORACLE, "reward"),
            0.9,
            unit="1",
            note="both heads equal over subsets, the best in the true state",
        )
    )
    return found


def _end_to_end(rows) -> list[study.Verdict]:
    return [
        study.judge(
            "Trained end to end, the router answers as well as CE-SAC's",
            _gain(rows, "task_accuracy", variants.END_TO_END, variants.FULL),
            _NOT_LOWER,
            unit="1",
            note="equal environment steps; the interval is above minus one point",
        )
    ]


def _ablations(rows) -> list[study.Verdict]:
    full = variants.FULL
    return [
        study.judge(
            "Without ASEM stability falls",
            -_ratio(rows, "stability", variants.NO_ASEM, full),
            0.0,
            unit="1",
            paper="30.2 % (table II)",
        ),
        *(
            study.judge(
                f"Without decoupled critics {what} takes longer by 25%",
                _ratio(rows, steps, variants.JOINT, full),
                0.25,
                unit="1",
                paper="40.5 %",
                note=note,
            )
            for what, steps, note in (
                (
                    "convergence",
                    "convergence_steps",
                    "environment steps to 95 % of the rise of its own reward",
                ),
                (
                    "M3LLM's level",
                    "common_level_steps",
                    "environment steps to 95 % of the rise of M3LLM's reward; where it"
                    " is never reached, those of the whole training",
                ),
            )
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
    def error(links, name):
        return _of(rows, name, "forecast_error", links=links)

    linear, bursty = forecasts.LINEAR, forecasts.BURSTY
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
            "Less reward is lost in and after a burst with ASEM",
            _gain(rows, "lost_in_burst_steps", variants.NO_ASEM, variants.FULL),
            0.0,
            unit="step",
            note="in steps' worth of the reward before the burst, saved",
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
