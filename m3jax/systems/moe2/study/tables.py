"""MoE2's records as tables."""

from collections.abc import Sequence

from m3jax import base
from m3jax.evals import records as records_lib
from m3jax.evals import tables as table_lib
from m3jax.systems.moe2.study import claims, variants

METHODS = (
    *(variants.MOE2, *variants.SINGLE_AGENTS, variants.AVERAGE, variants.BEST),
    *(variants.VOTE, variants.WEIGHTED, variants.UNIFORM, variants.CLUSTER),
    *(variants.BEST_OF_CLUSTER, variants.REFIT, variants.ORACLE),
)
_BUDGETED = (
    *(variants.MOE2, variants.RESTRICT),
    *(variants.SMO_VOTE, variants.RANDOM_VOTE),
)


def tables(settings: variants.Settings, rows: Sequence[base.Record]) -> str:
    """Figure 3 and tables II to IV of the paper, as measured here, and more."""
    accuracies = records_lib.select(rows, metric="accuracy")
    parts = [
        _table(
            "Accuracy without a budget",
            _sorted(_on(accuracies, {"domains"}), METHODS),
            columns="domains",
        )
    ]
    for tau_s in settings.taus_s:
        chosen = records_lib.select(accuracies, tau_s=tau_s)
        parts.append(
            _table(
                f"Accuracy within {tau_s:g} s, by joules of a response",
                _sorted(chosen, _BUDGETED),
                columns="energy_j",
            )
        )
    parts.append(
        _wide(
            "Words of a distribution that are sent (inf: all), and bits of a token with"
            " the vocabulary of Qwen2.5",
            _on(rows, {"words_sent"}),
            rows="words_sent",
        )
    )
    parts.append(
        _table(
            "Theorem 1: loss of restricted weights above that of refitted ones, nats a"
            " word, by quantile of the subsets",
            records_lib.select(rows, metric="gap"),
            columns="quantile",
            digits=4,
        )
    )
    joint = [row for row in rows if row.variant in variants.STOPPED]
    parts.append(
        _wide(
            "Trained end to end, and without a gradient",
            _sorted(joint, tuple(variants.STOPPED)),
            rows="variant",
        )
    )
    parts.append(
        _wide(
            f"Choice among {settings.instance_experts}, by instance of a seed;"
            " certificate: gap over the loss's range",
            [r for r in rows if r.variant == variants.SELECTION and r.at],
            rows="instance",
        )
    )
    rule = claims.best_rule(rows)
    return "\n\n".join([*parts, f"The best method without a gate is: {rule}."])


def _table(title: str, chosen: list[base.Record], **layout) -> str:
    layout = {"rows": "variant", **layout}
    made = table_lib.markdown(records_lib.aggregate(chosen), **layout)
    return f"### {title}\n\n{made}"


def _wide(title: str, chosen: list[base.Record], *, rows: str) -> str:
    return f"### {title}\n\n{table_lib.side_by_side(chosen, rows=rows)}"


def _on(rows: Sequence[base.Record], axes: set[str]) -> list[base.Record]:
    return [row for row in rows if {name for name, _ in row.at} == axes]


def _sorted(rows: list[base.Record], names: tuple[str, ...]) -> list[base.Record]:
    return sorted(rows, key=lambda row: names.index(row.variant))
