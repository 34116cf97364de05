"""Pictures of what a channel does: error rates over SNR, errors by importance."""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib import axes as mpl_axes

from m3jax import base
from m3jax.evals import error_counts, plot_style
from m3jax.ops import units


def error_rate_vs_snr(
    counts: Mapping[str, error_counts.ErrorCounts],
    theory: Mapping[str, Callable[[np.ndarray], base.Array]] | None = None,
    *,
    rate_name: str = "bit error rate",
    confidence: float = 0.95,
    clustered: bool = False,
    ax: mpl_axes.Axes | None = None,
    title: str = "",
) -> mpl_axes.Axes:
    """Draws counted error rates with their intervals, and exact rates as lines.

    A point without any error is a hollow triangle at the upper end of its interval: the
    rate lies below. Points at infinite SNR are left out.

    Args:
      counts: label -> what was counted.
      theory: label -> ``linear Es/N0 [K] -> rate [K]``; the same label gives the same
        colour, and a line.
      rate_name: what the rate is.
      confidence: probability that an interval covers the true rate.
      clustered: whether trials of a batch depend on each other, as in a fade.
      ax: where to draw; a new figure's axes if None.
      title: heading.

    Returns:
      The axes.

    Raises:
      ValueError: there is no count at a finite SNR.
    """
    theory = theory or {}
    snrs_db = np.array([snr for one in counts.values() for snr in one.snrs_db])
    snrs_db = snrs_db[np.isfinite(snrs_db)]
    if not snrs_db.size:
        raise ValueError("there is no count at a finite SNR to draw.")
    ax = plot_style.new_figure().subplots() if ax is None else ax
    styles = plot_style.styles([*counts, *theory])
    fine = np.linspace(snrs_db.min(), snrs_db.max(), 100)
    for name, exact in theory.items():
        label = None if name in counts else name
        rates = np.asarray(exact(units.db_to_lin(fine)))
        ax.plot(fine, rates, color=styles[name].colour, lw=1.2, label=label)
    for name, found in counts.items():
        interval = found.interval(confidence, clustered)
        _draw_rates(ax, found.snrs_db, interval, styles[name], name)
    ax.set(xlabel="SNR Es/N0 (dB)", ylabel=rate_name, title=title)
    ax.set_yscale("log")
    plot_style.tidy(ax)
    ax.legend(frameon=False, fontsize="small")
    return ax


def error_by_importance(
    importance: base.Array,
    errors: Mapping[str, base.Array],
    *,
    error_name: str = "mean square error",
    ax: mpl_axes.Axes | None = None,
    title: str = "",
) -> mpl_axes.Axes:
    """Draws the error of tokens against their importance, a line for each scheme.

    Tokens of equal importance are one point, at the mean of their errors. The legend
    says each scheme's mean error weighted by importance, which is what unequal
    protection minimises.

    Args:
      importance: ``[L]``, not negative, not all 0.
      errors: scheme, such as ``"equal"``, to the error of each token ``[L]``.
      error_name: what the errors are.
      ax: where to draw; a new figure's axes if None.
      title: heading.

    Returns:
      The axes.

    Raises:
      ValueError: there is nothing to draw, or an error is missing for some token.
    """
    importance = np.asarray(importance, np.float64)
    if not errors:
        raise ValueError("there is no scheme whose error could be drawn.")
    if importance.ndim != 1 or not importance.sum() > 0.0:
        raise ValueError(f"importance must be [L] and not all 0, got {importance}.")
    ax = plot_style.new_figure().subplots() if ax is None else ax
    levels, level_of = np.unique(importance, return_inverse=True)
    for name, style in plot_style.styles(errors).items():
        values = np.asarray(errors[name], np.float64)
        if values.shape != importance.shape:
            raise ValueError(
                f"errors of {name!r} have shape {values.shape}, importance has "
                f"{importance.shape}."
            )
        means = np.bincount(level_of, values) / np.bincount(level_of)
        weighted = np.average(values, weights=importance)
        look = {"color": style.colour, "marker": style.marker, "ms": 4, "lw": 1.6}
        ax.plot(levels, means, **look, label=f"{name} (weighted {weighted:.3g})")
    ax.set(xlabel="importance", ylabel=error_name, title=title)
    ax.set_yscale("log")
    plot_style.tidy(ax)
    ax.legend(frameon=False, fontsize="small")
    return ax


def _draw_rates(ax: mpl_axes.Axes, snrs_db, interval, style, name: str) -> None:
    """Points with bars of their intervals; a triangle where nothing was wrong."""
    snrs_db = np.asarray(snrs_db)
    rate, low, high = interval
    wrong = np.isfinite(snrs_db) & (rate > 0.0)
    none_wrong = np.isfinite(snrs_db) & (rate == 0.0) & (high < 1.0)
    bars = np.nan_to_num(np.stack([rate - low, high - rate]))[:, wrong]
    look = {"color": style.colour, "ls": "none", "capsize": 3, "ms": 4}
    ax.errorbar(
        snrs_db[wrong], rate[wrong], bars, marker=style.marker, label=name, **look
    )
    at_most = {"marker": "v", "mfc": "none", "ls": "none", "ms": 6}
    ax.plot(snrs_db[none_wrong], high[none_wrong], color=style.colour, **at_most)
