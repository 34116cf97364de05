import numpy as np

from m3jax.evals import error_counts, progress

COUNTS = error_counts.ErrorCounts((0.0,), *[np.array([30])] * 3, np.ones((1, 3)))


def test_without_a_terminal_the_first_and_the_last_state_are_lines(capsys):
    with progress.ProgressBar("BPSK") as bar:
        for share in (0.25, 0.5, 1.0):
            bar(COUNTS, share)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"BPSK: {n}%, 30 errors in 30 trials" for n in (25, 100)]


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress.ProgressBar("BPSK") as bar:
        bar(COUNTS, 0.5)
        bar(COUNTS, 1.0)
    assert "100%" in capsys.readouterr().err
