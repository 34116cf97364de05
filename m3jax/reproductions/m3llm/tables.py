"""M3LLM's records as tables: who was compared, and how they fared."""

from collections.abc import Sequence

from m3jax import base
from m3jax.evals import records as records_lib
from m3jax.evals import tables as table_lib
from m3jax.reproductions.m3llm import measure, variants

_COUNTED = (
    *("convergence_steps", "common_level_steps"),
    *("recovery_steps", "lost_in_burst_steps"),
)
METRICS = (
    *("task_accuracy", "llm_quality", "alignment", "diversity"),
    *("channel_quality", "snr_quality", "stability", "reward"),
)


def tables(rows: Sequence[base.Record]) -> str:
    """Table I and Table II of the paper, as measured here, and what is beside them."""

    def table(title: str, chosen: list[base.Record], **layout) -> str:
        layout = {"rows": "variant", "columns": "metric", **layout}
        made = table_lib.markdown(records_lib.aggregate(chosen), **layout)
        return f"### {title}\n\n{made}"

    def named(names: list[str]) -> list[base.Record]:
        chosen = [row for row in rows if row.variant in names and row.metric in METRICS]
        return sorted(chosen, key=lambda r: (names.index(r.variant), _place(r.metric)))

    def starting(prefix: str, field: str = "variant") -> list[base.Record]:
        return [row for row in rows if getattr(row, field).startswith(prefix)]

    counted = [row for row in rows if row.metric in _COUNTED]
    return "\n\n".join(
        [
            table("Policies, two devices for each expert", named(policies(rows, ""))),
            table(
                "Policies, one device for each expert",
                named(policies(rows, variants.ALONE)),
            ),
            table("Ablations, two devices for each expert", named(trained(rows))),
            table(
                "Steps: in training until 95 % of the rise of the own reward, and of"
                " M3LLM's; until 95 % of the reward before a burst; reward lost in a"
                " burst",
                counted,
                digits=1,
            ),
            table(
                "Mean square errors of one-step forecasts, of the variance",
                starting("forecast_error/", "metric"),
                rows="metric",
                columns="variant",
            ),
            table(
                "A sign in fog: its expert at 15 dB, another at 25 dB",
                starting("case, "),
            ),
            table(
                "Experts, over a link without noise",
                starting(measure.EXPERT),
                digits=0,
            ),
        ]
    )


def policies(rows: Sequence[base.Record], suffix: str) -> list[str]:
    """M3LLM and what does not learn, in one of the worlds, in the records' order."""
    named = records_lib.select(rows, metric="task_accuracy")
    names = dict.fromkeys(row.variant for row in named)
    still = [n for n in names if n not in variants.VARIANTS and _suffix(n) == suffix]
    return [variants.FULL + suffix, *still]


def trained(rows: Sequence[base.Record]) -> list[str]:
    """Everything that learned where there are copies."""
    names = {row.variant for row in rows}
    return [n for n, v in variants.VARIANTS.items() if v.has_copies and n in names]


def _suffix(name: str) -> str | None:
    """In which world a policy is; None: in neither."""
    if name.startswith("case, "):
        return None
    return variants.ALONE if name.endswith(variants.ALONE) else ""


def _place(metric: str) -> int:
    return METRICS.index(metric)
