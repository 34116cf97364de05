"""How every picture looks: colours, an axis that can show infinity, labels."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker
from matplotlib.backends import backend_agg

from m3jax.evals import axes

# Okabe and Ito: told apart with every common colour blindness; markers help in grey.
_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#000000", "#8A5A2B"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
GREY = "#555555"


class Style(NamedTuple):
    """Colour, marker and dashes of one line."""

    colour: str
    marker: str
    dashes: object


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Gives each name, in order of appearance, a style; after eight they recur."""
    return {
        name: Style(
            _COLOURS[i % len(_COLOURS)],
            _MARKERS[i % len(_MARKERS)],
            _DASHES[i % len(_DASHES)],
        )
        for i, name in enumerate(dict.fromkeys(names))
    }


class NumericAxis:
    """Where a number stands: ``inf``, an SNR without noise, a gap right of the others.

    Args:
      places: the numbers to show.
      name: of the axis.
    """

    def __init__(self, places: Iterable[float], name: str = "snr_db"):
        values = sorted(set(places))
        self._name = name
        self._finite = [place for place in values if math.isfinite(place)]
        self._has_infinite = len(self._finite) < len(values)
        first, last = (self._finite[0], self._finite[-1]) if self._finite else (0, 0)
        self._infinite = last + (0.15 * (last - first) or 1.0)

    def __call__(self, place: float) -> float:
        """The position of a number."""
        return place if math.isfinite(place) else self._infinite

    def label(self, ax: mpl_axes.Axes) -> None:
        """Sets the ticks and the axis label."""
        ticks: list[float] = []
        if self._finite:
            low, high = self._finite[0], self._finite[-1]
            locator = ticker.MaxNLocator(nbins=6, steps=[1, 2, 5, 10])
            ticks = [t for t in locator.tick_values(low, high) if low <= t <= high]
        labels = [f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks]
        if self._has_infinite:
            ticks, labels = [*ticks, self._infinite], [*labels, "\N{INFINITY}"]
        ax.set_xticks(ticks, labels)
        ax.set_xlabel(axis_label(self._name))


def axis_label(axis: str) -> str:
    """Name and unit of an axis; of an SNR also what it is the ratio of."""
    return "SNR Es/N0 (dB)" if axis == "snr_db" else axes.label(axis)


def value_label(metric: str, unit: str) -> str:
    """Name and unit of a metric for people; the unit ``"1"`` is shown in per cent.

    Example:
      >>> value_label("latency_ms", "ms"), value_label("answer_accuracy", "1")
      ('latency (ms)', 'answer accuracy (%)')
    """
    name = metric.removesuffix(f"_{unit.lower()}").replace("_", " ")
    return f"{name} ({'%' if unit == '1' else unit})"


def show_values(ax: mpl_axes.Axes, metric: str, unit: str) -> None:
    """Labels the value axis; fractions (unit ``"1"``) run from 0 to 100 %."""
    ax.set_ylabel(value_label(metric, unit))
    if unit == "1":
        ax.set_ylim(0.0, 1.02)
        ax.yaxis.set_major_formatter(percent())
    tidy(ax)


def percent() -> ticker.Formatter:
    """Fractions as per cent, whose sign stands in the axis' label."""
    return ticker.PercentFormatter(1.0, symbol=None)


def tidy(ax: mpl_axes.Axes) -> None:
    """A light grid, and no box."""
    ax.grid(alpha=0.3, lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def share_legend(fig: mpl_figure.Figure, panels: Sequence[mpl_axes.Axes]) -> None:
    """One legend above all panels instead of one in each."""
    named: dict[str, object] = {}
    for ax in panels:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
        if ax.get_legend() is not None:
            ax.get_legend().remove()
    fig.legend(
        named.values(), named.keys(), loc="outside upper center", ncols=4, frameon=False
    )


def new_figure(width: float = 6.0, height: float = 4.0) -> mpl_figure.Figure:
    """A figure of so many inches that needs no display and no closing."""
    fig = mpl_figure.Figure(figsize=(width, height), layout="constrained")
    backend_agg.FigureCanvasAgg(fig)
    return fig
