"""MSAO's study in pictures."""

import pathlib

import jax.numpy as jnp
import numpy as np

from m3jax.costs import (
    speculation,
    speculative_delays,
    speculative_rounds,
    speculative_timeline,
)
from m3jax.evals import (
    plot_style,
    plots,
    sparsity_plots,
    speculation_plots,
)
from m3jax.evals import records as records_lib
from m3jax.studies import study
from m3jax.systems.msao import evaluation, pricing
from m3jax.systems.msao.study import claims, measure, schedules, shared, variants

_SHOWN = 5
"""Pictures that are shown."""
_PHASES = ("upload_ms", "prefill_ms", "decode_ms")


def draw(
    made: shared.Shared, results: study.Results, folder: pathlib.Path
) -> list[pathlib.Path]:
    """Draws all pictures of the study.

    Args:
      made: what all units share.
      results: its results.
      folder: where they go.

    Returns:
      Their paths.
    """
    rows, settings = results.records, made.settings
    figures = {
        "sparsity": _sparsity(made),
        "timeline": _timeline(made),
        "break_even": _break_even(settings, rows),
        "staying": _staying(settings, rows),
        "plans": _plans(results),
        **{
            f"latency_{workload.split()[0]}": _latency(settings, rows, workload)
            for workload in variants.WORKLOADS
        },
        **{
            f"throughput_{workload.split()[0]}": _throughput(settings, rows, workload)
            for workload in variants.WORKLOADS
        },
    }
    return [
        plots.save(figure, folder / f"{name}.png") for name, figure in figures.items()
    ]


def _sparsity(made: shared.Shared):
    """What matters in pictures, and what is kept."""
    arrays = made.scenes(variants.QUESTIONS, 0)
    some = {name: rows[:40] for name, rows in arrays.items()}
    found = evaluation.probe(
        made.target_config.make_system(), made.params["target"], some, 40
    )
    needs = np.flatnonzero(some["needs"][:, 0])[:_SHOWN]
    titles = [variants.skill_name(some["skill"][n]) for n in needs]
    return sparsity_plots.overlays(
        some["image"][needs], found["importance"][needs], found["kept"][needs], titles
    )


def _timeline(made: shared.Shared):
    """One description, event by event, on the fastest and on the slowest link."""
    said, _, _ = made.said(variants.DESCRIBE, 0)
    own = said[variants.MSAO]
    rates = sorted(made.settings.rates_mbps, reverse=True)
    fig = plot_style.new_figure(8.0, 5.0)
    panels = fig.subplots(2, 1)
    for ax, rate in zip(panels, (rates[0], rates[-1]), strict=True):
        place = made.settings.places[rate]
        schedule = schedules.chosen(made, variants.DESCRIBE, rate)
        rounds = schedules.rounds_of(place, own, schedule)
        one = speculative_rounds.Rounds(*(part[:1] for part in rounds))
        seen = own.read.tokens(place.scale)
        total = place.scale.image_tokens + place.scale.audio_tokens
        on_edge = total if schedule.reads_all else int(seen[0])
        setting = pricing.setting(place, int(seen[0]), on_edge)
        rng = measure.link_rng(0, rate, variants.MSAO)
        delays = speculative_delays.draw(
            rng, setting, one, own.read.bits(place.scale)[:1]
        )
        happened = speculative_timeline.simulate(setting, one, delays)
        speculation_plots.timeline(
            ax,
            happened.spans,
            happened.told,
            title=f"one description, {rate:g} Mbit/s",
        )
    plot_style.share_legend(fig, panels)
    return fig


