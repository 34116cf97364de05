"""The claims about TokCom, judged by records, and the tables beside them."""

from collections.abc import Sequence

import numpy as np

from m3jax import base
from m3jax.evals import records as records_lib
from m3jax.evals import tables as table_lib
from m3jax.studies import study
from m3jax.systems.tokcom.study import users, variants

HEADLINE_SNRS_DB = (-5, 0, 5, 10, 15)
LOCAL_SKILLS = ("recognise", "document", "sign", "lesion")
"""Skills whose answer lies in a few patches of the picture."""
STRIDE = "stride"
IMPORTANCE_OR_LEARNED = (
    *("top_k_norm", "top_k_attention", "token_merging", "learned_queries"),
)
_ACCURACY = "answer_accuracy"


def verdicts(
    settings: variants.Settings, rows: Sequence[base.Record]
) -> list[study.Verdict]:
    """All claims: training, convergence, compression, link, allocation."""
    return [
        *_headline(settings, rows),
        *_convergence(settings, rows),
        *_compression(settings, rows),
        *_separation(settings, rows),
        *_allocation(settings, rows),
    ]


def tables(settings: variants.Settings, rows: Sequence[base.Record]) -> str:
    """Accuracy by SNR, for each question that the study asks."""
    parts = [
        ("Alignment and co-training, at the budget of the paper", ablation()),
        ("Alignment or not, by length", lengths(settings)),
        ("Compressors at a quarter of the tokens", compressors(settings)),
    ]
    texts = []
    for title, names in parts:
        chosen = accuracy(rows, names)
        table = table_lib.markdown(records_lib.aggregate(chosen))
        texts.append(f"### {title}\n\n{table}")
    chosen = baseline_rows(settings, rows)
    table = table_lib.markdown(records_lib.aggregate(chosen))
    texts.append(f"### Baselines at equal channel uses, long budget\n\n{table}")
    best = table_lib.markdown(records_lib.aggregate(separation_rows(settings, rows)))
    texts.append(f"### Analog and separation at equal channel uses\n\n{best}")
    steps = records_lib.select(
        rows, variant=set(lengths(settings)), metric="steps_to_90_percent"
    )
    table = table_lib.markdown(
        records_lib.aggregate(steps), rows="variant", columns="metric", digits=0
    )
    texts.append(f"### Updates to 90 % of the final accuracy\n\n{table}")
    return "\n\n".join(texts)


def compressors(settings: variants.Settings) -> list[str]:
    """Variants that differ in the compressor alone, all tokens first."""
    names = ["window_pool", *settings.compressors]
    at = settings.length
    return [variants.ALL_TOKENS, *(variants.by_length(at, name) for name in names)]


def baseline_rows(
    settings: variants.Settings, rows: Sequence[base.Record]
) -> list[base.Record]:
    """Accuracy of TokCom and of what it replaces, at equal channel uses."""
    at = settings.length
    names = {
        variants.by_length(at): "TokCom",
        variants.unaligned(at): "no alignment",
        variants.ALIGNED_LONG: "frozen base",
        variants.NEITHER_LONG: "no alignment, frozen base",
        variants.by_length(at, STRIDE): "stride only",
        variants.RAW: "raw features",
    }
    chosen = accuracy(rows, list(names))
    out = [row._replace(variant=names[row.variant]) for row in chosen]
    return out + [
        row
        for row in separation_rows(settings, rows)
        if row.variant.startswith("separation")
    ]


def separation_rows(
    settings: variants.Settings, rows: Sequence[base.Record]
) -> list[base.Record]:
    """Accuracy of the analog link and of the best digital mode at each SNR.

    The mode is that of the best mean over seeds, chosen on the test itself: no rate
    adaptation does better.
    """
    modes = [variants.digital(*mode) for mode in settings.modes]
    analog = variants.by_length(settings.length)
    out = [row._replace(variant="analog, learned") for row in accuracy(rows, [analog])]
    for snr_db in settings.snrs_db:
        found = [
            records_lib.select(accuracy(rows, [mode]), snr_db=snr_db) for mode in modes
        ]
        best = max(found, key=lambda mode: np.mean([row.value for row in mode]))
        out += [row._replace(variant="separation, best mode") for row in best]
    return out


def accuracy(rows: Sequence[base.Record], names: Sequence[str]) -> list[base.Record]:
    """Accuracy of variants, in turn, over all skills and the channel of training."""
    chosen = records_lib.select(
        rows, variant=set(names), metric=_ACCURACY, skill=None, fading=None
    )
    return sorted(chosen, key=lambda row: names.index(row.variant))


def by_seed(
    rows: Sequence[base.Record],
    variant: str,
    metric: str = _ACCURACY,
    snrs_db: Sequence[float] | str = records_lib.ALL,
    **at: str,
) -> np.ndarray:
    """As ``records.by_seed`` over SNRs, of accuracy unless another metric is named."""
    return records_lib.by_seed(rows, variant, metric, snr_db=snrs_db, **at)


def _headline(settings, rows) -> list[study.Verdict]:
    def gain(better, worse, snrs_db=HEADLINE_SNRS_DB):
        found = (by_seed(rows, name, _ACCURACY, snrs_db) for name in (better, worse))
        return np.subtract(*found)

    over = "mean over -5 to 15 dB, equal channel uses"
    uses = [by_seed(rows, name, "channel_uses") for name in ablation()]
    if not np.all(np.array(uses) == uses[0]):
        raise ValueError("the variants of the headline differ in channel uses")
    asked = {"unit": "1", "paper": "+13.7 points"}
    return [
        study.judge(
            "Alignment + co-training beats neither",
            gain(variants.BOTH, variants.NEITHER),
            0.137,
            note=f"{over}; stage 2 of the same length",
            **asked,
        ),
        study.judge(
            "... also when that sees questions where stage 1 shows captions",
            gain(variants.BOTH, variants.NEITHER_MORE),
            0.137,
            note=f"{over}; as many examples before stage 2",
            **asked,
        ),
        study.judge(
            "... also when both see eight times as many questions",
            gain(variants.by_length(settings.length), variants.NEITHER_LONG),
            0.137,
            note=over,
            **asked,
        ),
        study.judge(
            "Alignment alone gains",
            gain(variants.ALIGNED, variants.NEITHER),
            0.0,
            unit="1",
            note=over,
        ),
        study.judge(
            "Co-training alone gains",
            gain(variants.COTRAINED, variants.NEITHER),
            0.0,
            unit="1",
            note=over,
        ),
    ]


