"""Bad input to a launcher: one line that names the thing and the mend, nothing lost."""

import dataclasses
import re
import shutil

import jax
import numpy as np
import pytest

from m3jax.data.edgescenes import dataset
from m3jax.experiments import supervised
from m3jax.systems import tokcom
from m3jax.testing import tiny
from m3jax.train import checkpoints, typed_json, workdir
from m3jax.train import config as train_config

SMOKE = "--config=configs/tokcom.py:smoke"
STEPS = 2


def check_refused(done, told):
    """One line on standard error, no traceback, and an exit code that says so."""
    assert done.code == 1, done
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    assert re.search(told, lines[0]), lines[0]
    assert "Traceback" not in done.out


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([SMOKE, "--stps=3"], "Unknown command line flag 'stps'.*--help"),
        ([SMOKE, "runs/x"], "what is 'runs/x'.*--help"),
        ([SMOKE, "--config.train.steps=abc"], "config.train.steps=abc: invalid"),
        ([SMOKE, "--config.train.nope=1"], "nope not found.*--config.train.nope=1"),
        ([SMOKE, "--config.train.steps=0"], "train.steps must be .* got 0"),
        ([SMOKE, f"--config.train.seed={10**30}"], "train.seed is .*below 2"),
        ([SMOKE, "--package=nobody_has"], "--package='nobody_has' can't be imported"),
        (["--config=configs/m3llm.py:tiny", "--config.world.copies=0"], "world.copies"),
        ([SMOKE, "--config.data.config=big"], "data.config is 'big'; choose one of"),
        ([SMOKE, "--config.system.num_reals=3"], "num_reals must be even"),
        ([SMOKE, "--config.system.link.kind=fax"], "kind must be one of .*'fax'"),
        ([SMOKE, "--config.start=nobody"], "no pretrained model 'nobody'; there are"),
        (["--config=configs/none.py"], "No such file .*'configs/none.py'; correct"),
        (["--config=configs/tokcom.py:huge"], "knows .*smoke.*, not 'huge'"),
        ([], "--config is missing; give for example configs/tokcom.py"),
        (["--resume"], "no config.json in .*; give the --workdir of a training run"),
        ([SMOKE, "--resume"], "nothing to resume: .*start without --resume"),
    ],
)
def test_train_refuses_before_it_touches_the_workdir(launch, tmp_path, argv, told):
    check_refused(launch("train.py", f"--workdir={tmp_path / 'run'}", *argv), told)
    assert not list(tmp_path.iterdir())


def test_an_empty_workdir_is_not_the_current_one(launch, tmp_path):
    done = launch("train.py", SMOKE, "--workdir=", cwd=tmp_path)
    check_refused(done, "--workdir is empty|No such file")
    assert not list(tmp_path.iterdir())


def test_a_workdir_of_an_older_version_is_refused_in_one_line(launch, tmp_path):
    old = {"type": "m3jax.experiment:Experiment", "start": "generalist"}
    typed_json.write(tmp_path / workdir.CONFIG, old)
    for argv in (("evaluate.py",), ("train.py", "--resume")):
        check_refused(
            launch(*argv, f"--workdir={tmp_path}"),
            "not in this version of m3jax; a run of an older version is restored by",
        )


@pytest.mark.parametrize(
    "argv", [("train.py",), ("evaluate.py",), ("sweep.py", "--over=train.seed=1")]
)
def test_a_workdir_must_be_named(launch, argv):
    check_refused(launch(*argv), "--workdir must have a value")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--snr_db=1:2"], "'1:2', which is no start:stop:step; write .* for example"),
        (["--snr_db=nan"], "has nan, which is no SNR"),
        (["--snr_db=loud"], "'loud', which is no number"),
        (["--snr_db=5:1:1"], "runs backwards"),
        (["--split=train"], "--split=train: value should be one of"),
        (["--num_seeds=few"], "--num_seeds=few"),
        (["--num_seeds=0"], "--num_seeds must be 1 or more, got 0"),
        (["--num_examples=0"], "--num_examples must be 1 or more, got 0"),
        (["--export=../../x"], "--export='../../x' is no name"),
        (["--export=tokcom"], "the name of a shipped model; take another name"),
        ([], "no config.json in .*; give the --workdir of a training run"),
    ],
)
def test_evaluate_refuses_what_it_cannot_measure(launch, tmp_path, argv, told):
    check_refused(launch("evaluate.py", f"--workdir={tmp_path}", *argv), told)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ("train.nope=1", "no field 'train.nope'; see the fields of TrainConfig"),
        ("train.steps", "'train.steps' is malformed; write path=value,value"),
        ("train.steps=3,many", "train.steps is int .*can't be 'many'"),
        ("train.steps=3,0", "train.steps must be .* got 0"),
        ("system.compressor=stride,zip", "compressor=zip can't be: .*got 'zip'"),
    ],
)
def test_sweep_refuses_a_grid_before_its_first_run(launch, tmp_path, over, told):
    argv = SMOKE, f"--workdir={tmp_path / 's'}", f"--over={over}"
    check_refused(launch("sweep.py", *argv), told)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run(tmp_path):
    """A finished run of two steps, its checkpoints written by hand; and its config."""
    config = supervised.Supervised(
        system=tokcom.Config(
            sizes=tiny.scene_sizes(),
            num_image_tokens=4,
            num_audio_tokens=2,
            num_reals=4,
            receiver_dim=8,
        ),
        data=dataset.Config(config="smoke"),
        train=train_config.TrainConfig(steps=STEPS),
        learner=train_config.LearnerConfig(batch_size=4),
    )
    with workdir.owned(tmp_path / "run", config) as folder:
        workdir.started(folder, config, {})
    trainer = config.build().make_learner()
    shapes = jax.eval_shape(trainer.init, jax.random.key(0), {})
    state = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    with checkpoints.Checkpointer(
        folder / workdir.CHECKPOINTS, config=typed_json.to_json(config)
    ) as checkpointer:
        for step in (STEPS, STEPS + 1):
            checkpointer.save(step, state._replace(step=np.int32(step)))
    return folder, config


