"""A disk without room: one line, nothing half-written, and the run goes on."""

import shutil
import subprocess

import pytest

import runs
from m3jax.train import workdir

CWD = runs.SYSTEMS[runs.QUICK].cwd
LONG = ("--config.train.steps=60", "--config.train.checkpoint_every=4")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 600 kB, which some checkpoints fill, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def check(done, run):
    """One line that names what found no room; no half-written step is left."""
    assert done.code == 1
    told = [line for line in done.err.splitlines() if not line.startswith("training")]
    (line,) = told
    assert "no room on disk for" in line and "--resume" in line
    assert not list(run.glob("checkpoints/*tmp*"))


@pytest.mark.slow
def test_a_full_disk_costs_no_saved_step(launch, small_disk, tmp_path):
    whole, run = tmp_path / "whole", small_disk / "run"
    argv = *runs.start(runs.QUICK, whole), *LONG, "--config.train.keep=50"
    done = launch("train.py", *argv, cwd=CWD)
    assert done.code == 0, done.err
    argv = *runs.start(runs.QUICK, run), *LONG, "--config.train.keep=50"
    done = launch("train.py", *argv, cwd=CWD)
    check(done, run)
    assert workdir.newest_step(run)
    shutil.copytree(run, tmp_path / "moved")
    argv = runs.resume(runs.QUICK, tmp_path / "moved")
    done = launch("train.py", *argv, cwd=CWD)
    assert done.code == 0, done.err
    runs.check_same(whole, tmp_path / "moved", 60)
