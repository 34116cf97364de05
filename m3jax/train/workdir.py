"""What a run leaves in its directory, and whose directory it is.

``config.json`` (the config, by type), ``run.json`` (versions, device, commit, wall
time), ``metrics.jsonl``, ``checkpoints/``, ``evaluation.json`` and ``plots/``.
"""

import hashlib
import os
import pathlib
import sys
import time
from typing import Any

from m3jax.train import environment, typed_json

CONFIG, RUN, CHECKPOINTS = "config.json", "run.json", "checkpoints"


def prepare(
    directory: str | os.PathLike[str], config: Any, resume: bool = False
) -> pathlib.Path:
    """Makes a directory ready for a run of this config, or refuses as `check` does.

    Writes ``config.json`` and ``run.json``.

    Args:
      directory: the workdir; made if missing.
      config: a config dataclass of this package.
      resume: True to go on with the run that is there.

    Returns:
      The absolute path of the workdir.
    """
    wanted = check(directory, config, resume)
    directory = pathlib.Path(directory).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    typed_json.write(directory / CONFIG, wanted)
    _write_run(directory)
    return directory


def check(
    directory: str | os.PathLike[str], config: Any, resume: bool = False
) -> dict[str, Any]:
    """Refuses a directory that a run of this config can't have; writes nothing.

    Args:
      directory: the workdir.
      config: a config dataclass.
      resume: True to go on with the run that is there.

    Returns:
      The config as JSON.

    Raises:
      ValueError: the directory has no name, or holds another config; names the first
        field.
      FileExistsError: the directory holds this run already, and ``resume`` is False.
      FileNotFoundError: ``resume`` is True, and there is no run.
      NotADirectoryError: the path is a file.
    """
    if not str(directory).strip():
        raise ValueError("--workdir is empty; name a directory, such as runs/mine")
    directory = pathlib.Path(directory).absolute()
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"--workdir={directory} is a file, not a directory")
    wanted = typed_json.to_json(config)
    if (directory / CONFIG).exists():
        _check_same(directory, wanted)
        if not resume and has_checkpoints(directory):
            raise FileExistsError(
                f"{directory} holds checkpoints of this very run; go on with --resume,"
                " or take another --workdir"
            )
    elif resume:
        raise FileNotFoundError(
            f"nothing to resume: no {CONFIG} in {directory}; start without --resume"
        )
    return wanted


def load_config(directory: str | os.PathLike[str]) -> Any:
    """Reads back the config dataclass of a run.

    Raises:
      FileNotFoundError: the directory holds no run.
      ValueError: the config is of another version of the package, or cut short.
    """
    path = pathlib.Path(directory) / CONFIG
    if not path.exists():
        raise FileNotFoundError(
            f"no {CONFIG} in {directory}; give the --workdir of a training run"
        )
    return typed_json.from_json(typed_json.read(path))


def has_checkpoints(directory: str | os.PathLike[str]) -> bool:
    """Tells whether the run has saved a step."""
    checkpoints = pathlib.Path(directory) / CHECKPOINTS
    return checkpoints.is_dir() and any(
        path.name.isdigit() for path in checkpoints.iterdir()
    )


def newest_step(directory: str | os.PathLike[str]) -> int | None:
    """The newest step that the run has saved, whole or torn; None before the first."""
    if not has_checkpoints(directory):
        return None
    checkpoints = pathlib.Path(directory) / CHECKPOINTS
    return max(int(p.name) for p in checkpoints.iterdir() if p.name.isdigit())


def short_name(text: str) -> str:
    """A name for a folder that stands for a long text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_run(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads ``run.json``; raises FileNotFoundError if the run was never started."""
    return typed_json.read(pathlib.Path(directory) / RUN)


def update_run(directory: str | os.PathLike[str], **fields: Any) -> None:
    """Adds fields to ``run.json``, and the wall time up to now.

    Args:
      directory: a workdir that ``prepare`` made.
      **fields: JSON values, such as ``seconds_to_first_step=2.1``.
    """
    run = {**load_run(directory), **fields}
    run["wall_seconds"] = run["wall_seconds_before"] + time.time() - run["started"]
    typed_json.write(pathlib.Path(directory) / RUN, run)


def _check_same(directory: pathlib.Path, wanted: Any) -> None:
    found = typed_json.first_difference(wanted, typed_json.read(directory / CONFIG))
    if found:
        raise ValueError(
            f"{directory} holds another config (asked for and found there differ in"
            f" {found}); take another --workdir, or --resume it with its own config"
        )


def _write_run(directory: pathlib.Path) -> None:
    """Writes who runs what on what; the times of earlier starts add up."""
    try:
        before = load_run(directory)
    except (FileNotFoundError, ValueError):
        before = {"wall_seconds": 0.0, "starts": 0}
    run = {
        "command": " ".join(sys.argv),
        "versions": environment.versions(),
        "device": environment.device(),
        "commit": environment.commit(),
        "starts": before["starts"] + 1,
        "started": time.time(),
        "wall_seconds_before": before["wall_seconds"],
        "wall_seconds": before["wall_seconds"],
    }
    typed_json.write(directory / RUN, run)
