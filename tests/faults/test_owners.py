"""Two commands on one folder: the second is refused, and reading is no second owner."""

import json
import shutil
import signal

import pytest

import runs
from m3jax.train import workdir

LONG = ("--config.train.steps=100000", "--config.train.checkpoint_every=200")
CWD = runs.SYSTEMS[runs.QUICK].cwd


@pytest.fixture(scope="module")
def alive(launch, tmp_path_factory):
    """A training that is alive and has saved a step, and its folder."""
    folder = tmp_path_factory.mktemp("alive") / "run"
    argv = runs.start(runs.QUICK, folder)
    process = launch.start("train.py", *argv, *LONG, cwd=CWD)
    runs.wait_for(lambda: workdir.has_checkpoints(folder))
    yield process, folder
    process.send(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("resumes", [False, True])
def test_a_second_training_is_refused_in_one_line(launch, alive, resumes):
    process, folder = alive
    argv = runs.resume if resumes else runs.start
    more = () if resumes else LONG
    done = launch("train.py", *argv(runs.QUICK, folder), *more, cwd=CWD)
    assert done.code == 1
    (line,) = done.err.splitlines()
    if resumes:
        told = json.loads((folder / ".lock").read_text())
        assert line.startswith(
            f"error: {folder} is in use by process {told['process']}"
        )
        assert told["host"] in line and told["since"] in line
        assert line.count("--workdir") == 2  # of the owner's command, and the mend
    else:
        assert "--resume" in line


def test_who_only_reads_may_read(launch, alive):
    _, folder = alive
    done = launch("describe.py", folder, cwd=CWD)
    assert done.code == 0, done.err
    grid = "--num_seeds=1", "--num_examples=13", "--package=mine"
    done = launch("evaluate.py", f"--workdir={folder}", *grid, cwd=CWD)
    assert done.code == 0, done.err


def test_a_killed_owner_hinders_nobody(launch, trained, tmp_path):
    whole, run = trained(runs.QUICK), tmp_path / "run"
    argv = *runs.start(runs.QUICK, run), *LONG
    process = launch.start("train.py", *argv, cwd=CWD)
    runs.wait_for(lambda: (run / ".lock").exists())
    process.send(signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    done = launch("train.py", *runs.start(runs.QUICK, run), cwd=CWD)
    assert done.code == 0, done.err
    runs.check_same(whole, run, 4)


@pytest.mark.parametrize(
    ("command", "argv", "place"),
    [
        ("reproduce.py", ("mine.study", "--size=laptop", "--workers=0"), "--out"),
        (
            "sweep.py",
            ("--config=mine/config.py:long", "--over=train.seed=0,1"),
            "--workdir",
        ),
    ],
)
def test_a_study_and_a_sweep_have_one_owner(launch, tmp_path, command, argv, place):
    argv = *argv, "--package=mine", f"{place}={tmp_path}"
    first = launch.start(command, *argv, cwd=CWD)
    runs.wait_for(lambda: (tmp_path / ".lock").exists())
    second = launch(command, *argv, cwd=CWD)
    first.send(signal.SIGKILL)
    first.wait()
    assert second.code == 1
    (line,) = [line for line in second.err.splitlines() if "error" in line]
    assert f"{tmp_path} is in use by process" in line and f"another {place}" in line


def test_a_config_that_failed_before_its_first_step_does_not_block(launch, tmp_path):
    argv = runs.start(runs.QUICK, tmp_path / "run")
    slip = "--config.learner.batch_size=100000"
    assert launch("train.py", *argv, slip, cwd=CWD).code == 1
    done = launch("train.py", *argv, cwd=CWD)
    assert done.code == 0, done.err


def test_a_run_goes_on_for_longer_and_without_what_it_started_from(
    launch, trained, tmp_path
):
    first, run = tmp_path / "first", tmp_path / "second"
    shutil.copytree(trained(runs.QUICK), first)
    start = f"--config.start={first}"
    argv = runs.start(runs.QUICK, run)
    assert launch("train.py", *argv, start, cwd=CWD).code == 0
    shutil.rmtree(first)
    longer = "--config.train.steps=8"
    done = launch("train.py", *runs.resume(runs.QUICK, run), longer, cwd=CWD)
    assert done.code == 0, done.err
    assert (run / "checkpoints" / "8").is_dir()


def test_a_second_evaluation_keeps_the_first(launch, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained(runs.QUICK), run)
    for snr_db in (0, 10):
        argv = f"--snr_db={snr_db}", "--num_seeds=1", "--package=mine"
        done = launch("evaluate.py", f"--workdir={run}", *argv, cwd=CWD)
        assert done.code == 0, done.err
    for folder, snr_db in ((run / "evaluation-1", 0.0), (run, 10.0)):
        rows = json.loads((folder / "evaluation.json").read_text())
        assert {row["at"]["snr_db"] for row in rows} == {snr_db}
        assert (folder / "table.md").exists() and list(folder.glob("plots/*.png"))
