"""Metrics on disk: JSON lines, and TensorBoard where tensorboardX is installed."""

import json
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from absl import logging

from m3jax.files import disk
from m3jax.train import typed_json


class MetricWriter:
    """Appends one JSON object a line: ``{"step", "wall_seconds", name: value, ...}``.

    ``wall_seconds`` counts on over the pauses between a run and its resumption.

    Args:
      directory: where ``metrics.jsonl`` goes.
      tensorboard: also write TensorBoard events, if tensorboardX is installed.
    """

    def __init__(self, directory: str | os.PathLike[str], tensorboard: bool = True):
        self._path = pathlib.Path(directory) / "metrics.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._board = _open_board(self._path.parent) if tensorboard else None
        self._start_clock(_read(self._path)[0] if self._path.exists() else [])

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values measured after ``step`` updates; flushed at once."""
        row = {"step": step, "wall_seconds": round(self._wall_seconds(), 3)}
        line = typed_json.dumps({**row, **values}) + "\n"
        with (
            disk.explained("metrics", self._path),
            self._path.open("a", encoding="utf-8") as file,
        ):
            file.write(line)
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def truncate(self, step: int) -> None:
        """Drops the rows beyond ``step``, which a run resumed there writes again.

        A file with lines that can't be read is kept beside, as it is.
        """
        if not self._path.exists():
            return
        rows, damaged = _read(self._path)
        if damaged:
            aside = disk.set_aside(self._path)
            logging.warning("%s; the file is kept as %s", damaged, aside.name)
        rows = [row for row in rows if row["step"] <= step]
        lines = [typed_json.dumps(row) + "\n" for row in rows]
        disk.write_text(self._path, "".join(lines))
        self._start_clock(rows)

    def close(self) -> None:
        """Closes the TensorBoard file, if there is one."""
        if self._board is not None:
            self._board.close()

    def _start_clock(self, rows: list[dict[str, Any]]) -> None:
        before = rows[-1].get("wall_seconds", 0.0) if rows else 0.0
        self._origin = time.perf_counter() - before

    def _wall_seconds(self) -> float:
        return time.perf_counter() - self._origin


class Collected:
    """What a run that keeps no files writes its losses to.

    Args:
      losses: gets them.
    """

    def __init__(self, losses: list[float]):
        self._losses = losses

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the loss, if there is one."""
        del step
        if "loss" in values:
            self._losses.append(values["loss"])

    def truncate(self, step: int) -> None:
        """Nothing has been written before."""


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads a ``metrics.jsonl`` file; lines that are none are left out, and told.

    Args:
      path: the file, or the directory that holds it.

    Returns:
      One dict a line, in order; each has "step".

    Raises:
      FileNotFoundError: there is no such file.
    """
    path = pathlib.Path(path)
    path = path / "metrics.jsonl" if path.is_dir() else path
    rows, damaged = _read(path)
    if damaged:
        logging.warning("%s", damaged)
    return rows


def _read(path: pathlib.Path) -> tuple[list[dict[str, Any]], str]:
    """Rows, and what is wrong with other lines; a last one cut short by a kill is not.

    The file only informs, so that no damage to it may stop a run.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.split("\n") if line.strip("\0 \r\t")]
    rows, bad = [], []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_row(json.loads(line)))
        except (ValueError, RecursionError):
            if number < len(lines) or text.endswith("\n"):
                bad.append(number)
    if not bad:
        return rows, ""
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return rows, f"{path}: line {bad[0]}{more} can't be read and was left out"


def _row(row: Any) -> dict[str, Any]:
    """A row with its infinities; raises ValueError if it is none."""
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        raise ValueError("no row of metrics")
    special = ("nan", "inf", "-inf")
    row = {
        name: float(value) if value in special else value for name, value in row.items()
    }
    if not all(isinstance(value, (int, float)) for value in row.values()):
        raise ValueError("a value of a metric is no number")
    return row


def _open_board(directory: pathlib.Path) -> Any:
    try:
        import tensorboardX
    except ImportError:
        return None
    return tensorboardX.SummaryWriter(str(directory / "tensorboard"))
