"""WDMoE's records as tables."""

from collections.abc import Sequence

from m3jax import base
from m3jax.evals import axes
from m3jax.evals import records as records_lib
from m3jax.evals import tables as table_lib
from m3jax.systems.wdmoe import probe
from m3jax.systems.wdmoe.study import claims, preset, variants


def tables(settings: variants.Settings, rows: Sequence[base.Record]) -> str:
    """Tables I, II and IV of the paper, as measured here, and more."""
    methods = (
        *(variants.VANILLA, variants.PAPER, variants.BY_WEIGHT, variants.BY_PRICE),
        *variants.router_names(settings),
        variants.TUNED_BY_PRICE,
        *(f"{variants.AMPLE}, {n}" for n in (variants.VANILLA, variants.PAPER)),
    )
    own = [row for row in rows if row.variant in methods]
    own.sort(key=lambda row: methods.index(row.variant))
    whole = _on(own, set())
    sequence = records_lib.only_at(own, split=probe.SPLITS["per_sequence"])
    threshold = records_lib.select(rows, variant=variants.THRESHOLD)
    played = [row for row in rows if row.variant.startswith("played")]
    saved = records_lib.select(rows, metric="saved")
    parts = [
        "### Accuracy, experts and thousands of parameters of a token\n\n"
        + table_lib.side_by_side(whole, rows="variant"),
        _table(
            "Latency of a batch, by how the band is split", own, "latency_ms", "split"
        ),
        _table("Accuracy by domain", own, "accuracy", "domain"),
        _table(
            "Latency by domain, one split for the sequence",
            *(sequence, "latency_ms", "domain"),
        ),
        _table(
            "Accuracy of one pass of the cosine, by threshold",
            *(threshold, "accuracy", "threshold"),
        ),
        _table("... and its latency", threshold, "latency_ms", "threshold"),
        *(
            _table(
                f"Saved at the mixture's own loads, {devices} devices",
                *(records_lib.only_at(saved, devices=devices), "saved", "domain"),
                is_upright=True,
            )
            for devices in variants.DEVICES
        ),
        _table(
            "Load variation at the mixture's own loads",
            *(records_lib.only_at(rows, devices="alike"), "load_variation", "domain"),
        ),
        _table(
            "Saved at the sizes of table II",
            saved,
            "saved",
            "workload",
            is_upright=True,
        ),
        *(
            _table(
                f"Saved with 32 blocks by imbalance of preferences, {loads}",
                *(
                    records_lib.only_at(saved, loads=loads, spread=0.0),
                    "saved",
                    "imbalance",
                ),
                is_upright=True,
            )
            for loads in preset.LOADS.values()
        ),
        *(
            _table(
                f"Load variation with 32 blocks by imbalance of preferences, {loads}",
                records_lib.only_at(rows, loads=loads, spread=0.0),
                *("load_variation", "imbalance"),
            )
            for loads in preset.LOADS.values()
        ),
        _table(
            "Latency with algorithm 2 and without, in the simulated testbed",
            *(played, "latency_ms", "domain"),
            is_upright=True,
        ),
        _table(
            "Accuracy in the simulated testbed",
            *(played, "accuracy", "domain"),
            is_upright=True,
        ),
        _table("Most frequent pair of experts, by block", rows, "pair_ratio", "block"),
        _table(
            "Saved by sending a token once to a device of two experts, by block",
            *(saved, "saved", "block"),
        ),
    ]
    chosen = ", ".join(claims.chosen_router(settings, rows))
    return "\n\n".join([*parts, f"Chosen routers, by seed: {chosen}."])


def _table(
    title: str,
    rows: Sequence[base.Record],
    metric: str,
    axis: str,
    *,
    is_upright: bool = False,
) -> str:
    """A metric of all variants over an axis, which goes across unless upright."""
    found = records_lib.aggregate(_on(records_lib.select(rows, metric=metric), {axis}))
    down, across = (axis, "variant") if is_upright else ("variant", axis)
    return f"### {title}\n\n{table_lib.markdown(found, rows=down, columns=across)}"


def _on(rows: Sequence[base.Record], names: set[str]) -> list[base.Record]:
    return [row for row in rows if axes.names(row) == names]
