"""One tiny TokCom from config to evaluation, and what the run leaves behind."""

import dataclasses
import json
import math
import pathlib
import shutil

import jax
import numpy as np
import pytest

from m3jax import base
from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, examples, scenes
from m3jax.evals import axes, records, report
from m3jax.experiments import over_snr, running, starts, supervised
from m3jax.foundation import generalist as generalist_lib
from m3jax.foundation import sizes as sizes_lib
from m3jax.systems import tokcom
from m3jax.train import cache, checkpoints, metrics, pretrained, typed_json, workdir
from m3jax.train import config as train_config

pytestmark = pytest.mark.usefixtures("quick_compilation", "compiled_once")

STEPS, HALF, BATCH = 100, 50, 4
SNRS_DB, SEEDS, NUM_EXAMPLES = (0.0, math.inf), 2, 26
BEST = "validation_accuracy"


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """A resumed run finds the programs of the first one in a cache on disk."""
    before = jax.config.jax_compilation_cache_dir
    cache.enable_compilation_cache(tmp_path_factory.mktemp("compiled"))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def config(data_dir):
    return supervised.Supervised(
        system=tokcom.Config(
            sizes=sizes_lib.Sizes(
                decoder=sizes_lib.DecoderSizes(
                    dim=8, num_heads=2, num_kv_heads=1, depth=1, ff_dim=8
                ),
                image=sizes_lib.image(depth=1, patch=(16, 16), stem=(), mlp_dim=8),
                audio=sizes_lib.audio(depth=1, patch=(16, 40), mlp_dim=8),
            ),
            num_image_tokens=4,
            num_audio_tokens=2,
            num_reals=4,
            receiver_dim=8,
        ),
        data=dataset.Config(config="smoke", data_dir=data_dir),
        train=train_config.TrainConfig(
            steps=STEPS,
            log_every=HALF // 2,
            checkpoint_every=HALF,
            evaluate_every=HALF,
        ),
        learner=train_config.LearnerConfig(batch_size=BATCH),
        evaluator=over_snr.OverSnr(num_watched=8),
    )


