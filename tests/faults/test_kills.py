"""kill -9 at random moments: nothing saved is lost, and the end is the same."""

import signal
import time

import numpy as np
import pytest

import runs
from m3jax.evals import records
from m3jax.train import cards, workdir

STEPS = 30
KILLS = 50
SLOWEST = 3.0  # seconds from a start to the latest kill
MORE = f"--config.train.steps={STEPS}", "--config.train.checkpoint_every=1"


@pytest.mark.slow
@pytest.mark.parametrize("system", runs.SYSTEMS)
def test_kills_of_a_training(launch, tmp_path, system):
    """Every kill leaves a run that goes on from no earlier step than before."""
    cwd = runs.SYSTEMS[system].cwd
    whole = tmp_path / "whole"
    done = launch("train.py", *runs.start(system, whole), *MORE, cwd=cwd)
    assert done.code == 0, done.err
    rng = np.random.default_rng(0)
    kills = ends = 0
    while kills < KILLS:
        run, newest, code = tmp_path / f"run-{ends}", 0, None
        while code != 0:
            going = workdir.has_checkpoints(run)
            argv = (
                runs.resume(system, run) if going else (*runs.start(system, run), *MORE)
            )
            process = launch.start("train.py", *argv, cwd=cwd)
            if kills < KILLS:
                time.sleep(rng.uniform(0, SLOWEST))
                process.send(signal.SIGKILL)
            code, _, err = process.wait()
            assert code in (0, -signal.SIGKILL), err
            kills += code != 0
            if workdir.has_checkpoints(run):
                found = int(cards.find(run).name)
                assert found >= newest, "a step that was saved is lost"
                newest = found
        runs.check_same(whole, run, STEPS)
        ends += 1


@pytest.mark.slow
def test_kills_of_a_study(launch, tmp_path):
    """Units that were measured stay; the results are those of an unbroken study."""
    cwd = runs.SYSTEMS[runs.QUICK].cwd
    argv = "mine.study", "--package=mine", "--size=smoke", "--workers=2"
    done = launch("reproduce.py", *argv, f"--out={tmp_path / 'whole'}", cwd=cwd)
    assert done.code == 0, done.err
    want = records.read(tmp_path / "whole" / "results.json")
    rng, kills, code = np.random.default_rng(0), 0, None
    while code != 0:
        process = launch.start(
            "reproduce.py", *argv, f"--out={tmp_path / 'run'}", cwd=cwd
        )
        if kills < 20:
            time.sleep(rng.uniform(0, 8.0))
            process.send(signal.SIGKILL)
        code, _, err = process.wait()
        assert code in (0, -signal.SIGKILL), err
        kills += code != 0
    assert kills
    assert records.read(tmp_path / "run" / "results.json") == want
