"""TokCom's study in pictures."""

import pathlib
from collections.abc import Sequence

import numpy as np

from m3jax import base
from m3jax.data.edgescenes import words
from m3jax.evals import plot_style, plots
from m3jax.evals import records as records_lib
from m3jax.ops import intervals
from m3jax.studies import study
from m3jax.systems.tokcom.study import claims, measure, variants

_ACCURACY = "answer_accuracy"


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
    rows = results.records
    figures = {
        "ablation": _by_snr(rows, claims.ablation(), "budget of the paper"),
        "baselines": plots.metric_over(
            claims.baseline_rows(settings, rows), title="equal channel uses"
        ).figure,
        "lengths": _by_length(settings, rows),
        "compressors": _by_snr(
            rows, claims.compressors(settings), "a quarter of the tokens"
        ),
        "separation": _separation(settings, rows),
        "rate_accuracy": _rate_accuracy(settings, rows),
        "convergence": _convergence(settings, results),
        "losses": _losses(settings, results),
        "alignment": _alignment(results),
    }
    return [
        plots.save(figure, folder / f"{name}.png") for name, figure in figures.items()
    ]


def _by_snr(rows: Sequence[base.Record], names: list[str], title: str):
    chosen = claims.accuracy(rows, names)
    return plots.metric_over(chosen, title=title).figure


def _separation(settings: variants.Settings, rows: Sequence[base.Record]):
    """Analog and the best digital mode, and where they cross."""
    best = claims.separation_rows(settings, rows)
    ax = plots.metric_over(best, title="equal channel uses")
    at = claims.crossover(settings, best)
    if at is not None:
        ax.axvline(at, color=plot_style.GREY, ls=":", lw=1.2)
        ax.text(at, 0.05, f" {at:.1f} dB", color=plot_style.GREY)
    return ax.figure


def _by_length(settings: variants.Settings, rows: Sequence[base.Record]):
    """Accuracy against the number of tokens at two SNRs, aligned and not."""
    fig = plot_style.new_figure(8.0, 3.4)
    panels = list(fig.subplots(1, 2, sharey=True))
    kinds = {"aligned": variants.by_length, "unaligned": variants.unaligned}
    for ax, snr_db in zip(panels, (0, 10), strict=True):
        for label, style in plot_style.styles(kinds).items():
            found = [
                intervals.student_t(
                    claims.by_seed(rows, kinds[label](n), _ACCURACY, (snr_db,))
                )
                for n in settings.lengths
            ]
            means, low, high = np.transpose(found)
            look = {"color": style.colour, "marker": style.marker, "ms": 4}
            ax.plot(settings.lengths, means, **look, label=label)
            ax.fill_between(
                settings.lengths, low, high, color=style.colour, alpha=0.2, lw=0
            )
        ax.set_xscale("log", base=2)
        ax.set(title=f"{snr_db} dB", xlabel="tokens of a picture")
        plot_style.show_values(ax, "answer accuracy", "1")
    plot_style.share_legend(fig, panels)
    return fig


def _rate_accuracy(settings: variants.Settings, rows: Sequence[base.Record]):
    """Accuracy against channel uses for every compressor, a panel for each channel."""
    fig = plot_style.new_figure(8.0, 3.8)
    panels = np.atleast_1d(fig.subplots(1, len(settings.channels), sharey=True))
    names = ["window_pool", *settings.compressors]
    for ax, channel in zip(panels, settings.channels, strict=True):
        for name, style in plot_style.styles(names).items():
            points = []
            for n in sorted({*settings.lengths, settings.length}):
                variant = variants.by_length(n, name)
                at = measure.over(settings, channel)
                found = records_lib.select(
                    rows, variant=variant, metric=_ACCURACY, at=(at,)
                )
                if found:
                    uses = variants.num_uses(settings, n)
                    points.append((uses, np.mean([row.value for row in found])))
            look = {"color": style.colour, "marker": style.marker, "ms": 4}
            ax.plot(*np.transpose(points), ls=style.dashes, **look, label=name)
        ax.set_xscale("log", base=2)
        ax.set(title=channel, xlabel="channel uses")
        plot_style.show_values(ax, "answer accuracy", "1")
    plot_style.share_legend(fig, list(panels))
    return fig


