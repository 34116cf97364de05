"""M3LLM's study in pictures."""

import pathlib

import numpy as np

from m3jax import base
from m3jax.evals import plot_style, plots
from m3jax.evals import records as records_lib
from m3jax.ops import intervals
from m3jax.studies import study
from m3jax.systems.m3llm.study import tables, variants

_SHOWN = {
    "task_accuracy": "task accuracy",
    "llm_quality": "LLM quality",
    "channel_quality": "channel quality",
    "stability": "stability",
}


def draw(
    settings: variants.Settings, results: study.Results, folder: pathlib.Path
) -> list[pathlib.Path]:
    """Draws all pictures of the study.

    Args:
      settings: of the study.
      results: its results.
      folder: where they go.

    Returns:
      Their paths.
    """
    shared, alone = (tables.at_copies(results.records, number) for number in (2, 1))
    figures = {
        "training": _training(results, tables.trained(shared)),
        "policies": _bars(shared, tables.policies(shared)),
        "policies_one_device": _bars(alone, tables.policies(alone)),
        "ablations": _bars(shared, tables.trained(shared)),
        "burst": _burst(settings, results),
        "interference": _interference(results),
    }
    return [
        plots.save(figure, folder / f"{name}.png") for name, figure in figures.items()
    ]


def _training(results: study.Results, names: list[str]):
    """Reward without noise by environment step, mean over seeds and its interval."""
    fig = plot_style.new_figure(7.0, 4.0)
    ax = fig.subplots()
    for name, style in plot_style.styles(names).items():
        curves = _curves(results, name)
        steps = np.array(curves[0]["env_steps"])
        _band(ax, steps, [c["reward"] for c in curves], style, name)
    ax.set(xlabel="environment steps", ylabel="combined reward")
    plot_style.tidy(ax)
    ax.legend(frameon=False, fontsize="small")
    return fig


def _bars(records: list[base.Record], names: list[str]):
    """Four metrics as dots with intervals, a row for each policy."""
    fig = plot_style.new_figure(10.0, 0.8 + 0.32 * len(names))
    panels = fig.subplots(1, len(_SHOWN), sharey=True)
    for ax, (metric, label) in zip(panels, _SHOWN.items(), strict=True):
        for place, name in enumerate(reversed(names)):
            rows = records_lib.select(records, variant=name, metric=metric)
            if not rows:
                continue
            found = intervals.student_t([row.value for row in rows])
            ax.errorbar(
                float(found.mean),
                place,
                xerr=[
                    [float(found.mean - found.low)],
                    [float(found.high - found.mean)],
                ],
                fmt="o",
                ms=5,
                color="black" if name == variants.FULL else plot_style.GREY,
            )
        ax.set_xlabel(label)
        plot_style.tidy(ax)
    panels[0].set_yticks(range(len(names)), list(reversed(names)))
    return fig


def _burst(settings: variants.Settings, results: study.Results):
    """Reward at each step through a burst."""
    fig = plot_style.new_figure(7.0, 4.0)
    ax = fig.subplots()
    shown = {
        variants.FULL: (variants.FULL, "burst"),
        variants.NO_ASEM: (variants.NO_ASEM, "burst"),
        variants.SEMANTIC: (variants.REFERENCES, variants.SEMANTIC),
        variants.ORACLE: (variants.REFERENCES, variants.ORACLE),
    }
    for label, style in plot_style.styles(shown).items():
        unit, name = shown[label]
        arrays = [a[name] for (v, _), a in results.arrays.items() if v == unit]
        _band(ax, np.arange(len(arrays[0])), arrays, style, label)
    ax.axvspan(
        settings.burst_from, settings.burst_until, color=plot_style.GREY, alpha=0.15
    )
    ax.set(
        xlabel="step",
        ylabel="combined reward",
        title=f"burst on {settings.burst_share:.0%} of the links",
    )
    plot_style.tidy(ax)
    ax.legend(frameon=False, fontsize="small")
    return fig


def _interference(results: study.Results):
    """Cosine between the two actor gradients on the trunk, by step of the learner."""
    fig = plot_style.new_figure(7.0, 3.4)
    ax = fig.subplots()
    names = [variants.FULL, variants.PROJECTED, variants.NO_MCP]
    for name, style in plot_style.styles(names).items():
        found = [c["gradient_cosine"] for c in _curves(results, name)]
        _band(ax, np.arange(1, 1 + len(found[0])), found, style, name)
    ax.axhline(0.0, color=plot_style.GREY, lw=1.0, ls=":")
    ax.set(xlabel="step of the learner", ylabel="cosine of the streams' gradients")
    plot_style.tidy(ax)
    ax.legend(frameon=False, fontsize="small")
    return fig


def _band(ax, steps, values, style, label: str) -> None:
    found = intervals.student_t(np.asarray(values, np.float64), axis=0)
    ax.plot(steps, found.mean, color=style.colour, ls=style.dashes, lw=1.4, label=label)
    ax.fill_between(steps, found.low, found.high, color=style.colour, alpha=0.15, lw=0)


def _curves(results: study.Results, variant: str) -> list:
    return [c for (name, _), c in results.curves.items() if name == variant]