@pytest.fixture(scope="module")
def trained(config, compiled_once, quick_compilation, tmp_path_factory):
    """The workdir of a finished run and its last train state."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    state = running.train(config, folder, show_progress=False)
    return folder, jax.device_get(state)


@pytest.fixture(scope="module")
def rows(trained):
    """Records of the run over a small grid."""
    grid = base.Grid("tiny", SNRS_DB, SEEDS, NUM_EXAMPLES)
    return running.evaluate(running.restore(trained[0]), grid, show_progress=False)


@pytest.fixture(scope="module")
def ours(rows):
    """Those of the run itself."""
    return records.select(rows, variant="tiny")


def check_identical(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(
        np.testing.assert_array_equal, jax.device_get(one), jax.device_get(two)
    )


def test_a_restored_run_has_the_config_and_the_parameters_of_its_end(config, trained):
    folder, state = trained
    run = running.restore(folder)
    assert run.config == config
    check_identical(run.params, state.params)


def test_an_earlier_step_can_be_restored(trained):
    folder, state = trained
    early = running.restore(folder, step=HALF).params
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), early, state.params)
    assert max(jax.tree.leaves(moved)) > 0
    with pytest.raises(FileNotFoundError, match=r"step 3 .*there: \[50, 100\]"):
        running.restore(folder, step=3)


def test_a_run_that_was_killed_goes_on_bit_for_bit(config, trained, tmp_path):
    """100 steps are 50 steps, a kill and 50 steps; the loader has new processes."""
    folder, state = trained
    half = tmp_path / "half"
    shutil.copytree(folder, half)
    shutil.rmtree(half / workdir.CHECKPOINTS / str(STEPS))
    resumed = running.train(config, half, resume=True, show_progress=False)
    check_identical(resumed, state)
    for one, two in zip(metrics.read(folder), metrics.read(half), strict=True):
        drop = ("wall_seconds", "steps_per_second")
        assert {k: v for k, v in one.items() if k not in drop} == {
            k: v for k, v in two.items() if k not in drop
        }
    assert workdir.load_run(half)["starts"] == 2


def test_a_run_leaves_what_the_docs_say(config, trained):
    folder, _ = trained
    assert (
        typed_json.from_json(json.loads((folder / "config.json").read_text())) == config
    )
    run = json.loads((folder / "run.json").read_text())
    assert {"command", "versions", "device", "commit", "wall_seconds"} <= set(run)
    assert {"jax", "flax", "m3jax"} <= set(run["versions"])
    assert run["wall_seconds"] > run["seconds_to_first_step"] > 0
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    for row in logged:
        assert {"step", "wall_seconds"} < set(row)
        assert all(isinstance(value, (int, float)) for value in row.values())
    steps = [row["step"] for row in logged if "loss" in row]
    assert steps == [25, 50, 75, 100]
    assert [row["step"] for row in logged if BEST in row] == [50, 100]
    whole = [row for row in logged if "loss" in row]
    assert {"answer_loss", "answer_accuracy", "grad_norm"} <= set(whole[0])
    assert all(np.isfinite(row["loss"]) for row in whole)
    saved = {int(p.name) for p in (folder / "checkpoints").iterdir()}
    assert saved == {HALF, STEPS}


def test_evaluation_gives_a_row_for_each_snr_seed_metric_and_skill(ours):
    names = {"answer_accuracy", "word_accuracy", "nll", "channel_uses", "bits"}
    skills = scenes.SKILLS[:-1]
    wanted = {(name, skill) for name in names for skill in (None, *skills)}
    assert {(r.metric, axes.coordinate(r, "skill")) for r in ours} == wanted
    assert len(ours) == len(wanted) * len(SNRS_DB) * SEEDS
    assert {(r.system, r.variant) for r in ours} == {("tokcom", "tiny")}
    assert {(axes.coordinate(r, "snr_db"), r.seed) for r in ours} == {
        (snr, seed) for snr in SNRS_DB for seed in range(SEEDS)
    }
    units = {r.metric: r.unit for r in ours}
    assert units["nll"] == "nat/word" and units["answer_accuracy"] == "1"
    assert {r.value for r in ours if r.metric == "channel_uses"} == {(4 + 2) * 4 / 2}


def test_the_mean_over_skills_is_the_mean_over_examples(ours):
    """Skills take turns, so 26 examples hold two of each of 13."""
    for name in ("nll", "word_accuracy"):
        for snr_db in SNRS_DB:
            picked = records.select(ours, snr_db=snr_db, seed=0)
            picked = records.select(picked, metric=name)
            whole = [r.value for r in records.select(picked, skill=None)]
            skills = [r.value for r in records.select(picked, skill=scenes.SKILLS)]
            assert len(skills) == 13
            np.testing.assert_allclose(np.mean(skills), whole[0], rtol=1e-5)


def test_seeds_differ_in_noise_and_only_in_noise(ours):
    picked = records.select(ours, metric="nll", skill=None)
    nll = {(axes.coordinate(r, "snr_db"), r.seed): r.value for r in picked}
    assert nll[0.0, 0] != nll[0.0, 1]
    assert nll[math.inf, 0] == pytest.approx(nll[math.inf, 1], rel=1e-6)


def test_a_report_reads_back_and_shows_the_floor_beside(trained, rows, tmp_path):
    shutil.copy(trained[0] / "metrics.jsonl", tmp_path)
    plots = report.write(rows, tmp_path)
    assert records.read(tmp_path) == rows
    text = (tmp_path / "table.md").read_text()
    assert text == report.markdown(rows) + "\n"
    for name in ("tiny (%)", "question only (%)", "chance (%)", "tiny at inf dB"):
        assert name in text
    assert {path.name for path in plots} == {
        "answer_accuracy_over_snr_db.png",
        *("answer_accuracy_by_skill.png", "loss.png"),
    }
    for path in map(pathlib.Path, plots):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_floor_is_what_guessing_gives(rows):
    values = {
        (row.variant, axes.coordinate(row, "skill")): row.value
        for row in records.select(rows, variant=("chance", "question only"))
    }
    assert values["chance", "count"] == pytest.approx(1 / 6)
    assert values["chance", "lesion"] == pytest.approx(1 / 5)
    assert values["question only", "prior"] > 0.5  # 39 questions have 28 facts
    assert values["question only", "describe"] == 0
    assert values["question only", None] < 0.35


def test_a_start_gives_the_system_what_it_takes_of_another_model(
    monkeypatch, config, tmp_path
):
    monkeypatch.setenv("M3JAX_MODELS_DIR", str(tmp_path))
    elder = generalist_lib.Config(sizes=config.system.sizes).make_system()
    shapes = jax.eval_shape(elder.init, jax.random.key(0), {})
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes
    )
    pretrained.export("elder", params, {"name": "elder"})
    started = dataclasses.replace(config, start="elder")
    state = jax.jit(started.build().make_learner().init)(jax.random.key(0), {})
    for name in ("image_encoder", "audio_encoder", "decoder"):
        jax.tree.map(  # bfloat16 is what is kept
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-7),
            state.params[name],
            params[name],
        )


def test_a_run_can_start_from_another(config, trained):
    started = dataclasses.replace(config, start=str(trained[0]))
    state = started.build().make_learner().init(jax.random.key(0), {})
    check_identical(state.params, running.restore(trained[0]).params)


def test_what_a_shipped_model_gives_is_not_shipped_again(data_dir):
    """A specialist's decoder is the generalist's, and is there when it is loaded."""
    chart = running.load("expert_chart")
    assert {"decoder", "silence"} <= set(chart.params)
    packed = chart.run.pack(chart.params)
    assert set(packed) == {"image_encoder", "projector"}
    source = dataset.Config("smoke", data_dir).source("test")
    batch = pipeline.as_arrays(source, 4)
    batch["snr_db"] = np.full(4, 20.0, np.float32)
    scores = jax.jit(chart.predict["answer"])(chart.params, batch, jax.random.key(0))
    assert scores["answer_accuracy"].shape == (4,)


def test_a_start_is_whole_though_it_was_shipped_in_part():
    """Adapters are shipped alone; who starts from them gets their bases too."""
    shipped, _ = pretrained.load("edge_experts")
    whole = starts.load("edge_experts")
    assert set(shipped) == {"lora"}
    assert set(whole) == {"lora", "small", "large"}
    check_identical(whole["small"], pretrained.load("edge_base")[0]["small"])


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"start": "nobody"}, FileNotFoundError, "no pretrained model 'nobody'"),
        (
            {"evaluator": over_snr.OverSnr(num_watched=0)},
            ValueError,
            "evaluator.num_watched must be",
        ),
        (
            {"system": tokcom.Config(num_image_tokens=99)},
            ValueError,
            "num_tokens=99 must be between",
        ),
        ({"data": dataset.Config(config="big")}, ValueError, "data.config is 'big'"),
        (
            {"data": dataset.Config(fresh=True, curriculum=((5, ("chess",)),))},
            ValueError,
            "'chess'.*choose some of",
        ),
        (
            {"data": dataset.Config(curriculum=((5, ("count",)),))},
            ValueError,
            "set data.fresh=True",
        ),
        (
            {"system": tokcom.Config(modalities=("video",))},
            ValueError,
            "tokcom reads video, which edge_scenes .* does not have; it has image",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_workdir_is_made(
    config, tmp_path, changes, error, told
):
    with pytest.raises(error, match=told):
        running.train(dataclasses.replace(config, **changes), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_what_is_no_experiment_is_told_what_it_lacks(tmp_path):
    with pytest.raises(
        TypeError, match="TrainConfig is no experiment: it lacks train,"
    ):
        running.train(train_config.TrainConfig(), tmp_path / "run")
    with pytest.raises(ValueError, match="--workdir is empty"):
        running.train(supervised.Supervised(tokcom.Config(), dataset.Config()), " ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("grid", [{"num_seeds": 0}, {"num_examples": 0}])
def test_a_grid_that_makes_no_sense_is_refused(trained, grid):
    with pytest.raises(ValueError, match=f"--{next(iter(grid))} must be 1 or more"):
        running.evaluate(running.restore(trained[0]), base.Grid(**grid))


def test_only_the_newest_checkpoint_of_a_torn_pair_is_lost(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "run")
    (
        tmp_path / "run" / workdir.CHECKPOINTS / str(STEPS) / "params" / "_METADATA"
    ).unlink()
    shutil.rmtree(tmp_path / "run" / workdir.CHECKPOINTS / str(STEPS) / "params")
    check_identical(
        running.restore(tmp_path / "run").params,
        checkpoints.restore_params(folder, step=HALF),
    )


@pytest.mark.slow
def test_the_generalist_trains_on_a_curriculum_of_fresh_scenes(config, tmp_path):
    generalist = generalist_lib.Config(
        sizes=dataclasses.replace(
            config.system.sizes, image=sizes_lib.image(depth=1, mlp_dim=8, stem=())
        ),
        num_image_tokens=4,
        num_audio_tokens=2,
        patch_words=examples.PATCH_WORDS,
        sound_words=examples.SOUND_WORDS,
    )
    stages = ((1, ("prior",)), (0, ("describe",)))
    changed = dataclasses.replace(
        config,
        system=generalist,
        data=dataclasses.replace(config.data, fresh=True, curriculum=stages),
        train=dataclasses.replace(config.train, steps=2, log_every=1),
    )
    running.train(changed, tmp_path / "run", show_progress=False)
    logged = [row for row in metrics.read(tmp_path / "run") if "loss" in row]
    assert [row["step"] for row in logged] == [1, 2]
    rows = running.evaluate(
        running.restore(tmp_path / "run"), base.Grid("g", num_examples=26)
    )
    ours = records.select(rows, variant="g", metric="answer_accuracy")
    assert {axes.coordinate(row, "skill") for row in ours} == {
        None,
        *scenes.SKILLS[:-1],
    }
