"""Who works when: a timeline's events as bars, and what they wait for."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import axes as mpl_axes

from m3jax.evals import plot_style

_COLOURS = {
    "down": "#0072B2",
    "compute": "#009E73",
    "up": "#56B4E9",
    "retry": "#D55E00",
    "failed": "black",
}


def draw(
    ax: mpl_axes.Axes,
    events: Sequence[Any],
    names: Sequence[str],
    ends: Sequence[float] = (),
    *,
    title: str = "",
    colours: Mapping[str, str] = _COLOURS,
) -> None:
    """Draws a row for each worker.

    Args:
      ax: where to draw.
      events: what kept workers busy: rows with worker, start and end in seconds, and
        kind, such as ``costs.timeline_events.Event``.
      names: of the workers, the first one at the top.
      ends: seconds at which blocks end, which all workers wait for: dashed lines.
      title: heading.
      colours: kind -> colour, in the order of the legend; others are not drawn.
    """
    for kind, colour in colours.items():
        bars: Mapping[int, list] = {worker: [] for worker in range(len(names))}
        for event in events:
            if event.kind == kind:
                span = 1e3 * event.start, 1e3 * (event.end - event.start)
                bars[event.worker].append(span)
        for worker, spans in bars.items():
            place = worker - 0.4, 0.8
            ax.broken_barh(spans, place, facecolors=colour, linewidth=0)
        if any(bars.values()):
            ax.plot([], [], color=colour, lw=5, label=kind)
    for end in ends:
        ax.axvline(1e3 * end, color="grey", ls="--", lw=0.8)
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.set(xlabel="time (ms)", title=title, ylim=(len(names) - 0.5, -0.5))
    plot_style.tidy(ax)
