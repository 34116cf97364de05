"""The claims about MoE2, judged by records."""

from collections.abc import Sequence

import numpy as np

from m3jax import base
from m3jax.evals import axes
from m3jax.evals import records as records_lib
from m3jax.studies import study
from m3jax.systems.moe2.study import variants

_NOT_LOWER = -0.005
"""A difference counts as none if it is within half a point."""
_RULES = (
    *(variants.UNIFORM, variants.WEIGHTED, variants.BEST),
    *(variants.CLUSTER, variants.BEST_OF_CLUSTER, variants.REFIT),
)
"""What sees the same prompts, experts and training data, and has no gate."""


def verdicts(
    settings: variants.Settings, rows: Sequence[base.Record]
) -> list[study.Verdict]:
    """All claims: the gate, the budgets, end-to-end training, the search."""
    return [
        *_gate(rows),
        *_budgets(rows),
        *_joint(settings, rows),
        *_selection(settings, rows),
    ]


def accuracy(rows, variant: str, where: str = "tuned") -> np.ndarray:
    """Of each seed, without a budget."""
    return records_lib.by_seed(rows, variant, "accuracy", domains=where)


def best_rule(rows, where: str = "tuned") -> str:
    """The method without a gate that is best on average."""
    return max(_RULES, key=lambda name: accuracy(rows, name, where).mean())


def _gate(rows) -> list[study.Verdict]:
    ours = accuracy(rows, variants.MOE2)
    agents = [accuracy(rows, name) for name in variants.SINGLE_AGENTS]
    best_agent = agents[int(np.argmax([agent.mean() for agent in agents]))]
    bases = [accuracy(rows, name) for name in variants.BASES.values()]
    best_base = bases[int(np.argmax([agent.mean() for agent in bases]))]
    found = [
        study.judge(
            f"MoE2 answers above {what} by {asked:.1%} of it",
            ours / other - 1.0,
            asked,
            unit="1",
            paper=f"+{asked:.1%}",
            note=f"in points: {100 * (ours - other).mean():.1f}{note}",
        )
        for what, other, asked, note in (
            ("the best untuned single agent", best_base, 0.144, ""),
            (
                "the best single agent",
                best_agent,
                0.144,
                "; a generalist tuned with the compute of all experts counts too",
            ),
            ("majority voting", accuracy(rows, variants.VOTE), 0.073, ""),
            ("the average expert", accuracy(rows, variants.AVERAGE), 0.164, ""),
        )
    ]
    rule = best_rule(rows)
    found.append(
        study.judge(
            "MoE2 answers above the best method without a gate",
            ours - accuracy(rows, rule),
            0.0,
            unit="1",
            note=f"which is: {rule}",
        )
    )
    rule = best_rule(rows, "held out")
    found.append(
        study.judge(
            "MoE2 answers above the best method without a gate on a domain that nothing"
            " was tuned on",
            accuracy(rows, variants.MOE2, "held out")
            - accuracy(rows, rule, "held out"),
            0.0,
            unit="1",
            note=f"which is: {rule}",
        )
    )
    return found


def _budgets(rows) -> list[study.Verdict]:
    points = grid(rows)

    def means(variant: str) -> np.ndarray:
        per_point = [
            records_lib.by_seed(rows, variant, "accuracy", tau_s=t, energy_j=e)
            for t, e in points
        ]
        return np.mean(per_point, axis=0)

    found = [
        study.judge(
            f"Over the grid of budgets, {better} is not lower than {worse}",
            means(better) - means(worse),
            _NOT_LOWER,
            unit="1",
            paper=paper,
            note="mean over the grid; not lower: above minus half a point",
        )
        for better, worse, paper in (
            (variants.MOE2, variants.SMO_VOTE, "+1.38 % at 2 s"),
            (variants.SMO_VOTE, variants.RANDOM_VOTE, "+9.4 % at 2 s"),
        )
    ]
    found.append(
        study.judge(
            "The refitted loss never rises with a budget",
            _largest_rise(rows, points),
            1e-9,
            unit="nat/word",
            below=True,
            note="the greatest rise between neighbours of the grid",
        )
    )
    return found


def grid(rows) -> list[tuple[float, float]]:
    """The budgets, (seconds, joules)."""
    found = {
        (axes.coordinate(row, "tau_s"), axes.coordinate(row, "energy_j"))
        for row in rows
        if row.metric == "refit_loss"
    }
    return sorted(found)


def _largest_rise(rows, points) -> np.ndarray:
    losses = {
        (t, e): records_lib.by_seed(
            rows, variants.MOE2, "refit_loss", tau_s=t, energy_j=e
        )
        for t, e in points
    }
    rises = [
        losses[more] - losses[less]
        for more in points
        for less in points
        if more != less and more[0] >= less[0] and more[1] >= less[1]
    ]
    # Where nobody passes the loss is infinite, and inf - inf says nothing.
    return np.max(np.nan_to_num(rises, nan=0.0, neginf=0.0), axis=0)


def _joint(settings: variants.Settings, rows) -> list[study.Verdict]:
    def of(name: str, metric: str) -> np.ndarray:
        return records_lib.by_seed(rows, name, metric)

    energy_j = settings.joint_budget[1]
    found = [
        study.judge(
            "End to end keeps its budget of energy",
            of(variants.JOINT, "energy_j") / energy_j,
            1.0,
            unit="1",
            below=True,
            note=f"mean energy of a response over {energy_j:g} J",
        )
    ]
    return found + [
        study.judge(
            f"End to end is above the same {name}",
            of(variants.JOINT, "accuracy") - of(name, "accuracy"),
            0.0,
            unit="1",
            note=f"which spends {of(name, 'energy_j').mean():.1f} J a response,"
            f" end to end {of(variants.JOINT, 'energy_j').mean():.1f} J",
        )
        for name, stopped in variants.STOPPED.items()
        if stopped
    ]


def _selection(settings: variants.Settings, rows) -> list[study.Verdict]:
    return [
        study.judge(
            f"{settings.instance_experts} experts: within 1 % of the loss's range is"
            f" certified in {settings.instance_s:g} s",
            records_lib.by_seed(rows, variants.SELECTION, "share_certified"),
            0.95,
            unit="1",
            note="share of drawn instances",
        )
    ]
