"""Every command ends in one line, by any signal, whatever it is at."""

import signal
import time

import pytest

import runs

CWD = runs.SYSTEMS[runs.QUICK].cwd
MINE = "--package=mine"
LONG = "--config=mine/config.py:long"
COMMANDS = {
    "train": ("train.py", (MINE, LONG, "--workdir={}/run")),
    "evaluate": ("evaluate.py", (MINE, "--workdir={run}", "--num_seeds=100000")),
    "sweep": ("sweep.py", (MINE, LONG, "--over=train.seed=0,1", "--workdir={}/sweep")),
    "study": ("reproduce.py", ("mine.study", MINE, "--out={}/study", "--workers=0")),
    "study of workers": (
        "reproduce.py",
        ("mine.study", MINE, "--out={}/study", "--workers=2"),
    ),
    "prepare_data": ("prepare_data.py", ("--config=laptop", "--data_dir={}/data")),
    "audit": ("audit.py", ("--out={}/audit",)),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOMENTS = (0.1, 1.0, 3.0)  # seconds from the start
TABLE = [
    pytest.param(
        *(command, number, seconds),
        # Each command meets a signal, each signal a command, each moment too.
        marks=()
        if (at + i) % 3 == j and command in ("train", "evaluate") and (at % 3) == i
        else pytest.mark.slow,
        id=f"{command}-{number.name}-{seconds}",
    )
    for at, command in enumerate(COMMANDS)
    for i, number in enumerate(SIGNALS)
    for j, seconds in enumerate(MOMENTS)
]


@pytest.mark.parametrize(("command", "number", "seconds"), TABLE)
def test_signal(launch, trained, tmp_path, command, number, seconds):
    script, argv = COMMANDS[command]
    run = trained(runs.QUICK)
    argv = [arg.format(tmp_path, run=run) for arg in argv]
    process = launch.start(script, *argv, cwd=CWD, M3JAX_DATA_DIR=tmp_path / "sets")
    time.sleep(seconds)
    process.send(number)
    done = process.wait()
    assert done.code == 128 + number, done.err
    assert "Traceback" not in done.err, done.err
    bars = "training", "evaluating", "encoding", "measuring", "writing", "W", "generat"
    lines = [line for line in done.err.splitlines() if not line.startswith(bars)]
    lines = [line for line in lines if line.strip()]
    assert len(lines) == 1, done.err
    (line,) = lines
    assert number.name in line and line.startswith("stopped by")
