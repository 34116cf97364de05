"""What is shown of the rows: one Markdown table and one picture."""

import textwrap
from collections.abc import Sequence

from matplotlib import axes as mpl_axes
from matplotlib import ticker

from benchmarks import harness
from m3jax.evals import plot_style

_NAME_WIDTH = 50


def table(rows: Sequence[harness.Row]) -> str:
    """Lays rows out as a Markdown table, without a newline at its end."""
    lines = [
        "| work | m3jax | best peer | ratio | target | matrix product |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row.workload,
            value(row.m3jax, row.unit),
            f"{value(row.peer, row.unit)} ({row.peer_name})",
            f"{row.ratio:.2f}x",
            "-" if row.target is None else f"{row.target:.2f}x",
            f"{row.matmul_gflops:.0f} GFLOP/s",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def value(number: float, unit: str) -> str:
    """Writes a value with its unit; seconds below one as milliseconds or less.

    Example:
      >>> value(0.2071, "s"), value(2.345, "s"), value(1234.5, "1/s")
      ('207 ms', '2.35 s', '1.23e+03 1/s')
      >>> value(8.54e-7, "s")
      '0.854 us'
    """
    if unit == "s" and number < 1e-3:
        return f"{1e6 * number:.3g} us"
    if unit == "s" and number < 1.0:
        return f"{1e3 * number:.3g} ms"
    return f"{number:.3g} {unit}"


def draw(rows: Sequence[harness.Row], ax: mpl_axes.Axes | None = None) -> mpl_axes.Axes:
    """Draws each row's ratio on a logarithmic axis, with its target.

    Args:
      rows: drawn from top to bottom.
      ax: where; a new figure's axes if None.

    Returns:
      The axes; their ``figure`` can be saved.

    Raises:
      ValueError: there is no row.
    """
    if not rows:
        raise ValueError("there is no benchmark's row to draw.")
    if ax is None:
        ax = plot_style.new_figure(10.0, 1.4 + 0.42 * len(rows)).subplots()
    heights = range(len(rows))
    style = plot_style.styles(["m3jax"])["m3jax"]
    ax.axvline(1.0, color=plot_style.GREY, lw=1.2)
    ax.hlines(heights, 1.0, [row.ratio for row in rows], color=style.colour, lw=2)
    ax.plot(
        [row.ratio for row in rows], heights, "o", color=style.colour, label="measured"
    )
    marked = [(row.target, at) for at, row in zip(heights, rows, strict=True)]
    marked = [(target, at) for target, at in marked if target is not None]
    if marked:
        ax.plot(
            *zip(*marked, strict=True), "|", color="k", ms=14, mew=2, label="target"
        )
    for at, row in zip(heights, rows, strict=True):
        ax.annotate(
            f"{row.ratio:.2f}",
            (row.ratio, at),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
    names = [textwrap.fill(row.workload, _NAME_WIDTH) for row in rows]
    ax.set_yticks(heights, names, fontsize="small")
    ax.set_ylim(len(rows) - 0.4, -0.8)
    _label(ax, rows)
    return ax


def _label(ax: mpl_axes.Axes, rows: Sequence[harness.Row]) -> None:
    ratios = [row.ratio for row in rows] + [row.target or 1.0 for row in rows]
    ax.set_xscale("log")
    ax.set_xlim(min(*ratios, 0.8) / 1.25, max(*ratios, 1.25) * 1.25)
    ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    ax.set_xlabel("times as good as the best peer; right of the line m3jax is better")
    ax.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1))
