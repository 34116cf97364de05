"""Tables as pictures: values in fields, and a metric over two axes."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import image as mpl_image

from m3jax import base
from m3jax.evals import axes as axes_lib
from m3jax.evals import plot_style
from m3jax.evals import records as records_lib


def draw(
    ax: mpl_axes.Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    span: tuple[float, float] | None = None,
    digits: int = 0,
) -> mpl_image.AxesImage:
    """Draws a table of values, each written into its field.

    Args:
      ax: where to draw.
      values: [R, C]; NaN leaves a field empty.
      rows: names of the rows, the first one at the top.
      columns: names of the columns.
      span: values of the darkest and the lightest colour; None: the least and greatest.
      digits: digits after the point.

    Returns:
      What a colour bar needs.
    """
    low, high = span or (np.nanmin(values), np.nanmax(values))
    shown = ax.imshow(values, cmap="viridis", vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value < low + 0.6 * (high - low) else "black"
            text = f"{value:.{digits}f}"
            style = {"ha": "center", "va": "center", "fontsize": 7}
            ax.text(column, row, text, color=colour, **style)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    return shown


def metric_over_pair(
    records: Iterable[base.Record],
    metric: str,
    pair: tuple[str, str],
) -> mpl_figure.Figure:
    """Draws the mean over seeds of a metric over two numeric axes, a map a variant.

    Args:
      records: rows; those that do not stand on just these axes are left out.
      metric: name of the metric; fractions (unit "1") are shown in per cent.
      pair: names of the axes: down, and across.

    Returns:
      The figure; all maps share their colours.

    Raises:
      ValueError: there is no such record.
    """
    found = records_lib.aggregate(
        row
        for row in records
        if row.metric == metric and axes_lib.names(row) == set(pair)
    )
    if not found:
        raise ValueError(
            f"there is no record of {metric!r} over {pair[0]} and {pair[1]} to draw."
        )
    down, across = (
        sorted({axes_lib.coordinate(row, axis) for row in found}) for axis in pair
    )
    scale = 100.0 if found[0].unit == "1" else 1.0
    variants = list(dict.fromkeys(row.variant for row in found))
    maps = {name: np.full((len(down), len(across)), np.nan) for name in variants}
    for row in found:
        place = [axes_lib.coordinate(row, axis) for axis in pair]
        maps[row.variant][down.index(place[0]), across.index(place[1])] = (
            scale * row.mean
        )
    everything = np.stack(list(maps.values()))
    span = float(np.nanmin(everything)), float(np.nanmax(everything))
    height = 0.9 + len(variants) * (0.6 + 0.3 * len(down))
    fig = plot_style.new_figure(1.5 + 0.6 * len(across), height)
    panels = fig.subplots(len(variants), 1, squeeze=False)[:, 0]
    for ax, (name, values) in zip(panels, maps.items(), strict=True):
        named = [[f"{place:g}" for place in places] for places in (down, across)]
        shown = draw(ax, values, *named, span=span, digits=1 if scale > 1 else 2)
        ax.set_title(name, fontsize="medium")
        ax.set_ylabel(axes_lib.label(pair[0]))
    panels[-1].set_xlabel(axes_lib.label(pair[1]))
    unit = "%" if scale > 1 else found[0].unit
    label = f"{metric.replace('_', ' ')} ({unit})"
    fig.colorbar(shown, ax=list(panels), label=label)
    return fig
