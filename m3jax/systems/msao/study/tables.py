"""MSAO's records as tables."""

from collections.abc import Sequence

from m3jax import base
from m3jax.evals import axes
from m3jax.evals import records as records_lib
from m3jax.evals import tables as table_lib
from m3jax.systems.msao import overheads
from m3jax.systems.msao.study import variants

_TIMES = ("latency_ms", "upload_ms", "prefill_ms", "decode_ms", "words_per_s")
_RESOURCES = (
    *("edge_tflop", "cloud_tflop", "edge_gb", "cloud_gb", "edge_j", "cloud_j"),
    "up_mbit",
)


def tables(settings: variants.Settings, rows: Sequence[base.Record]) -> str:
    """Table 1 and figures 4 to 9 of the paper, as measured here, and more."""
    parts = [_figure_4()]
    for workload in variants.WORKLOADS:
        own = records_lib.only_at(rows, workload=workload)
        verified = [row for row in own if row.variant in variants.VERIFIED]
        verified.sort(key=lambda row: variants.VERIFIED.index(row.variant))
        parts += [
            f"### {workload}: answers, and what the cloud reads\n\n"
            + table_lib.side_by_side(
                [row for row in verified if not axes.names(row)], rows="variant"
            ),
            _by(verified, "accuracy", "skill", f"{workload}: accuracy by skill"),
        ]
        for rate in settings.rates_mbps:
            here = records_lib.only_at(verified, rate_mbps=rate)
            for metrics, what in ((_TIMES, "time"), (_RESOURCES, "resources")):
                chosen = records_lib.select(here, metric=metrics)
                parts.append(
                    f"### {workload}, {rate:g} Mbit/s: {what}\n\n"
                    + table_lib.side_by_side(chosen, rows="variant")
                )
        parts += _staying(own, workload, settings.rates_mbps[0])
    plain = [row for row in rows if not axes.names(row)]
    probing = records_lib.select(
        plain, metric=("patch_auc", "needed_accuracy", "operations")
    )
    parts += [
        "### Probes and rules\n\n" + table_lib.side_by_side(probing, rows="variant"),
        "### Search of plans\n\n"
        + table_lib.side_by_side(
            records_lib.select(plain, variant=variants.PLANS), rows="variant"
        ),
    ]
    return "\n\n".join(parts)


def _figure_4() -> str:
    """What the probes add to the published models; nothing is random here."""
    lines = [
        "### What the probes add at published sizes (figure 4)",
        "",
        "| request | ms | Gflop | of all (%) | with a tower's first layer (%) | MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, asked in overheads.INPUTS.items():
        found = overheads.overhead(asked)
        cells = (
            f"{1e3 * found.seconds:.2f}",
            f"{1e-9 * found.flops:.3f}",
            f"{100 * found.flops_share:.4f}",
            f"{100 * found.flops_share_with_early:.2f}",
            f"{1e-6 * found.bytes:.1f}",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _staying(rows, workload: str, rate: float) -> list[str]:
    """Unverified answers: tables of their own, never beside verified ones."""
    metrics = "accuracy", "staying", "latency_ms", "tflop", "cloud_tflop"
    parts = []
    for variant in (variants.WHOLE, variants.WORDS):
        own = records_lib.select(rows, variant=variant, metric=metrics)
        parts.append(
            f"### {workload}, {rate:g} Mbit/s, **unverified**: {variant} on the edge"
            " below a threshold of entropy\n\n"
            + table_lib.side_by_side(
                records_lib.only_at(own, rate_mbps=rate), rows="threshold"
            )
        )
    return parts


def _by(rows, metric: str, axis: str, title: str) -> str:
    found = records_lib.aggregate(
        row for row in rows if row.metric == metric and axes.names(row) == {axis}
    )
    return f"### {title}\n\n{table_lib.markdown(found, rows=axis, columns='variant')}"
