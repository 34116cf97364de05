"""The claims about WDMoE, judged by records."""

from collections.abc import Sequence

import numpy as np

from m3jax import base
from m3jax.evals import axes
from m3jax.evals import records as records_lib
from m3jax.studies import study
from m3jax.systems.wdmoe import probe, savings
from m3jax.systems.wdmoe.study import measure, variants

TABLE_II = {
    "even, selected": 0.0689,
    "per sequence, top-k": 0.3659,
    "per sequence, selected": 0.404,
}
"""Least share of the latency that table II saves (ARC-C; together on any workload)."""
TABLE_IV = {"ARC-E": 0.09536, "ARC-C": 0.39523, "MBPP": 0.07246, "PIQA": 0.4575}
"""Share that algorithm 2 saved on the paper's testbed."""
_SEQUENCE = probe.SPLITS["per_sequence"]
_EVEN = probe.SPLITS["even"]
_POINT = 0.01


def verdicts(
    settings: variants.Settings, rows: Sequence[base.Record]
) -> list[study.Verdict]:
    """All claims: savings, accuracy, the testbed, routers trained end to end."""
    return [
        *_savings(rows),
        *_accuracy(rows),
        _testbed(rows),
        *_routers(settings, rows),
    ]


def _savings(rows) -> list[study.Verdict]:
    """At loads that were measured, and at those of table II's sizes."""
    domains = _places(rows, "saved", "domain")
    found = []
    for devices in variants.DEVICES:
        at = {"domain": domains, "devices": devices}
        variation = records_lib.by_seed(
            rows, savings.METHODS[0], "load_variation", **at
        )
        for method, asked in TABLE_II.items():
            for way in dict.fromkeys((method, method.replace("sequence", "block"))):
                found.append(
                    study.judge(
                        f"{_name(way)} saves {asked:.1%} at the mixture's own loads,"
                        f" {devices} devices",
                        records_lib.by_seed(rows, way, "saved", **at),
                        asked,
                        unit="1",
                        paper=f"{asked:.1%}",
                        note=f"load variation {variation.mean():.2f}",
                    )
                )
    workloads = _places(rows, "saved", "workload")
    for method, asked in TABLE_II.items():
        for way in dict.fromkeys((method, method.replace("sequence", "block"))):
            found.append(
                study.judge(
                    f"{_name(way)} saves {asked:.1%} at table II's sizes",
                    records_lib.by_seed(rows, way, "saved", workload=workloads),
                    asked,
                    unit="1",
                    paper=f"{asked:.1%}",
                    note="drawn gates of moderate imbalance that no block shares",
                )
            )
    return found


def _accuracy(rows) -> list[study.Verdict]:
    """The paper's policy loses no accuracy: over all domains, and in each."""
    ours = records_lib.by_seed(rows, variants.PAPER, "accuracy")
    plain = records_lib.by_seed(rows, variants.VANILLA, "accuracy")
    noise = (
        f"top-k itself varies by {100 * np.std(plain, ddof=1):.2f} points over seeds"
    )
    found = [
        study.judge(
            "The paper's selection answers at most 1 point less than top-k",
            ours - plain,
            -_POINT,
            unit="1",
            paper="-1.02 to +2.2 points",
            note=noise,
        )
    ]
    ample, ample_plain = (
        records_lib.by_seed(rows, f"{variants.AMPLE}, {policy}", "accuracy")
        for policy in (variants.PAPER, variants.VANILLA)
    )
    found.append(
        study.judge(
            "... and so in a mixture that has more than its questions need",
            ample - ample_plain,
            -_POINT,
            unit="1",
            note=f"twice as wide; with top-k it answers {ample_plain.mean():.1%}",
        )
    )
    for domain in _places(rows, "accuracy", "domain"):
        change = records_lib.by_seed(
            rows, variants.PAPER, "accuracy", domain=domain
        ) - records_lib.by_seed(rows, variants.VANILLA, "accuracy", domain=domain)
        found.append(
            study.judge(f"... and so in the domain {domain}", change, -_POINT, unit="1")
        )
    return found


def _testbed(rows) -> study.Verdict:
    domains = _places(rows, "latency_ms", "domain", only=True)
    gains = played_gains(rows, domains)
    return study.judge(
        "Algorithm 2 saves a quarter of the latency in the simulated testbed",
        gains.mean(axis=0),
        float(np.mean(list(TABLE_IV.values()))),
        unit="1",
        paper=", ".join(f"{share:.1%}" for share in TABLE_IV.values()),
        note="mean over domains; by domain "
        + ", ".join(
            f"{name} {share:.1%}"
            for name, share in zip(domains, gains.mean(axis=1), strict=True)
        ),
    )


def played_gains(rows, domains: Sequence[str]) -> np.ndarray:
    """Share of the latency that algorithm 2 saves, [domains, seeds]."""

    def of(variant: str, domain: str) -> np.ndarray:
        name = f"played, {variant}"
        return records_lib.by_seed(rows, name, "latency_ms", domain=domain)

    return np.array(
        [1 - of(variants.ALGORITHM_2, d) / of(variants.VANILLA, d) for d in domains]
    )


