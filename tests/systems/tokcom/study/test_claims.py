"""TokCom's verdicts, from records whose truth is known."""

import dataclasses

import numpy as np
import pytest

from m3jax import base
from m3jax.evals import axes
from m3jax.studies import study
from m3jax.systems.tokcom.study import claims, pictures, training, users, variants

SETTINGS = dataclasses.replace(
    variants.smoke(),
    compressors=("stride", "top_k_norm"),
    modes=((4, 16), (16, 64)),
    num_seeds=3,
    weights=(0.9,),
)
MADE = variants.make_variants(SETTINGS)


def accuracy(name, snr_db):
    """What each variant is given, without noise."""
    if name == variants.digital(4, 16):
        return 0.3 if snr_db < 0 else 0.5
    if name == variants.digital(16, 64):
        return 0.1 if snr_db < 3 else 0.9
    base_of = {
        variants.BOTH: 0.6,
        variants.ALIGNED: 0.55,
        variants.COTRAINED: 0.45,
        variants.NEITHER: 0.4,
        variants.NEITHER_MORE: 0.62,
        variants.NEITHER_LONG: 0.7,
        variants.ALL_TOKENS: 0.8,
        variants.by_length(16): 0.79,
        variants.by_length(16, "top_k_norm"): 0.7,
        variants.by_length(16, "stride"): 0.6,
    }
    return base_of.get(name, 0.5)


def make_rows():
    rows = []
    rng = np.random.default_rng(0)
    for name, variant in MADE.items():
        for seed in range(variant.num_seeds):
            row = base.Record("tokcom", name, (), seed, "", 0.0, "1")
            wobble = 0.001 * rng.normal()
            for snr_db in SETTINGS.snrs_db:
                at = row._replace(at=axes.at(snr_db=snr_db))
                value = accuracy(name, snr_db) + wobble
                rows.append(at._replace(metric="answer_accuracy", value=value))
                rows += [
                    axes.with_at(
                        at._replace(metric="answer_accuracy", value=value), skill=skill
                    )
                    for skill in claims.LOCAL_SKILLS
                ]
                tokens = variant.length * 5 / 4
                rows.append(at._replace(metric="channel_uses", value=tokens * 8))
                loss = 0.5 + 2.0 * np.exp(-tokens / 8.0)
                rows.append(at._replace(metric="nll", value=loss, unit="nat/word"))
            steps = 100.0 if variant.is_aligned else 150.0
            rows.append(
                row._replace(
                    metric="steps_to_90_percent",
                    value=steps + wobble,
                    at=axes.at(snr_db=10.0),
                )
            )
    for seed in range(SETTINGS.num_seeds):
        few, at = axes.at(snr_db=10.0), axes.at(weight=0.9)
        rows += [
            base.Record("tokcom", users.FEW, few, seed, "excess_cost", -0.001, "1"),
            base.Record("tokcom", users.JOINT, at, seed, "all_solved", 1.0, "1"),
        ]
        for metric in ("weighted_cost", "reducible_cost"):
            for name, cost in ((users.JOINT, 0.7), (users.EQUAL, 1.0)):
                value = cost + 0.001 * seed
                rows.append(base.Record("tokcom", name, at, seed, metric, value, "1"))
    return rows


ROWS = make_rows()
VERDICTS = {v.claim: v for v in claims.verdicts(SETTINGS, ROWS)}


@pytest.mark.parametrize(
    ("start", "verdict", "mean"),
    [
        ("Alignment + co-training beats neither", "holds", 0.2),
        ("... also when that sees questions", "fails", -0.02),
        ("... also when both see eight times", "fails", 0.09),
        ("Alignment alone gains", "holds", 0.15),
        ("Co-training alone gains", "holds", 0.05),
        ("With alignment, 90 % of the final accuracy comes sooner: 8", "holds", 50.0),
        ("A quarter of the tokens loses at most 3 points: window", "holds", 0.01),
        ("A quarter of the tokens loses at most 3 points: top_k", "fails", 0.1),
        ("Stride loses more on local questions than window_pool", "holds", 0.19),
        ("Stride loses more on local questions than top_k_norm", "holds", 0.1),
        ("Few users: joint allocation is within 1 %", "holds", -0.001),
        ("Below 0 dB the learned analog link beats separation: -5", "holds", 0.49),
        ("8 users: joint allocation costs less than equal", "holds", 0.3),
    ],
)
def test_each_verdict_is_that_of_its_records(start, verdict, mean):
    (found,) = [
        v
        for claim, v in VERDICTS.items()
        if claim.startswith(start) and "above its floor" not in claim
    ]
    assert found.verdict == verdict
    assert found.measured.mean == pytest.approx(mean, abs=2e-3 * max(1, mean))