def tear(step):
    """Leaves a step as a full disk or a kill of the machine might."""
    shutil.rmtree(step / "params" / "d", ignore_errors=True)
    (step / "params" / "_METADATA").write_text("{")


def test_a_torn_checkpoint_is_named_and_the_one_before_is_used(launch, run):
    folder, _ = run
    newest = folder / workdir.CHECKPOINTS / str(STEPS + 1)
    tear(newest)
    done = launch("train.py", f"--workdir={folder}", "--resume")
    assert done.code == 0, done
    assert f"checkpoint of step {STEPS + 1}" in done.err and "torn" in done.err
    assert f"using the one of step {STEPS}" in done.err.replace("\n", " ")
    assert newest.exists()


def test_a_run_without_a_whole_checkpoint_is_refused(launch, run):
    folder, _ = run
    for step in (STEPS, STEPS + 1):
        tear(folder / workdir.CHECKPOINTS / str(step))
    before = sorted(folder.rglob("*"))
    done = launch("evaluate.py", f"--workdir={folder}", "--verbosity=-2")
    check_refused(done, f"no whole parameters in {re.escape(str(folder))}")
    assert sorted(folder.rglob("*")) == before


def test_a_missing_checkpoint_is_named_with_those_there_are(launch, run):
    folder, _ = run
    done = launch("evaluate.py", f"--workdir={folder}", "--step=9")
    check_refused(done, r"no checkpoint of step 9 .*steps there: \[2, 3\]")
    shutil.rmtree(folder / workdir.CHECKPOINTS)
    done = launch("evaluate.py", f"--workdir={folder}")
    check_refused(done, f"no checkpoint in {re.escape(str(folder))}")


def test_a_workdir_of_another_config_is_refused_and_kept(launch, run):
    folder, _ = run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    argv = SMOKE, f"--workdir={folder}", "--config.train.steps=51"
    for more in ((), ("--resume",)):
        done = launch("train.py", *argv, *more)
        check_refused(done, "holds another config .*take another --workdir")
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_run_that_is_there_is_not_written_over(launch, run, tmp_path):
    folder, config = run
    changed = dataclasses.replace(
        config, cache=False, data=dataset.Config("smoke", seed=7)
    )
    typed_json.write(folder / workdir.CONFIG, typed_json.to_json(changed))
    code = (
        "from m3jax.train import workdir\n"
        f"get_config = lambda: workdir.load_config({str(folder)!r})\n"
    )
    (tmp_path / "same.py").write_text(code)
    argv = f"--config={tmp_path / 'same.py'}", f"--workdir={folder}"
    check_refused(launch("train.py", *argv), "go on with --resume")


def test_a_half_written_data_set_is_named_with_the_mend(launch, tmp_path):
    folder = tmp_path / "edge_scenes" / "smoke" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "edge_scenes-train.array_record-00000-of-00001").write_bytes(b"half")
    done = launch(
        "train.py", SMOKE, f"--workdir={tmp_path / 'run'}", M3JAX_DATA_DIR=tmp_path
    )
    check_refused(done, f"{re.escape(str(folder))} is damaged .*delete this folder")


def test_describe_tells_what_is_there_and_refuses_what_is_not(launch, run, tmp_path):
    folder, config = run
    done = launch("describe.py", folder)
    assert done.code == 0
    assert f'"steps": {config.train.steps}' in done.out
    assert re.search(r"params/decoder/\S+ +float32\[", done.out)
    check_refused(launch("describe.py", tmp_path / "none"), "no directory .*none")
    check_refused(launch("describe.py", folder, "--step=7"), "step 7")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "name a system first, such as m3llm, moe2, msao, tokcom, wdmoe"),
        (["--size=smoke"], "name a system first"),
        (
            ["nobody"],
            "no reproduction of 'nobody'; there are .'m3llm', 'moe2', .*'wdmoe'",
        ),
        (["m3jax.base"], "m3jax.base has no make_study"),
        (["tokcom", "--workers=-3"], "--workers"),
        (["tokcom", "--size=huge"], "size.*laptop"),
        (["tokcom", "smoke"], "what is 'smoke'"),
        (["tokcom", "--out=OTHER"], "results of other settings.*another --out"),
    ],
)
def test_a_reproduction_that_cannot_be_is_refused(launch, tmp_path, argv, told):
    (tmp_path / "settings.json").write_text('{"data": "tiny"}')
    argv = [arg.replace("OTHER", str(tmp_path)) for arg in argv]
    check_refused(launch("reproduce.py", *argv), told)
