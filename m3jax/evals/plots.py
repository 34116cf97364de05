"""Pictures of tidy records: a metric over an axis, by group, and training curves.

Figures are made without pyplot, so nothing opens a window and nothing is left open. In
a notebook pass axes: ``_, ax = plt.subplots(); plots.metric_over(records, ax=ax)``.
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
from m3jax.evals import axes as axes_lib
from m3jax.evals import plot_style
from m3jax.evals import records as records_lib


def metric_over(
    records: Iterable[base.Record],
    metric: str = "answer_accuracy",
    axis: str = "snr_db",
    *,
    ax: mpl_axes.Axes | None = None,
    title: str = "",
) -> mpl_axes.Axes:
    """Draws the mean over seeds over a numeric axis, with its 95 % confidence band.

    A line for each variant; variants measured where nothing varies, such as chance, are
    dashed horizontal lines. An infinite coordinate, such as the SNR without noise,
    stands apart, on the right. Fractions (unit ``"1"``) are shown as percentages from 0
    to 100.

    Args:
      records: rows; those of other metrics, and those that stand on other axes too, are
        left out.
      metric: name of the metric.
      axis: name of the axis, such as "snr_db" or "energy_j".
      ax: where to draw; a new figure's axes if None.
      title: heading.

    Returns:
      The axes.

    Raises:
      ValueError: there is no record of this metric.
    """
    rows = [
        row for row in records if row.metric == metric and axes_lib.names(row) <= {axis}
    ]
    found = records_lib.aggregate(rows)
    if not found:
        raise ValueError(f"there is no record of the metric {metric!r} to draw.")
    ax = plot_style.new_figure().subplots() if ax is None else ax
    swept = [row for row in found if row.at]
    scale = plot_style.NumericAxis(_places(swept, axis), axis)
    for variant, style in plot_style.styles(row.variant for row in swept).items():
        line = [row for row in swept if row.variant == variant]
        line.sort(key=lambda row: axes_lib.coordinate(row, axis))
        _draw_line(ax, line, axis, scale, style)
    _draw_baselines(ax, [row for row in found if not row.at])
    scale.label(ax)
    plot_style.show_values(ax, metric, found[0].unit)
    ax.set_title(title)
    ax.legend(frameon=False, fontsize="small")
    return ax


def metric_over_by_group(
    records: Iterable[base.Record],
    metric: str = "answer_accuracy",
    axis: str = "snr_db",
    group: str = "skill",
    *,
    columns: int = 4,
) -> list[mpl_axes.Axes]:
    """Draws small multiples, one for each coordinate on another axis.

    Args:
      records: rows; those that stand on no group are left out.
      metric: name of the metric.
      axis: name of the numeric axis.
      group: name of the axis of which each coordinate has a panel.
      columns: most panels side by side.

    Returns:
      The axes, in the order in which the groups first appear; their ``figure`` can be
      saved.

    Raises:
      ValueError: there is no record of a group of this metric.
    """
    panels_of: dict[object, list[base.Record]] = {}
    for row in records:
        name = axes_lib.coordinate(row, group)
        if row.metric == metric and name is not None:
            alone = axes_lib.with_at(row, **{group: None})
            panels_of.setdefault(name, []).append(alone)
    if not panels_of:
        raise ValueError(f"there is no record of a {group} of {metric!r} to draw.")
    columns = min(columns, len(panels_of))
    lines = math.ceil(len(panels_of) / columns)
    fig = plot_style.new_figure(2.3 * columns + 0.6, 1.9 * lines + 0.9)
    panels = list(
        fig.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
    )
    for ax, (name, rows) in zip(panels, panels_of.items(), strict=False):
        title = str(name).replace("_", " ")
        metric_over(rows, metric, axis, ax=ax, title=title).set(xlabel="", ylabel="")
    drawn, unused = panels[: len(panels_of)], panels[len(panels_of) :]
    for ax in drawn[-columns:]:  # the lowest panel of each column
        ax.tick_params(labelbottom=True)
    for ax in unused:
        ax.set_axis_off()
    fig.supxlabel(plot_style.axis_label(axis), fontsize="medium")
    unit = next(iter(panels_of.values()))[0].unit
    fig.supylabel(plot_style.value_label(metric, unit), fontsize="medium")
    plot_style.share_legend(fig, drawn)
    return drawn


def dots(
    records: Iterable[base.Record],
    metric: str,
    group: str = "skill",
    *,
    ax: mpl_axes.Axes | None = None,
) -> mpl_axes.Axes:
    """Draws a metric by the names on an axis, a row for each, with 95 % intervals.

    Args:
      records: rows; those that stand on other axes are left out.
      metric: name of the metric.
      group: name of the axis.
      ax: where to draw; a new figure's axes if None.

    Returns:
      The axes.

    Raises:
      ValueError: there is no record of a group of this metric.
    """
    found = records_lib.aggregate(
        row
        for row in records
        if row.metric == metric and axes_lib.names(row) == {group}
    )
    if not found:
        raise ValueError(f"there is no record of a {group} of {metric!r} to draw.")
    names = list(dict.fromkeys(axes_lib.coordinate(row, group) for row in found))
    if ax is None:
        ax = plot_style.new_figure(6.0, 1.0 + 0.3 * len(names)).subplots()
    for variant, style in plot_style.styles(row.variant for row in found).items():
        rows = [row for row in found if row.variant == variant]
        places = [-names.index(axes_lib.coordinate(row, group)) for row in rows]
        means = [row.mean for row in rows]
        spans = np.nan_to_num(
            [
                [row.mean - row.low for row in rows],
                [row.high - row.mean for row in rows],
            ]
        )
        look = {"color": style.colour, "fmt": style.marker, "ms": 5}
        ax.errorbar(means, places, xerr=spans, label=variant, **look)
    ax.set_yticks([-i for i in range(len(names))], [n.replace("_", " ") for n in names])
    ax.set_xlabel(plot_style.value_label(metric, found[0].unit))
    if found[0].unit == "1":
        ax.set_xlim(-0.02, 1.02)
        ax.xaxis.set_major_formatter(plot_style.percent())
    plot_style.tidy(ax)
    plot_style.share_legend(ax.figure, [ax])
    return ax


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


def _places(rows: Sequence[records_lib.Summary], axis: str) -> list[float]:
    """Where rows stand on a numeric axis."""
    places = [axes_lib.coordinate(row, axis) for row in rows]
    for place in places:
        if not axes_lib.is_numeric(place):
            raise ValueError(f"{axis} has {place!r}, which is no number to draw over.")
    return places


def _draw_line(
    ax: mpl_axes.Axes,
    rows: Sequence[records_lib.Summary],
    axis: str,
    scale: plot_style.NumericAxis,
    style: plot_style.Style,
) -> None:
    """Draws one variant: a line and band over finite places, a point at infinity."""
    look = {"color": style.colour, "marker": style.marker, "ms": 4, "lw": 1.6}
    at = _places(rows, axis)
    num_finite = sum(map(math.isfinite, at))
    finite = rows[:num_finite]
    label = rows[0].variant
    if finite:
        low, high = [row.low for row in finite], [row.high for row in finite]
        ax.fill_between(at[:num_finite], low, high, color=style.colour, alpha=0.2, lw=0)
        means = [row.mean for row in finite]
        ax.plot(at[:num_finite], means, **look, label=label)
    for row, place in zip(rows[num_finite:], at[num_finite:], strict=True):
        known = not math.isnan(row.low)
        error = [[row.mean - row.low], [row.high - row.mean]] if known else None
        name = None if finite else label
        ax.errorbar([scale(place)], [row.mean], error, **look, capsize=3, label=name)


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
