"""Pictures of how users share bandwidth, power and tokens."""

from collections.abc import Mapping

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

from m3jax import base
from m3jax.evals import plot_style


def cost_by_step(
    histories: Mapping[str, base.Array],
    baseline: float | None = None,
    *,
    ax: mpl_axes.Axes | None = None,
    title: str = "",
) -> mpl_axes.Axes:
    """Draws the cost after each step of an alternation, a line for each start.

    Args:
      histories: name of the start to costs ``[n]``, the first before any step.
      baseline: cost of a plan to compare with, drawn as a level line.
      ax: where to draw; a new figure's axes if None.
      title: heading.

    Returns:
      The axes.

    Raises:
      ValueError: there is nothing to draw.
    """
    if not histories:
        raise ValueError("there is no history that could be drawn.")
    ax = plot_style.new_figure().subplots() if ax is None else ax
    for name, style in plot_style.styles(histories).items():
        costs = np.asarray(histories[name], np.float64)
        moving = np.flatnonzero(np.diff(costs))
        last = moving[-1] + 1 if len(moving) else 0
        look = {"color": style.colour, "marker": style.marker, "ms": 4, "lw": 1.6}
        ax.plot(np.arange(last + 1), costs[: last + 1], **look, label=name)
    if baseline is not None:
        ax.axhline(baseline, color=plot_style.GREY, ls="--", lw=1.2, label="baseline")
    ax.set(xlabel="step", ylabel="weighted cost", title=title)
    plot_style.tidy(ax)
    ax.legend(frameon=False, fontsize="small")
    return ax


def by_distance(
    distances: base.Array, amounts: Mapping[str, base.Array]
) -> mpl_figure.Figure:
    """Draws what each user gets against the distance, a panel for each amount.

    Args:
      distances: metres, ``[U]``.
      amounts: label with its unit, such as ``"bandwidth (Hz)"``, to amounts ``[U]``.

    Returns:
      The figure.

    Raises:
      ValueError: there is nothing to draw, or an amount is missing for some user.
    """
    if not amounts:
        raise ValueError("there is no amount that could be drawn.")
    order = np.argsort(np.asarray(distances))
    fig = plot_style.new_figure(width=3.2 * len(amounts), height=3.0)
    panels = np.atleast_1d(fig.subplots(1, len(amounts)))
    styles = plot_style.styles(amounts)
    for ax, (label, values) in zip(panels, amounts.items(), strict=True):
        values = np.asarray(values)
        if values.shape != order.shape:
            raise ValueError(
                f"{label!r} has shape {values.shape}, distances have {order.shape}."
            )
        style = styles[label]
        look = {"color": style.colour, "marker": style.marker, "ms": 4, "lw": 1.2}
        ax.plot(np.asarray(distances)[order], values[order], **look)
        ax.set(xlabel="distance (m)", ylabel=label)
        ax.set_ylim(bottom=0.0)
        plot_style.tidy(ax)
    return fig
