"""Metrics are one strict JSON object a line, and a resumed run leaves no double."""

import errno
import json
import math

import pytest

from m3jax.files import disk
from m3jax.train import metrics


def write_steps(directory, *steps):
    writer = metrics.MetricWriter(directory, tensorboard=False)
    for step in steps:
        writer.write(step, {"loss": step / 2})
    return writer


def test_rows_hold_step_time_and_values(tmp_path):
    write_steps(tmp_path, 10, 20)
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [(10, 5.0), (20, 10.0)]
    assert 0 <= rows[0]["wall_seconds"] <= rows[1]["wall_seconds"]


def test_truncation_drops_rows_beyond_the_restored_step(tmp_path):
    write_steps(tmp_path, 10, 20, 30, 40)
    writer = metrics.MetricWriter(tmp_path, tensorboard=False)
    writer.truncate(20)
    writer.write(30, {"loss": -1.0})
    rows = metrics.read(tmp_path)
    assert [(row["step"], row["loss"]) for row in rows] == [
        (10, 5.0),
        (20, 10.0),
        (30, -1.0),
    ]


def test_line_cut_short_by_a_kill_is_left_out_and_mended(tmp_path):
    writer = write_steps(tmp_path, 10, 20)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-7])
    assert [row["step"] for row in metrics.read(path)] == [10]
    writer.truncate(10)
    writer.write(20, {"loss": 1.0})
    assert [row["step"] for row in metrics.read(path)] == [10, 20]


@pytest.mark.parametrize(
    "bad",
    [b"{nonsense", b"[]", b'{"loss": 1.0}', b'{"step": "x"}', b"\xff\xfe", b"[" * 9999],
)
def test_damage_elsewhere_is_told_once_and_kept_beside(tmp_path, bad, caplog):
    write_steps(tmp_path, 10, 20)
    path = tmp_path / "metrics.jsonl"
    damaged = bad + b"\n" + path.read_bytes()
    path.write_bytes(damaged)
    assert [row["step"] for row in metrics.read(path)] == [10, 20]
    caplog.clear()
    writer = metrics.MetricWriter(tmp_path)
    writer.truncate(10)
    writer.write(20, {"loss": 1.0})
    assert caplog.text.count("line 1 can't be read") == 1
    assert (tmp_path / "metrics.jsonl.damaged-1").read_bytes() == damaged
    assert [row["step"] for row in metrics.read(path)] == [10, 20]


def test_non_finite_values_stay_strict_json_and_come_back(tmp_path):
    writer = write_steps(tmp_path)
    writer.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
    json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    row = metrics.read(tmp_path)[0]
    assert math.isnan(row["a"])
    assert (row["b"], row["c"]) == (math.inf, -math.inf)


def test_clock_goes_on_over_a_pause(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "wall_seconds": 500.0, "loss": 1.0}\n')
    write_steps(tmp_path, 2)
    assert 500.0 <= metrics.read(path)[-1]["wall_seconds"] < 600.0


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        metrics.read(tmp_path)


def test_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    writer = write_steps(tmp_path, 10)

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.open", full)
    with pytest.raises(disk.DiskFullError, match="no room on disk for metrics"):
        writer.write(20, {"loss": 1.0})


def test_tensorboard_gets_the_same_values_where_installed(tmp_path):
    pytest.importorskip("tensorboardX")
    writer = metrics.MetricWriter(tmp_path)
    writer.write(3, {"loss": 1.0})
    writer.close()
    assert list((tmp_path / "tensorboard").iterdir())
