"""Pictures of tidy records: a metric against SNR, by group, and training curves.

Figures are made without pyplot, so nothing opens a window and nothing is left open. In
a notebook pass axes: ``_, ax = plt.subplots(); plots.metric_vs_snr(records, ax=ax)``.
"""

import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

from m3jax import base
from m3jax.evals import plot_style
from m3jax.evals import records as records_lib


def metric_vs_snr(
    records: Iterable[base.Record],
    metric: str = "answer_accuracy",
    *,
    ax: mpl_axes.Axes | None = None,
    title: str = "",
) -> mpl_axes.Axes:
    """Draws the mean over seeds against SNR, with its 95 % confidence band.

    A line for each variant; variants measured without SNR (``snr_db`` None), such as
    chance, are dashed horizontal lines. The point without noise stands apart, on the
    right. Fractions (unit ``"1"``) are shown as percentages from 0 to 100.

    Args:
      records: rows; those of other metrics are left out.
      metric: name of the metric.
      ax: where to draw; a new figure's axes if None.
      title: heading.

    Returns:
      The axes.

    Raises:
      ValueError: there is no record of this metric.
    """
    found = records_lib.aggregate(records_lib.select(records, metric=metric))
    if not found:
        raise ValueError(f"there is no record of the metric {metric!r} to draw.")
    ax = plot_style.new_figure().subplots() if ax is None else ax
    swept = [row for row in found if row.snr_db is not None]
    axis = plot_style.SnrAxis(row.snr_db for row in swept)
    for variant, style in plot_style.styles(row.variant for row in swept).items():
        rows = [row for row in swept if row.variant == variant]
        _draw_line(ax, sorted(rows, key=lambda row: row.snr_db), axis, style)
    _draw_baselines(ax, [row for row in found if row.snr_db is None])
    axis.label(ax)
    plot_style.show_values(ax, metric.partition("/")[0], found[0].unit)
    ax.set_title(title)
    ax.legend(frameon=False, fontsize="small")
    return ax


def metric_vs_snr_by_group(
    records: Iterable[base.Record],
    metric: str = "answer_accuracy",
    *,
    columns: int = 4,
) -> list[mpl_axes.Axes]:
    """Draws small multiples, one for each group of a metric, on common axes.

    Args:
      records: rows; groups are those of metrics named ``metric/group``.
      metric: name of the metric.
      columns: most panels side by side.

    Returns:
      The axes, in the order in which the groups first appear; their ``figure`` can be
      saved.

    Raises:
      ValueError: there is no record of a group of this metric.
    """
    prefix = f"{metric}/"
    rows = [row for row in records if row.metric.startswith(prefix)]
    if not rows:
        raise ValueError(f"there is no record of a group of {metric!r} to draw.")
    names = list(dict.fromkeys(row.metric for row in rows))
    columns = min(columns, len(names))
    lines = math.ceil(len(names) / columns)
    fig = plot_style.new_figure(2.3 * columns + 0.6, 1.9 * lines + 0.9)
    panels = list(
        fig.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
    )
    for ax, name in zip(panels, names, strict=False):
        group = name.removeprefix(prefix).replace("_", " ")
        metric_vs_snr(rows, name, ax=ax, title=group).set(xlabel="", ylabel="")
    drawn, unused = panels[: len(names)], panels[len(names) :]
    for ax in drawn[-columns:]:  # the lowest panel of each column
        ax.tick_params(labelbottom=True)
    for ax in unused:
        ax.set_axis_off()
    fig.supxlabel("SNR Es/N0 (dB)", fontsize="medium")
    fig.supylabel(plot_style.value_label(metric, rows[0].unit), fontsize="medium")
    plot_style.share_legend(fig, drawn)
    return drawn


def training_curves(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    metric: str = "loss",
    *,
    ax: mpl_axes.Axes | None = None,
    log: bool = False,
    title: str = "",
) -> mpl_axes.Axes:
    """Draws a metric against the training step.

    Args:
      runs: label -> rows of its ``metrics.jsonl``; rows without the metric, or where it
        is not finite, are left out.
      metric: name of the metric.
      ax: where to draw; a new figure's axes if None.
      log: logarithmic values.
      title: heading.

    Returns:
      The axes.

    Raises:
      ValueError: no run has the metric.
    """
    curves = {label: _curve(rows, metric) for label, rows in runs.items()}
    if not any(len(steps) for steps, _ in curves.values()):
        raise ValueError(f"no run has the metric {metric!r} to draw.")
    ax = plot_style.new_figure().subplots() if ax is None else ax
    for label, style in plot_style.styles(curves).items():
        steps, values = curves[label]
        # A metric measured a few times needs its points to be seen.
        marker = "o" if len(steps) < 30 else None
        ax.plot(
            steps, values, color=style.colour, marker=marker, ms=3, lw=1.4, label=label
        )
    ax.set(xlabel="step", ylabel=metric.replace("_", " "), title=title)
    ax.set_yscale("log" if log else "linear")
    plot_style.tidy(ax)
    if len(curves) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def save(figure: mpl_figure.Figure, path: str | os.PathLike[str]) -> pathlib.Path:
    """Saves a figure, without a display; makes the folder if need be.

    Args:
      figure: such as ``ax.figure``.
      path: the file; its suffix (``.png``, ``.svg``, ``.pdf``) is the format.

    Returns:
      The path.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return path


def _draw_line(
    ax: mpl_axes.Axes,
    rows: Sequence[records_lib.Summary],
    axis: plot_style.SnrAxis,
    style: plot_style.Style,
) -> None:
    """Draws one variant: a line and band over finite SNR, a point for infinite SNR."""
    look = {"color": style.colour, "marker": style.marker, "ms": 4, "lw": 1.6}
    finite = [row for row in rows if math.isfinite(row.snr_db)]
    label = rows[0].variant
    if finite:
        snrs = [row.snr_db for row in finite]
        low, high = [row.low for row in finite], [row.high for row in finite]
        ax.fill_between(snrs, low, high, color=style.colour, alpha=0.2, lw=0)
        ax.plot(snrs, [row.mean for row in finite], **look, label=label)
    for row in rows[len(finite) :]:
        known = not math.isnan(row.low)
        error = [[row.mean - row.low], [row.high - row.mean]] if known else None
        name = None if finite else label
        at = axis(row.snr_db)
        ax.errorbar([at], [row.mean], error, **look, capsize=3, label=name)


def _draw_baselines(ax: mpl_axes.Axes, rows: Sequence[records_lib.Summary]) -> None:
    looks = plot_style.styles(row.variant for row in rows)
    for row in rows:
        dashes = looks[row.variant].dashes
        ax.axhline(
            row.mean, color=plot_style.GREY, ls=dashes, lw=1.2, label=row.variant
        )


def _curve(
    rows: Iterable[Mapping[str, Any]], metric: str
) -> tuple[np.ndarray, np.ndarray]:
    points = [
        (row["step"], row[metric])
        for row in rows
        if metric in row and math.isfinite(row[metric])
    ]
    steps, values = np.asarray(points, np.float64).reshape(-1, 2).T
    return steps, values
