"""WDMoE's records as tables."""

from collections.abc import Sequence

from m3jax import base
from m3jax.evals import axes
from m3jax.evals import records as records_lib
from m3jax.evals import tables as table_lib
from m3jax.systems.wdmoe import probe, savings
from m3jax.systems.wdmoe.study import claims, variants


def tables(settings: variants.Settings, rows: Sequence[base.Record]) -> str:
    """Tables I, II and IV of the paper, as measured here, and more."""
    methods = (
        *(variants.VANILLA, variants.PAPER, variants.BY_WEIGHT, variants.BY_PRICE),
        *variants.router_names(settings),
        *(variants.TUNED_BY_PRICE,),
        *(f"{variants.AMPLE}, {n}" for n in (variants.VANILLA, variants.PAPER)),
    )
    own = [row for row in rows if row.variant in methods]
    own.sort(key=lambda row: methods.index(row.variant))
    sequence = records_lib.select(own, split=probe.SPLITS["per_sequence"])
    parts = [
        _table(
            "Accuracy, experts and parameters of a token",
            records_lib.select(own, metric="accuracy"),
            at=set(),
            columns="metric",
        ),
        _table("", records_lib.select(own, metric="asked"), at=set(), columns="metric"),
        _table(
            "",
            records_lib.select(own, metric="active_parameters"),
            at=set(),
            columns="metric",
        ),
        _table(
            "Latency of a batch, by how the band is split",
            records_lib.select(own, metric="latency_ms"),
            at={"split"},
            columns="split",
        ),
        _table(
            "Accuracy by domain",
            records_lib.select(own, metric="accuracy"),
            at={"domain"},
            columns="domain",
        ),
        _table(
            "Latency by domain, one split for the sequence",
            [axes.with_at(row, split=None) for row in sequence],
            at={"domain"},
            columns="domain",
        ),
        _table(
            "Accuracy of one pass of the cosine, by threshold",
            records_lib.select(rows, variant=variants.THRESHOLD, metric="accuracy"),
            at={"threshold"},
            columns="threshold",
        ),
        _table(
            "... and its latency",
            records_lib.select(rows, variant=variants.THRESHOLD, metric="latency_ms"),
            at={"threshold"},
            columns="threshold",
        ),
    ]
    saved = records_lib.select(rows, metric="saved")
    for devices in variants.DEVICES:
        chosen = records_lib.select(saved, devices=devices)
        parts.append(
            _table(
                f"Saved at the mixture's own loads, {devices} devices",
                [axes.with_at(row, devices=None) for row in chosen],
                at={"domain"},
                rows="domain",
                columns="variant",
            )
        )
    variation = records_lib.select(rows, metric="load_variation", devices="alike")
    parts += [
        _table(
            "Load variation at the mixture's own loads",
            [axes.with_at(row, devices=None) for row in variation],
            at={"domain"},
            columns="domain",
        ),
        _table(
            "Saved at the sizes of table II",
            saved,
            at={"workload"},
            rows="workload",
            columns="variant",
        ),
        _surface(saved, "blocks apart"),
        _surface(saved, "persistent"),
        _table(
            "Latency with algorithm 2 and without, in the simulated testbed",
            [
                r
                for r in rows
                if r.variant.startswith("played") and r.metric == "latency_ms"
            ],
            at={"domain"},
            rows="domain",
            columns="variant",
        ),
        _table(
            "Accuracy in the simulated testbed",
            [
                r
                for r in rows
                if r.variant.startswith("played") and r.metric == "accuracy"
            ],
            at={"domain"},
            rows="domain",
            columns="variant",
        ),
        _table(
            "Most frequent pair of experts, by block",
            records_lib.select(rows, metric="pair_ratio"),
            at={"block"},
            columns="block",
        ),
        _table(
            "Saved by sending a token once to a device of two experts, by block",
            [r for r in saved if r.variant.startswith("sent once")],
            at={"block"},
            columns="block",
        ),
    ]
    chosen = ", ".join(claims.chosen_router(settings, rows))
    return "\n\n".join([*parts, f"Chosen routers, by seed: {chosen}."])


def _surface(saved: Sequence[base.Record], loads: str) -> str:
    """Of both and the split alone, over imbalance, all speeds alike."""
    chosen = [
        axes.with_at(row, loads=None, spread=None)
        for row in records_lib.select(saved, loads=loads, spread=0.0)
        if row.variant in savings.METHODS
    ]
    return _table(
        f"Saved with 32 blocks by imbalance of preferences, {loads}",
        chosen,
        at={"imbalance"},
        rows="imbalance",
        columns="variant",
    )


def _table(title: str, chosen: Sequence[base.Record], *, at: set[str], **layout) -> str:
    layout = {"rows": "variant", **layout}
    found = [row for row in chosen if axes.names(row) == at]
    made = table_lib.markdown(records_lib.aggregate(found), **layout)
    return f"### {title}\n\n{made}" if title else made
