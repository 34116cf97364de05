import numpy as np

from m3jax.evals import error_counts, progress
from m3jax.train import progress as bars

COUNTS = error_counts.ErrorCounts((0.0,), *[np.array([30])] * 3, np.ones((1, 3)))


def test_without_a_terminal_there_is_a_line_now_and_then_and_a_last_one(
    capsys, monkeypatch
):
    clock = iter([0.0, 3.0, 4.0, 20.0, 21.0])
    monkeypatch.setattr(bars.time, "perf_counter", lambda: next(clock))
    with progress.ProgressBar("BPSK") as bar:
        for share in (0.25, 0.5, 0.75, 1.0):
            bar(COUNTS, share)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"BPSK: {share}  {left} s left  30 errors in 30 trials"
        for share, left in (("25%", 9), ("75%", 7), ("100%", 0))
    ]


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress.ProgressBar("BPSK") as bar:
        bar(COUNTS, 0.5)
        bar(COUNTS, 1.0)
    assert "100%" in capsys.readouterr().err