def _latency(settings, rows, workload: str):
    """Latency by phase, a panel for each rate."""
    fig = plot_style.new_figure(9.0, 5.2)
    panels = fig.subplots(2, -(-len(settings.rates_mbps) // 2), squeeze=False)
    for ax, rate in zip(panels.flat, settings.rates_mbps, strict=False):
        left = np.zeros(len(variants.VERIFIED))
        for phase in _PHASES:
            means = np.array(
                [
                    _mean(rows, variant, phase, workload, rate)
                    for variant in variants.VERIFIED
                ]
            )
            ax.barh(variants.VERIFIED, means, left=left, label=phase.split("_")[0])
            left += means
        # A split model on a slow link would hide all others.
        usual = np.sort(left)[-2]
        ax.set(title=f"{rate:g} Mbit/s", xlim=(0, 1.15 * usual))
        for place, total in enumerate(left):
            if total > 1.15 * usual:
                ax.text(1.12 * usual, place, f"{total:.0f}", ha="right", va="center")
        ax.invert_yaxis()
        ax.tick_params(labelsize="small")
        if ax not in panels[:, 0]:
            ax.set_yticklabels([])
        plot_style.tidy(ax)
    for ax in panels[-1]:
        ax.set_xlabel("latency (ms)")
    plot_style.share_legend(fig, panels.ravel())
    return fig


def _throughput(settings, rows, workload: str):
    """Words a second of a request alone, by rate, with 95 % intervals."""
    fig = plot_style.new_figure(6.5, 3.6)
    ax = fig.subplots()
    rates = sorted(settings.rates_mbps)
    for variant, style in plot_style.styles(variants.VERIFIED).items():
        seen = np.stack(
            [
                records_lib.by_seed(
                    rows, variant, "words_per_s", workload=workload, rate_mbps=rate
                )
                for rate in rates
            ]
        )
        spread = seen.std(axis=1, ddof=1) if seen.shape[1] > 1 else 0.0
        ax.errorbar(
            *(rates, seen.mean(axis=1)),
            yerr=1.96 * spread / np.sqrt(seen.shape[1]),
            label=variant,
            color=style.colour,
            marker=style.marker,
            ms=4,
        )
    ax.set(xscale="log", xlabel="rate of the link (Mbit/s)", ylabel="words a second")
    plot_style.tidy(ax)
    plot_style.share_legend(fig, [ax])
    return fig


def _break_even(settings, rows):
    """Where drafting pays for itself, and where the shipped pair is."""
    acceptances, rtts_s = jnp.linspace(0.3, 1.0, 71), jnp.linspace(0.0, 0.06, 61)
    far = claims.far(settings)._replace(rtt_s=rtts_s[:, None])
    fig = plot_style.new_figure(9.0, 3.8)
    panels = fig.subplots(1, 2, sharey=True)
    marks = {
        workload: (
            float(
                records_lib.by_seed(
                    rows, variants.MSAO, "acceptance", workload=workload
                ).mean()
            ),
            settings.rtt_s,
        )
        for workload in variants.WORKLOADS
    }
    for ax, overlap in zip(panels, (False, True), strict=True):
        found = speculation.best(far, acceptances, settings.draft_lengths[-1], overlap)
        speculation_plots.speed_up_region(
            acceptances,
            rtts_s,
            found.speed_up,
            marks=marks,
            ax=ax,
            title="ideal overlap" if overlap else "one after the other",
        )
    panels[1].set_ylabel("")
    return fig


def _staying(settings, rows):
    """Accuracy against operations where sure answers stay on the edge, unverified."""
    fig = plot_style.new_figure(8.0, 3.4)
    panels = fig.subplots(1, 2)
    rate = settings.rates_mbps[0]
    for ax, workload in zip(panels, variants.WORKLOADS, strict=True):
        points = [
            [
                records_lib.by_seed(
                    rows,
                    variants.WHOLE,
                    metric,
                    workload=workload,
                    rate_mbps=rate,
                    threshold=threshold,
                ).mean()
                for metric in ("tflop", "accuracy")
            ]
            for threshold in settings.staying
        ]
        work, right = np.transpose(points)
        ax.plot(work, 100 * right, "o-", label="unverified, by threshold")
        for threshold, x, y in zip(settings.staying, work, right, strict=True):
            ax.annotate(
                f"{threshold:g}",
                (x, 100 * y),
                xytext=(6, -4),
                textcoords="offset points",
                fontsize="small",
            )
        for variant in (variants.CLOUD, variants.EDGE, variants.MSAO):
            ax.plot(
                _mean(rows, variant, "tflop", workload, rate),
                100
                * records_lib.by_seed(
                    rows, variant, "accuracy", workload=workload
                ).mean(),
                "s",
                label=variant,
            )
        ax.set(xlabel="operations (Tflop)", ylabel="accuracy (%)", title=workload)
        plot_style.tidy(ax)
    plot_style.share_legend(fig, panels)
    return fig


def _plans(results: study.Results):
    """The best plan so far, over evaluations."""
    fig = plot_style.new_figure(5.5, 3.4)
    ax = fig.subplots()
    arrays = results.arrays[variants.PLANS, 0]
    for name in ("Bayesian", "random"):
        best = np.asarray(arrays[f"{name.lower()}_best"]) / arrays["optimum"]
        steps = 1 + np.arange(best.shape[1])
        # Nothing feasible yet is no number.
        middle = np.median(np.where(np.isfinite(best), best, np.inf), axis=0)
        ax.plot(steps, 100 * (middle - 1.0), label=f"{name}, median")
    ax.axhline(2.0, color="grey", ls="--", lw=0.8)
    ax.set(
        xlabel="evaluations", ylabel="above the enumerated optimum (%)", ylim=(-1, 40)
    )
    plot_style.tidy(ax)
    plot_style.share_legend(fig, [ax])
    return fig


def _mean(rows, variant, metric, workload, rate) -> float:
    found = records_lib.by_seed(
        rows, variant, metric, workload=workload, rate_mbps=rate
    )
    return float(found.mean())
