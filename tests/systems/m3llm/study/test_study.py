"""M3LLM's study: its verdicts from records whose truth is known, and one small run."""

import json

import numpy as np
import pytest

from m3jax import base
from m3jax.evals import axes
from m3jax.studies import runner, study
from m3jax.systems.m3llm import answers, evaluation
from m3jax.systems.m3llm import world as world_lib
from m3jax.systems.m3llm.study import claims, forecasts, measure, tables, variants
from m3jax.systems.m3llm.study import whole as m3llm_study


def make_rows():
    """Records of three seeds in which every claim holds, with hardly any noise."""
    rng = np.random.default_rng(0)
    full = dict.fromkeys(evaluation.METRICS, 0.8)
    values = {name: dict(full) for name in variants.VARIANTS}
    for name in ("random", variants.SEMANTIC, variants.NETWORK):
        values[name] = dict.fromkeys(evaluation.METRICS, 0.5)
    values[variants.ORACLE] = dict.fromkeys(evaluation.METRICS, 0.85)
    values[variants.LOCAL] = {"task_accuracy": 0.5}
    values[variants.CENTRAL] = {"task_accuracy": 0.6}
    values[variants.NO_ASEM] |= {"stability": 0.5}
    values[variants.NO_MCP] |= {"llm_quality": 0.5}
    values[variants.PROJECTED] |= {"reward": 0.82}
    for name in variants.VARIANTS:
        values[name] |= {"convergence_steps": 100.0, "recovery_steps": 1.0}
        values[name] |= {"common_level_steps": 100.0}
        values[name] |= {"gradient_cosine": -0.1, "accuracy_after_failure": 0.7}
        values[name] |= {measure.SURVIVOR: 0.7}
    values[variants.JOINT] |= {"convergence_steps": 140.0}
    values[variants.JOINT] |= {"common_level_steps": 200.0}
    for name in variants.VARIANTS:
        values[name] |= {"lost_in_burst_steps": 1.0}
    values[variants.NO_ASEM] |= {"recovery_steps": 4.0, "lost_in_burst_steps": 3.0}
    del values[variants.FULL + variants.ALONE]
    placed = [(name, axes.at(copies=2), metrics) for name, metrics in values.items()]
    policies = ("random", variants.SEMANTIC, variants.NETWORK, variants.ORACLE)
    for name in (variants.FULL, *policies, variants.LOCAL, variants.CENTRAL):
        placed.append((name, axes.at(copies=1), values[name]))
    errors = {"ASEM": 0.5, "Kalman": 0.48, "EWMA": 0.7, "AR(1)": 0.6}
    for links in (forecasts.LINEAR, forecasts.BURSTY):
        for name, error in errors.items():
            placed.append((name, axes.at(links=links), {"forecast_error": error}))
    case = {"weight_of_own": 0.3, "task_accuracy": 0.4}
    placed.append(("random", axes.at(case="sign in fog"), case))
    placed.append(("expert: sign", axes.at(task="sign"), {"accuracy": 0.9}))
    return [
        base.Record("m3llm", name, at, seed, metric, v + 1e-3 * rng.normal(), "1")
        for name, at, metrics in placed
        for metric, v in metrics.items()
        for seed in range(3)
    ]


def replaced(rows, variant, metric, value, **at):
    wanted = variant, metric, axes.at(**at)
    return [
        row._replace(value=value)
        if (row.variant, row.metric, row.at) == wanted
        else row
        for row in rows
    ]


def test_claims_hold_where_the_records_say_so():
    found = claims.verdicts(make_rows())
    assert [v.claim for v in found if v.verdict != "holds"] == []
    assert len(found) >= 28