def chosen_router(settings: variants.Settings, rows) -> list[str]:
    """Of each seed, the tuned router that is fastest at the paper's accuracy.

    By validation, as the frozen routers' prices are chosen.
    """
    names = [n for n in variants.router_names(settings) if n not in variants.STOPPED]
    paper = records_lib.by_seed(rows, f"{variants.PAPER}, validation", "accuracy")
    tried = {
        name: (
            records_lib.by_seed(rows, f"{name}, validation", "accuracy"),
            records_lib.by_seed(
                rows, f"{name}, validation", "latency_ms", split=_SEQUENCE
            ),
        )
        for name in names
    }
    return [
        measure.choose(
            {name: (right[seed], wait[seed]) for name, (right, wait) in tried.items()},
            accuracy,
        )
        for seed, accuracy in enumerate(paper)
    ]


def _routers(settings: variants.Settings, rows) -> list[study.Verdict]:
    def of(variant: str, metric: str) -> np.ndarray:
        at = {"split": _SEQUENCE} if metric == "latency_ms" else {}
        return records_lib.by_seed(rows, variant, metric, **at)

    def tuned(metric: str) -> np.ndarray:
        names = chosen_router(settings, rows)
        return np.array([of(name, metric)[seed] for seed, name in enumerate(names)])

    found = []
    for variant in _SUBJECT:
        change = 100 * (tuned("accuracy") - of(variant, "accuracy")).mean()
        found.append(
            study.judge(
                f"A router trained end to end takes 10 % less {_SUBJECT[variant]}",
                1 - tuned("latency_ms") / of(variant, "latency_ms"),
                0.10,
                unit="1",
                note=f"chosen at the paper's accuracy on validation; on test it answers"
                f" {change:+.1f} points",
            )
        )
    for variant in _SUBJECT:
        wait = _at_accuracy(settings, rows, of(variant, "accuracy"))
        found.append(
            study.judge(
                f"... and 10 % less {_SUBJECT[variant]}, at its accuracy on test",
                1 - wait / of(variant, "latency_ms"),
                0.10,
                unit="1",
                note="between weights of the latency, by interpolation",
            )
        )
    middle = [n for n in variants.router_names(settings) if n not in variants.STOPPED]
    whole = middle[len(middle) // 2]
    found.append(
        study.judge(
            "... and 10 % less than the paper's policy at the threshold of its cosine"
            f" that answers as well as: {whole}",
            1 - of(whole, "latency_ms") / _threshold_wait(settings, rows, whole),
            0.10,
            unit="1",
            note=f"at {of(whole, 'accuracy').mean():.1%}, between thresholds by"
            " interpolation",
        )
    )
    for name in variants.STOPPED:
        change = 100 * (of(whole, "accuracy") - of(name, "accuracy")).mean()
        found.append(
            study.judge(
                f"End to end takes less than the same {name}",
                1 - of(whole, "latency_ms") / of(name, "latency_ms"),
                0.0,
                unit="1",
                note=f"at the same weight; it answers {change:+.1f} points",
            )
        )
    return found


def _at_accuracy(settings, rows, accuracy: np.ndarray) -> np.ndarray:
    """Milliseconds of a tuned router that answers so well, of each seed.

    Linear between weights of the latency; none is that without its gradient.
    """
    names = [n for n in variants.router_names(settings) if n != variants.NO_SPLIT]
    right = [records_lib.by_seed(rows, n, "accuracy") for n in names]
    wait = [records_lib.by_seed(rows, n, "latency_ms", split=_SEQUENCE) for n in names]
    return _between(accuracy, right, wait)


def _threshold_wait(settings, rows, name: str) -> np.ndarray:
    """Milliseconds of the cosine's one pass that answers as well, of each seed."""
    right, wait = (
        [
            records_lib.by_seed(rows, variants.THRESHOLD, metric, threshold=float(t))
            for t in settings.thresholds
        ]
        for metric in ("accuracy", "latency_ms")
    )
    return _between(records_lib.by_seed(rows, name, "accuracy"), right, wait)


def _between(accuracy: np.ndarray, right, wait) -> np.ndarray:
    """``wait [N, seeds]`` where ``right`` is the accuracy, linear between, by seed."""
    curves = zip(accuracy, np.transpose(right), np.transpose(wait), strict=True)
    return np.array(
        [np.interp(wanted, np.sort(a), w[np.argsort(a)]) for wanted, a, w in curves]
    )


_SUBJECT = {
    variants.PAPER: "than the frozen router with the paper's policy",
    variants.BY_WEIGHT: "than the frozen router with the best margin",
    variants.BY_PRICE: "than the frozen router with the best price and margin",
    variants.TUNED_BY_PRICE: "than one tuned for answers alone, with the best of both",
}


def _name(method: str) -> str:
    """A method of `savings`, in words."""
    return {
        "even, selected": "Selection alone",
        "per sequence, top-k": "One split for the sequence alone",
        "per block, top-k": "A split for each block alone",
        "per sequence, selected": "Selection and one split for the sequence",
        "per block, selected": "Selection and a split for each block",
    }[method]


def _places(rows, metric: str, axis: str, only: bool = False) -> list[str]:
    """Where a metric was measured, in the order of the rows."""
    found = [
        axes.coordinate(row, axis)
        for row in rows
        if row.metric == metric
        and axis in axes.names(row)
        and (not only or axes.names(row) == {axis})
    ]
    return list(dict.fromkeys(found))