def _convergence(settings: variants.Settings, results: study.Results):
    """Accuracy on the validation split by update of stage 2, mean over seeds."""
    fig = plot_style.new_figure(3.0 * len(settings.lengths), 3.2)
    panels = np.atleast_1d(fig.subplots(1, len(settings.lengths), sharey=True))
    for ax, n in zip(panels, settings.lengths, strict=True):
        pairs = {"aligned": variants.by_length(n), "unaligned": variants.unaligned(n)}
        for label, style in plot_style.styles(pairs).items():
            curves = _of(results, pairs[label])
            steps = curves[0]["step"]
            values = np.array([curve["accuracy"] for curve in curves])
            ax.plot(steps, values.mean(axis=0), color=style.colour, label=label)
            low, high = values.min(axis=0), values.max(axis=0)
            ax.fill_between(steps, low, high, color=style.colour, alpha=0.2, lw=0)
        ax.set(title=f"{n} tokens of a picture", xlabel="update of stage 2")
        plot_style.show_values(ax, "answer accuracy", "1")
    plot_style.share_legend(fig, list(panels))
    return fig


def _losses(settings: variants.Settings, results: study.Results):
    """Losses of both stages by update, first seed."""
    fig = plot_style.new_figure(8.0, 3.4)
    first, second = fig.subplots(1, 2)
    for name, style in plot_style.styles(claims.ablation()).items():
        curve = _of(results, name)[0]
        second.plot(_smooth(curve["loss"]), color=style.colour, lw=1.2, label=name)
    curve = _of(results, variants.BOTH)[0]
    first.plot(_smooth(curve["alignment_loss"]), color=plot_style.GREY, lw=1.2)
    first.set(title="stage 1", xlabel="update", ylabel="loss (nats)")
    second.set(title="stage 2", xlabel="update", ylabel="loss (nats a word)")
    for ax in (first, second):
        plot_style.tidy(ax)
    second.legend(frameon=False, fontsize="small")
    return fig


def _alignment(results: study.Results):
    """Received sounds and their captions before and after stage 1, on two axes."""
    arrays = results.arrays[variants.BOTH, 0]
    timbre = arrays["audio_caption_words"][:, 0]
    fig = plot_style.new_figure(10.0, 4.2)
    panels = list(fig.subplots(1, 2))
    for ax, when in zip(panels, ("before", "after"), strict=True):
        sounds, texts = (
            _unit(arrays[f"{when}_{name}"]) for name in ("audio", "audio_caption")
        )
        places = _principal(np.concatenate([sounds, texts]))
        sound_places, text_places = np.split(places, 2)
        names = [words.WORDS[i] for i in sorted(set(timbre.tolist()))]
        for name, style in plot_style.styles(names).items():
            is_it = timbre == words.WORDS.index(name)
            ax.scatter(
                *sound_places[is_it].T, s=9, color=style.colour, alpha=0.5, label=name
            )
            ax.scatter(
                *text_places[is_it].T,
                s=40,
                color=style.colour,
                marker="*",
                edgecolors="black",
                linewidths=0.4,
            )
        cosines = sounds @ texts.T
        own = np.diag(cosines).mean()
        ax.set_title(
            f"{when} stage 1: cosine {own:.2f} to the own caption,"
            f" {cosines.mean():.2f} to any",
            fontsize="medium",
        )
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel("principal component 1")
        ax.set_ylabel("principal component 2")
    plot_style.share_legend(fig, panels)
    fig.supxlabel("dots: received sounds; stars: their captions", fontsize="small")
    return fig


def _principal(points: np.ndarray) -> np.ndarray:
    """Coordinates on the two axes of greatest variance, [n, 2]."""
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:2].T


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def _smooth(values: Sequence[float], width: int = 10) -> np.ndarray:
    width = min(width, len(values))
    return np.convolve(values, np.ones(width) / width, mode="valid")


def _of(results: study.Results, variant: str) -> list:
    return [curves for (name, _), curves in results.curves.items() if name == variant]
