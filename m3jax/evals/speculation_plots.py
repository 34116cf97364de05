"""Where speculation between two machines pays, and how a request goes, in pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import colors

from m3jax import base
from m3jax.evals import gantt, plot_style

_PLACES = ("edge", "uplink", "cloud", "downlink")
_KINDS = {
    **{"prefill": "#009E73", "draft": "#0072B2", "wasted": "#D55E00"},
    **{"send": "#56B4E9", "retry": "black", "verify": "#CC79A7"},
}


class _Bar(NamedTuple):
    """A span on the row of its place."""

    worker: int
    kind: str
    start: float
    end: float


def timeline(
    ax: mpl_axes.Axes, spans: Sequence[Any], told: Sequence[float], *, title: str = ""
) -> None:
    """Draws one request: who was busy, and when words were there.

    Args:
      ax: where to draw.
      spans: rows with place, kind, start and end in seconds, such as
        ``costs.speculative_timeline.Span``.
      told: seconds at which rounds ended: dashed lines.
      title: heading.
    """
    bars = [_Bar(_PLACES.index(s.place), s.kind, s.start, s.end) for s in spans]
    gantt.draw(ax, bars, _PLACES, told, title=title, colours=_KINDS)


def speed_up_region(
    acceptances: base.Array,
    rtts_s: base.Array,
    speed_ups: base.Array,
    *,
    levels: Sequence[float] = (1.0, 1.5, 2.3),
    marks: Mapping[str, tuple[float, float]] | None = None,
    ax: mpl_axes.Axes | None = None,
    title: str = "",
) -> mpl_axes.Axes:
    """Draws the speed-up over acceptance and round trip, with lines at some of them.

    Args:
      acceptances: ``[A]``, rising.
      rtts_s: ``[T]`` seconds, rising.
      speed_ups: ``[T, A]``, such as `m3jax.costs.speculation.best` gives.
      levels: where lines are drawn; 1 is where it begins to pay.
      marks: name -> (acceptance, seconds) of what was measured.
      ax: where to draw; a new figure's axes if None.
      title: heading.

    Returns:
      The axes.

    Raises:
      ValueError: shapes do not fit.
    """
    acceptances, rtts_s, values = map(np.asarray, (acceptances, rtts_s, speed_ups))
    if values.shape != (len(rtts_s), len(acceptances)):
        raise ValueError(
            f"speed_ups must be [{len(rtts_s)}, {len(acceptances)}], a row a round"
            f" trip, got {list(values.shape)}."
        )
    ax = plot_style.new_figure().subplots() if ax is None else ax
    # White is break-even: what pays is green, what costs is brown.
    reach = float(np.max(np.abs(np.log2(values)))) or 1.0
    shown = ax.pcolormesh(
        acceptances,
        1e3 * rtts_s,
        np.log2(values),
        cmap="BrBG",
        norm=colors.Normalize(-reach, reach),
        shading="nearest",
    )
    lines = ax.contour(
        acceptances, 1e3 * rtts_s, values, levels=sorted(levels), colors="k",
        linewidths=1.2,
    )  # fmt: skip
    ax.clabel(lines, fmt=lambda level: f"{level:g}x", fontsize="small")
    for name, style in plot_style.styles(marks or {}).items():
        acceptance, rtt_s = marks[name]
        look = {"color": style.colour, "marker": style.marker, "ls": "", "mec": "w"}
        ax.plot(acceptance, 1e3 * rtt_s, **look, label=name)
    if marks:
        ax.legend(frameon=False, fontsize="small")
    bar = ax.figure.colorbar(shown, ax=ax, label="tokens a second over the cloud alone")
    bar.ax.yaxis.set_major_formatter(lambda power, _: f"{2.0**power:.2g}x")
    ax.set(xlabel="acceptance", ylabel="round trip (ms)", title=title)
    return ax
