"""M3LLM's records as tables: who was compared, and how they fared."""

from collections.abc import Sequence

from m3jax import base
from m3jax.evals import axes
from m3jax.evals import records as records_lib
from m3jax.evals import tables as table_lib
from m3jax.systems.m3llm import evaluation
from m3jax.systems.m3llm.study import variants

_COUNTED = (
    *("convergence_steps", "common_level_steps"),
    *("recovery_steps", "lost_in_burst_steps"),
)


def tables(rows: Sequence[base.Record]) -> str:
    """Table I and Table II of the paper, as measured here, and what is beside them."""

    def table(title: str, chosen: list[base.Record], **layout) -> str:
        layout = {"rows": "variant", "columns": "metric", **layout}
        made = table_lib.markdown(records_lib.aggregate(chosen), **layout)
        return f"### {title}\n\n{made}"

    def named(names: list[str], there: list[base.Record]) -> list[base.Record]:
        chosen = [
            r for r in there if r.variant in names and r.metric in evaluation.METRICS
        ]
        return sorted(chosen, key=lambda r: (names.index(r.variant), _place(r.metric)))

    shared, alone = at_copies(rows, 2), at_copies(rows, 1)
    counted = [row for row in shared if row.metric in _COUNTED]
    foggy = [row for row in rows if axes.coordinate(row, "case")]
    clean = records_lib.select(rows, metric="accuracy")
    return "\n\n".join(
        [
            table(
                "Policies, two devices for each expert", named(policies(shared), shared)
            ),
            table(
                "Policies, one device for each expert",
                named(policies(alone), alone),
            ),
            table(
                "Ablations, two devices for each expert", named(trained(shared), shared)
            ),
            table(
                "Steps: in training until 95 % of the rise of the own reward, and of"
                " M3LLM's; until 95 % of the reward before a burst; reward lost in a"
                " burst",
                counted,
                digits=1,
            ),
            table(
                "Mean square errors of one-step forecasts, of the variance",
                records_lib.select(rows, metric="forecast_error"),
                columns="links",
            ),
            table(
                "A sign in fog: its expert at 15 dB, another at 25 dB",
                foggy,
            ),
            table(
                "Experts, over a link without noise",
                clean,
                columns="task",
                digits=0,
            ),
        ]
    )


def at_copies(rows: Sequence[base.Record], number: int) -> list[base.Record]:
    """What was measured where so many devices host each expert, without saying so."""
    return [
        axes.with_at(row, copies=None)
        for row in records_lib.select(rows, copies=float(number))
    ]


def policies(rows: Sequence[base.Record]) -> list[str]:
    """M3LLM and what does not learn, of one world, in the records' order."""
    named = records_lib.select(rows, metric="task_accuracy")
    names = dict.fromkeys(row.variant for row in named)
    return [variants.FULL, *(n for n in names if n not in variants.VARIANTS)]


def trained(rows: Sequence[base.Record]) -> list[str]:
    """Everything that learned."""
    names = {row.variant for row in rows}
    return [name for name in variants.VARIANTS if name in names]


def _place(metric: str) -> int:
    return evaluation.METRICS.index(metric)