def _convergence(settings, rows) -> list[study.Verdict]:
    metric = "steps_to_90_percent"
    return [
        study.judge(
            f"With alignment, 90 % of the final accuracy comes sooner: {n} tokens",
            by_seed(rows, variants.unaligned(n), metric)
            - by_seed(rows, variants.by_length(n), metric),
            0.0,
            unit="updates",
            paper="quicker",
            note=f"updates of stage 2; stage 1 took {settings.stage_1.steps} before",
        )
        for n in settings.lengths
    ]


def _compression(settings, rows) -> list[study.Verdict]:
    at = (10.0,)
    whole = by_seed(rows, variants.ALL_TOKENS, _ACCURACY, at)
    names = ["window_pool", *settings.compressors]

    def at_length(name):
        return variants.by_length(settings.length, name)

    lost = {n: whole - by_seed(rows, at_length(n), _ACCURACY, at) for n in names}
    out = [
        study.judge(
            f"A quarter of the tokens loses at most 3 points: {name}",
            lost[name],
            0.03,
            unit="1",
            below=True,
            note=f"at 10 dB, against all tokens at {_times(settings)} the updates",
        )
        for name in names
    ]
    chosen = [n for n in names if n in IMPORTANCE_OR_LEARNED]
    out += [
        study.judge(
            f"Stride loses more on local questions than {name}",
            _local(rows, at_length(name), at) - _local(rows, at_length(STRIDE), at),
            0.0,
            unit="1",
            note="at 10 dB",
        )
        for name in ["window_pool", *chosen]
    ]
    return out


def _times(settings) -> str:
    budgets = settings.longest, settings.long
    most, usual = (budget.steps * budget.batch_size for budget in budgets)
    return f"{most / usual:.3g} times"


def _local(rows, variant: str, snrs_db) -> np.ndarray:
    """Accuracy on questions about a few patches, for each seed."""
    return by_seed(rows, variant, _ACCURACY, snrs_db, skill=LOCAL_SKILLS)


def _separation(settings, rows) -> list[study.Verdict]:
    best = separation_rows(settings, rows)
    at = crossover(settings, best)
    place = "no crossover" if at is None else f"curves cross at {at:.1f} dB"
    return [
        study.judge(
            f"Below 0 dB the learned analog link beats separation: {snr_db:g} dB",
            by_seed(best, "analog, learned", snrs_db=(snr_db,))
            - by_seed(best, "separation, best mode", snrs_db=(snr_db,)),
            0.0,
            unit="1",
            note=place,
        )
        for snr_db in settings.snrs_db
        if snr_db < 0
    ]


def crossover(settings, best: Sequence[base.Record]) -> float | None:
    """The SNR in dB where the means of analog and separation cross, if they do."""
    gaps = []
    for snr_db in settings.snrs_db:
        analog, separate = (
            by_seed(best, name, snrs_db=(snr_db,)).mean()
            for name in ("analog, learned", "separation, best mode")
        )
        gaps.append(analog - separate)
    for i in range(len(gaps) - 1):
        if gaps[i] * gaps[i + 1] < 0 or gaps[i] == 0 != gaps[i + 1]:
            share = gaps[i] / (gaps[i] - gaps[i + 1])
            low, high = settings.snrs_db[i : i + 2]
            return low + share * (high - low)
    return None


def _allocation(settings, rows) -> list[study.Verdict]:
    def saved(weight, metric):
        joint, equal = (
            records_lib.by_seed(rows, name, metric, weight=weight)
            for name in (users.JOINT, users.EQUAL)
        )
        return 1.0 - joint / equal

    def unsolved(weight):
        solved = records_lib.by_seed(rows, users.JOINT, "all_solved", weight=weight)
        share = 1.0 - solved.mean()
        return f"; {share:.0%} of seeds with a drop unsolved" if share else ""

    saved_shares = [
        study.judge(
            f"{settings.num_users} users: joint allocation costs less than equal split"
            f"{what}",
            saved(weight, metric),
            0.2,
            unit="1",
            note=f"weight of latency {weight:g}, 20 to 500 m{unsolved(weight)}",
        )
        for what, metric in (
            ("", "weighted_cost"),
            (", loss above its floor", "reducible_cost"),
        )
        for weight in settings.weights
    ]
    search = study.judge(
        "Few users: joint allocation is within 1 % of an exhaustive search",
        by_seed(rows, users.FEW, "excess_cost"),
        0.01,
        unit="1",
        below=True,
        note="3 users, budgets cut into 32 parts",
    )
    return [*saved_shares, search]


def ablation() -> list[str]:
    """Variants at the budget of the paper."""
    return [
        variants.BOTH,
        variants.ALIGNED,
        variants.COTRAINED,
        variants.NEITHER,
        variants.NEITHER_MORE,
    ]


def lengths(settings: variants.Settings) -> list[str]:
    """Variants that differ in length and alignment alone."""
    return [
        name
        for n in settings.lengths
        for name in (variants.by_length(n), variants.unaligned(n))
    ]
