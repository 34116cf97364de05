"""WDMoE's study in pictures."""

import pathlib

import numpy as np

from m3jax.data.edgetext import domains
from m3jax.evals import axes, gantt, heat_maps, plot_style, plots
from m3jax.evals import records as records_lib
from m3jax.studies import study
from m3jax.systems.wdmoe import probe, savings
from m3jax.systems.wdmoe.study import played, training, variants

_BOTH = ("per block, selected", "per sequence, selected")
_PAPER = 0.404


def draw(
    shared: training.Shared, results: study.Results, folder: pathlib.Path
) -> list[pathlib.Path]:
    """Draws all pictures of the study.

    Args:
      shared: what all units share.
      results: its results.
      folder: where they go.

    Returns:
      Their paths.
    """
    rows = results.records
    figures = {
        "loads": _loads(results),
        "pairs": _pairs(results),
        "surface": _surface(rows),
        "own_loads": _own_loads(rows),
        "bandwidths": _curve(rows, "bandwidth_mhz"),
        "tokens": _curve(rows, "tokens", log=True),
        "workloads": _workloads(rows),
        "frontier": _frontier(shared.settings, rows),
        "waiting": _waiting(shared),
    }
    return [
        plots.save(figure, folder / f"{name}.png") for name, figure in figures.items()
    ]


def _loads(results: study.Results):
    """Share of a block's tokens that each expert has, by domain, of the first seed."""
    loads = 100 * np.asarray(results.arrays[variants.MIXTURE, 0]["loads"])
    fig = plot_style.new_figure(2.6 * loads.shape[1] + 1.2, 3.4)
    panels = fig.subplots(1, loads.shape[1], sharey=True)
    for block, ax in enumerate(np.atleast_1d(panels)):
        names = [f"{n}" for n in range(loads.shape[2])]
        shown = heat_maps.draw(
            ax, loads[:, block], domains.DOMAINS, names, span=(0, loads.max())
        )
        ax.set(title=f"block {block}", xlabel="expert")
    fig.colorbar(shown, ax=panels, label="share of the tokens (%)")
    return fig


def _pairs(results: study.Results):
    """Share of the tokens that choose both experts, by block (figure 8)."""
    pairs = 100 * np.asarray(results.arrays[variants.MIXTURE, 0]["pairs"])
    fig = plot_style.new_figure(2.7 * len(pairs) + 1.0, 3.2)
    panels = fig.subplots(1, len(pairs), sharey=True)
    names = [f"{n}" for n in range(pairs.shape[1])]
    for block, ax in enumerate(np.atleast_1d(panels)):
        shown = heat_maps.draw(ax, pairs[block], names, names, span=(0, pairs.max()))
        ax.set(title=f"block {block}", xlabel="expert")
    fig.colorbar(shown, ax=panels, label="tokens that choose both (%)")
    return fig


def _surface(rows):
    """Saved by selection and split over how uneven loads and devices are."""
    saved = records_lib.select(rows, metric="saved")
    kinds = list(dict.fromkeys(axes.coordinate(row, "loads") for row in saved))
    kinds = [kind for kind in kinds if kind is not None]
    fig = plot_style.new_figure(8.0, 5.6)
    panels = fig.subplots(len(kinds), len(_BOTH), sharex=True, sharey=True)
    for line, kind in zip(panels, kinds, strict=True):
        for ax, method in zip(line, _BOTH, strict=True):
            found = records_lib.aggregate(
                records_lib.select(saved, variant=method, loads=kind)
            )
            down = sorted({axes.coordinate(r, "spread") for r in found})
            across = sorted({axes.coordinate(r, "imbalance") for r in found})
            values = np.full((len(down), len(across)), np.nan)
            for row in found:
                place = (
                    axes.coordinate(row, "spread"),
                    axes.coordinate(row, "imbalance"),
                )
                values[down.index(place[0]), across.index(place[1])] = 100 * row.mean
            names = [[f"{v:g}" for v in place] for place in (down, across)]
            shown = heat_maps.draw(ax, values, *names, span=(0, 70))
            if values.min() < 100 * _PAPER < values.max():
                ax.contour(values, [100 * _PAPER], colors="red")
            ax.set_title(f"{method}, {kind}", fontsize="medium")
    for ax in panels[-1]:
        ax.set_xlabel("imbalance of the experts' preferences")
    for ax in panels[:, 0]:
        ax.set_ylabel("spread of log C")
    fig.colorbar(shown, ax=panels, label="latency saved (%); red: 40.4 %")
    return fig


