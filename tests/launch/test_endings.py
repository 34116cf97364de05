"""Launchers end in one line when they are told to, at any moment."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from m3jax.train import workdir

ROOT = pathlib.Path(__file__).parents[2]
TINY = "--config=configs/tokcom.py:tiny", "--config.train.steps=1000000"


def start(tmp_path, script, *argv):
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "M3JAX_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, f"launch/{script}", *map(str, argv)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    _, err = process.communicate(timeout=120)
    # A line now and then says how far it is.
    lines = [line for line in err.splitlines() if not line.startswith("training: ")]
    return process.returncode, lines


@pytest.mark.parametrize("seconds", [0.6])
def test_ctrl_c_while_jax_is_imported(tmp_path, seconds):
    with start(tmp_path, "describe.py", "nowhere") as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        code, lines = ended(process)
    if lines[0].startswith("error: "):  # a fast machine, at its end or beyond
        assert code in (1, -signal.SIGINT) and len(lines) == 1
    else:
        assert (code, lines) == (130, ["stopped by SIGINT: nothing was written"])


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0, 5.0, 8.0, 12.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_training_ends_in_one_line_at_any_moment(tmp_path, seconds, number):
    folder = tmp_path / "run"
    with start(tmp_path, "train.py", *TINY, f"--workdir={folder}") as process:
        time.sleep(seconds)
        process.send_signal(number)
        code, lines = ended(process)
    assert code == 128 + number
    assert len(lines) == 1 and lines[0].startswith(f"stopped by {number.name}")
    assert ("saved in" in lines[0]) == (workdir.newest_step(folder) is not None)


@pytest.mark.slow
def test_a_hangup_saves_and_the_run_goes_on(tmp_path):
    folder = tmp_path / "run"
    with start(tmp_path, "train.py", *TINY, f"--workdir={folder}") as process:
        while workdir.newest_step(folder) is None:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGHUP)
        code, lines = ended(process)
    assert code == 128 + signal.SIGHUP, lines
    step = workdir.newest_step(folder)
    assert f"after step {step}: saved in" in lines[0]
    with start(tmp_path, "train.py", "--resume", f"--workdir={folder}") as process:
        while workdir.newest_step(folder) <= step:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 128 + signal.SIGTERM


@pytest.mark.slow
def test_the_workers_of_a_study_end_with_a_runner_that_is_killed(tmp_path):
    argv = "tokcom", "--size=smoke", "--workers=2", f"--out={tmp_path / 'study'}"
    with start(tmp_path, "reproduce.py", *argv) as process:
        deadline = time.monotonic() + 100
        while len(workers := children_of(process.pid)) < 3:  # a resource tracker too
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(5.0)  # they import
        process.kill()
    deadline = time.monotonic() + 10
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, workers))


def children_of(pid):
    path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def is_alive(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