def test_separation_takes_the_best_mode_at_each_snr():
    best = claims.separation_rows(SETTINGS, ROWS)
    found = {
        snr_db: claims.by_seed(best, "separation, best mode", snrs_db=(snr_db,)).mean()
        for snr_db in SETTINGS.snrs_db
    }
    expected = {-10: 0.3, -5: 0.3, 0: 0.5, 5: 0.9, 10: 0.9, 15: 0.9}
    assert found == pytest.approx(expected, abs=2e-3)


def test_the_crossover_is_where_the_lines_meet():
    """Gaps of 0.29 at 0 dB and -0.11 at 5 dB meet at 5 * 0.29 / 0.40."""
    best = claims.separation_rows(SETTINGS, ROWS)
    assert claims.crossover(SETTINGS, best) == pytest.approx(3.625, abs=0.05)


def test_methods_of_different_channel_uses_are_not_compared():
    rows = [
        row._replace(value=row.value + 1)
        if (row.variant, row.metric) == (variants.NEITHER, "channel_uses")
        else row
        for row in ROWS
    ]
    with pytest.raises(ValueError, match="differ in channel uses"):
        claims.verdicts(SETTINGS, rows)


def test_what_was_not_measured_is_named():
    with pytest.raises(ValueError, match="no answer_accuracy of 'magic'"):
        claims.by_seed(ROWS, "magic")


def test_the_losses_by_length_come_in_the_order_of_tokens():
    tokens, losses = users.losses(SETTINGS, ROWS, seed=1)
    assert tokens == [5, 10, 20]
    np.testing.assert_allclose(losses, 0.5 + 2.0 * np.exp(-np.array(tokens) / 8.0))


def test_steps_to_a_share_of_the_final_accuracy():
    steps, accuracy_by_step = [0, 20, 40, 60], [0.1, 0.5, 0.85, 1.0]
    assert training.steps_to(0.9, steps, accuracy_by_step) == pytest.approx(40 + 20 / 3)
    assert training.steps_to(0.05, steps, accuracy_by_step) == 0.0


def test_every_variant_differs_and_equal_uses_are_equal():
    made = variants.make_variants(variants.Settings())
    assert len({repr(v) for v in made.values()}) == len(made)
    config = training.make_config(variants.Settings(), made[variants.RAW])
    tokens = config.num_image_tokens + config.num_audio_tokens
    assert tokens * config.num_reals <= 20 * 64
    for length, bits in variants.Settings().modes:
        mode = made[variants.digital(length, bits)]
        config = training.make_config(variants.Settings(), mode)
        assert config.num_reals * config.link.bits == bits
        assert config.num_image_tokens == length


def test_every_picture_is_drawn(tmp_path):
    rng = np.random.default_rng(0)
    curve = {
        "step": [0, 5, 10],
        "accuracy": [0.1, 0.3, 0.4],
        "loss": [2.0, 1.0, 0.9],
        "alignment_loss": [3.0, 2.0],
    }
    words = np.tile([25, 2, 0, 0], (6, 1))
    points = {
        f"{when}_{name}": rng.normal(size=(6, 8))
        for when in ("before", "after")
        for name in ("audio", "audio_caption")
    }
    results = study.Results(
        ROWS,
        {(name, seed): curve for name in MADE for seed in (0, 1)},
        {(variants.BOTH, 0): {**points, "audio_caption_words": words}},
    )
    paths = pictures.draw(SETTINGS, results, tmp_path)
    assert len(paths) == 9
    assert all(path.stat().st_size > 5_000 for path in paths)
