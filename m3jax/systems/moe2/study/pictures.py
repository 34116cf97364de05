"""MoE2's study in pictures."""

import pathlib

import numpy as np

from m3jax.data.edgetext import domains
from m3jax.evals import heat_maps, plot_style, plots
from m3jax.evals import records as records_lib
from m3jax.ops import intervals
from m3jax.studies import study
from m3jax.systems.moe2 import clusters
from m3jax.systems.moe2.study import tables, training, variants


def draw(
    shared: training.Shared,
    results: study.Results,
    folder: pathlib.Path,
) -> list[pathlib.Path]:
    """Draws all pictures of the study.

    Args:
      shared: what all units share.
      results: its results.
      folder: where they go.

    Returns:
      Their paths.
    """
    figures = {
        "methods": _methods(results),
        "clusters": _clusters(shared),
        "experts": _experts(shared),
        "budgets": _budgets(results),
        "pareto": _pareto(results),
        "theorem_gap": _gap(results),
    }
    return [
        plots.save(figure, folder / f"{name}.png") for name, figure in figures.items()
    ]


def _methods(results: study.Results):
    """Accuracy of all methods without a budget, tuned domains and the held-out one."""
    chosen = [
        row
        for row in records_lib.select(results.records, metric="accuracy")
        if dict(row.at).keys() == {"domains"}
    ]
    names = [n for n in tables.METHODS if any(r.variant == n for r in chosen)]
    fig = plot_style.new_figure(7.0, 4.6)
    ax = fig.subplots()
    for shift, where, marker in ((-0.12, "tuned", "o"), (0.12, "held out", "s")):
        found = [
            intervals.student_t(
                records_lib.by_seed(chosen, name, "accuracy", domains=where)
            )
            for name in names
        ]
        means = np.array([float(f.mean) for f in found])
        low = means - np.array([float(f.low) for f in found])
        high = np.array([float(f.high) for f in found]) - means
        places = np.arange(len(names)) + shift
        ax.errorbar(
            means, places, xerr=[low, high], fmt=marker, label=f"{where} domains"
        )
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel="answers right (%)")
    ax.xaxis.set_major_formatter(plot_style.percent())
    ax.invert_yaxis()
    plot_style.tidy(ax)
    ax.legend(frameon=False, fontsize="small")
    return fig


def _clusters(shared: training.Shared):
    """Which domains lie in which cluster (the paper's figure 6)."""
    num = shared.table.num_experts
    share = clusters.shares(
        shared.cluster, shared.table.domain, num, len(domains.DOMAINS)
    )
    return _heat(
        share,
        [f"{n}" for n in range(num)],
        domains.DOMAINS,
        "cluster",
        "domain",
        "share of the domain's prompts",
    )


def _experts(shared: training.Shared):
    """What each expert answers of each domain."""
    right, domain = shared.table.right, shared.table.domain
    table = [
        right[domain == number].mean(axis=0)
        if np.any(domain == number)
        else np.full(right.shape[1], np.nan)
        for number in range(len(domains.DOMAINS))
    ]
    return _heat(
        np.array(table),
        [f"{n}" for n in range(right.shape[1])],
        domains.DOMAINS,
        "expert",
        "domain",
        "answers right",
    )


def _budgets(results: study.Results):
    """Accuracy of all methods over the grid of budgets."""
    return heat_maps.metric_over_pair(
        results.records, "accuracy", ("tau_s", "energy_j")
    )


def _pareto(results: study.Results):
    """The exact front of loss, delay and energy, of the first seed."""
    points = np.asarray(results.arrays[variants.MOE2, 0]["pareto"])
    fig = plot_style.new_figure(6.0, 4.0)
    ax = fig.subplots()
    shown = ax.scatter(points[:, 1], points[:, 0], c=points[:, 2], cmap="viridis")
    ax.set(xlabel="mean delay of a response (s)", ylabel="refitted loss (nat/word)")
    fig.colorbar(shown, ax=ax, label="mean energy (J)")
    plot_style.tidy(ax)
    return fig


def _gap(results: study.Results):
    """How far restricted weights are from refitted ones, over all subsets."""
    rows = records_lib.select(results.records, metric="gap")
    found = records_lib.aggregate(rows)
    places = sorted((dict(row.at)["quantile"], row) for row in found)
    fig = plot_style.new_figure(5.0, 3.4)
    ax = fig.subplots()
    share = [place for place, _ in places]
    ax.plot(share, [row.mean for _, row in places], marker="o")
    ax.fill_between(
        share, [r.low for _, r in places], [r.high for _, r in places], alpha=0.25
    )
    ax.set(xlabel="share of subsets", ylabel="gap to refitting (nat/word)")
    plot_style.tidy(ax)
    return fig


def _heat(values, columns, rows, xlabel: str, ylabel: str, label: str):
    fig = plot_style.new_figure(6.5, 4.2)
    ax = fig.subplots()
    shown = heat_maps.draw(ax, 100 * values, rows, columns, span=(0, 100))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    fig.colorbar(shown, ax=ax, label=f"{label} (%)")
    return fig