@pytest.mark.parametrize(
    ("variant", "metric", "value", "claim"),
    [
        (variants.FULL, "channel_quality", 0.55, "Channel quality"),
        (variants.FULL, "snr_quality", 0.7, "SNR quality"),
        (variants.FULL, "task_accuracy", 0.45, "Task accuracy is not lower"),
        (variants.JOINT, "convergence_steps", 110.0, "decoupled critics convergence"),
        (variants.JOINT, "common_level_steps", 110.0, "M3LLM's level"),
        ("ASEM", "forecast_error", 0.6, "Kalman"),
        (variants.FULL, "accuracy_after_failure", 0.6, "expert fails"),
        (variants.FULL, "reward", 0.7, "oracle"),
    ],
)
def test_a_claim_that_the_records_contradict_fails(variant, metric, value, claim):
    at = {"links": forecasts.LINEAR} if variant == "ASEM" else {"copies": 2}
    found = claims.verdicts(replaced(make_rows(), variant, metric, value, **at))
    told = {v.claim: v.verdict for v in found}
    alone = variants.ALONE
    assert [told[c] for c in told if claim in c and alone not in c] == ["fails"]
    assert [told[c] for c in told if claim in c and alone in c] in ([], ["holds"])


def test_tables_name_every_policy_and_ablation():
    text = tables.tables(make_rows())
    learned = [name for name in variants.VARIANTS if variants.ALONE not in name]
    for name in (*learned, variants.LOCAL, "EWMA", "expert: sign"):
        assert f"| {name} |" in text
    alone = tables.policies(tables.at_copies(make_rows(), 1))
    assert alone[0] == variants.FULL and len(alone) == 7


def test_recovery_counts_the_steps_after_the_burst():
    settings = variants.Settings(burst_from=4, burst_until=8, test_envs=1)
    rewards = np.array([1.0] * 4 + [0.2] * 4 + [0.5, 0.8, 0.96, 1.0])
    assert measure.recovery(settings, rewards) == 2.0
    assert measure.recovery(settings, np.minimum(rewards, [1] * 4 + [0.3] * 8)) == 4.0


def test_a_level_that_is_never_reached_takes_the_whole_training():
    full = {"env_steps": [0.0, 10.0, 20.0], "reward": [0.0, 1.0, 1.0]}
    slow = {"env_steps": [0.0, 10.0, 20.0], "reward": [0.0, 0.3, 0.5]}
    curves = {(variants.FULL, 0): full, (variants.JOINT, 0): slow}
    rows = [
        base.Record("m3llm", name, axes.at(copies=2), 0, "reward", 1.0, "1")
        for name, _ in curves
    ]
    made = m3llm_study.make_study("smoke").conclude(study.Results(rows, curves, {}))
    assert [row.variant for row in made] == [variants.FULL, variants.JOINT]
    level = measure.risen(0.95, full["reward"])
    assert made[0].value == pytest.approx(10 * level) and made[1].value == 20.0


@pytest.mark.slow
def test_the_smoke_study_runs_whole(tmp_path):
    text = runner.run("m3llm", "smoke", tmp_path, num_workers=0)
    verdicts = json.loads((tmp_path / "verdicts.json").read_text())
    assert len(verdicts) >= 27 and "| M3LLM |" in text
    names = ("training", "policies", "policies_one_device", "ablations", "burst")
    for name in (*names, "interference"):
        assert (tmp_path / "plots" / f"{name}.png").stat().st_size > 5_000


@pytest.mark.slow
def test_answers_are_scored_in_situations_of_any_number():
    config = variants.smoke().world
    made = world_lib.make_world(config)
    num_experts = len(made.pool.config.experts)
    rows = np.arange(5) % num_experts, np.arange(5) % config.num_examples
    snr_db = np.full((5, num_experts), 30.0, np.float32)
    own = np.eye(num_experts, dtype=np.float32)[rows[0]]
    args = made.pool, made.test_said
    found = answers.answer_rows(*args, *rows, own, snr_db)
    assert found.shape == (5,) and set(np.unique(found)) <= {0.0, 1.0}
    nothing = answers.answer_rows(*args, *rows, own, snr_db - 90.0)
    assert found.mean() >= nothing.mean()
    core = np.asarray(made.params.tasks.core)
    assert (np.diag(made.calibration.competence) > 0.3).all() and core.all(1).sum() == 0