def _own_loads(rows):
    """Saved at the mixture's own loads, by domain and method."""
    chosen = [
        axes.with_at(row, devices=None)
        for row in records_lib.select(rows, metric="saved", devices="alike")
    ]
    ax = plots.dots(chosen, "saved", "domain")
    ax.axvline(_PAPER, color="grey", ls="--", lw=0.8)
    ax.set_xlabel("latency saved at the mixture's own loads (%); dashed: 40.4 %")
    return ax.figure


def _curve(rows, axis: str, log: bool = False):
    """Milliseconds of the preset over an axis (figures 5, 7 and 10)."""
    ax = plots.metric_over(
        [row for row in rows if row.variant in savings.METHODS], "latency_ms", axis
    )
    if log:
        ax.set(xscale="log", yscale="log")
        ax.set_xticks(list(_coordinates(rows, axis)))
        ax.set_xticklabels([f"{place:g}" for place in _coordinates(rows, axis)])
        ax.minorticks_off()
    ax.set_xlabel({"tokens": "tokens of a block"}.get(axis, axes.label(axis)))
    return ax.figure


def _coordinates(rows, axis: str) -> list[float]:
    found = {axes.coordinate(row, axis) for row in rows}
    return sorted(place for place in found if place is not None)


def _workloads(rows):
    """Saved at the sizes of table II, and what the paper saved."""
    ax = plots.dots(records_lib.select(rows, metric="saved"), "saved", "workload")
    ax.axvline(_PAPER, color="grey", ls="--", lw=0.8)
    ax.set_xlabel("latency saved at table II's sizes (%); dashed: 40.4 %")
    return ax.figure


def _frontier(settings: variants.Settings, rows):
    """Accuracy against latency, one split for the sequence."""
    split = probe.SPLITS["per_sequence"]
    fig = plot_style.new_figure(6.4, 4.2)
    ax = fig.subplots()
    routers = [n for n in variants.router_names(settings) if n not in variants.STOPPED]
    lines = {
        variants.VANILLA: [variants.VANILLA],
        variants.PAPER: [variants.PAPER],
        variants.BY_WEIGHT: [variants.BY_WEIGHT],
        variants.BY_PRICE: [variants.BY_PRICE],
        f"{variants.ROUTER}, by weight": routers,
        variants.TUNED_BY_PRICE: [variants.TUNED_BY_PRICE],
        **{name: [name] for name in variants.STOPPED},
    }
    for name, style in plot_style.styles(lines).items():
        wait, wait_error = _means(rows, lines[name], "latency_ms", split=split)
        right, right_error = _means(rows, lines[name], "accuracy")
        ax.errorbar(
            *(wait, right),
            xerr=wait_error,
            yerr=right_error,
            marker=style.marker,
            color=style.colour,
            label=name,
        )
    thresholds = settings.thresholds
    line = [
        [
            records_lib.by_seed(
                rows, variants.THRESHOLD, metric, threshold=float(threshold)
            ).mean()
            for threshold in thresholds
        ]
        for metric in ("latency_ms", "accuracy")
    ]
    ax.plot(*line, color="grey", lw=1, label=f"{variants.THRESHOLD}, 0 to 1")
    ax.set(xlabel="latency of a batch (ms)", ylabel="answers right (%)")
    ax.yaxis.set_major_formatter(plot_style.percent())
    plot_style.tidy(ax)
    ax.legend(frameon=False, fontsize="x-small")
    return fig


def _means(rows, names, metric: str, **places) -> np.ndarray:
    """Means over seeds and their standard errors, [2, names]."""
    found = [records_lib.by_seed(rows, name, metric, **places) for name in names]
    return np.array(
        [[x.mean() for x in found], [x.std(ddof=1) / np.sqrt(len(x)) for x in found]]
    )


def _waiting(shared: training.Shared):
    """A batch in the testbed: who works, and what everybody waits for."""
    bed = played.Testbed(shared, seed=0)
    *_, batch = shared.batches("test")[0]
    for turn in range(2):  # once to know what devices take
        found = bed(batch, (turn,))
    fig = plot_style.new_figure(8.0, 5.2)
    panels = fig.subplots(2, 1, sharex=True)
    names = [worker.name for worker in bed.workers]
    for ax, (policy, title) in zip(panels, played.POLICIES.items(), strict=True):
        happened, _ = found[policy]
        gantt.draw(ax, happened.events, names, happened.ends[0], title=title)
    panels[0].set_xlabel("")
    plot_style.share_legend(fig, panels)
    return fig
