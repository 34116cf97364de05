"""What a run leaves in its directory, and whose directory it is.

``checkpoints/`` decides: all that a run needs to go on lies there, its config too. The
rest informs: ``config.json`` (the config, by type, from the first step on),
``run.json`` (versions, device, commit, wall time), ``metrics.jsonl``,
``evaluation.json`` and ``plots/``. Damage to what informs is told, kept beside and
never stops a run.
"""

import contextlib
import hashlib
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from m3jax.files import disk, locks
from m3jax.train import cards, environment, typed_json

CONFIG, RUN, CHECKPOINTS = "config.json", "run.json", "checkpoints"
MAY_CHANGE = (
    *("train.steps", "train.checkpoint_every", "train.keep"),
    "data.data_dir",
)
"""Fields that a run may go on with another value of: the steps done stay the same."""
_began = {}  # workdir -> reading of the steady clock when this process began


@contextlib.contextmanager
def owned(
    directory: str | os.PathLike[str], config: Any, resume: bool = False
) -> Iterator[pathlib.Path]:
    """Owns a directory for a run of this config, or refuses as `check` does.

    Writes ``run.json``; the config is written by `started`, when a step was taken.

    Args:
      directory: the workdir; made if missing.
      config: a config dataclass.
      resume: True to go on with the run that is there.

    Yields:
      The absolute path of the workdir.

    Raises:
      locks.InUseError: another process trains in it.
    """
    check(directory, config, resume)
    directory = pathlib.Path(directory).expanduser().absolute()
    with locks.owned(directory, "take another --workdir"):
        check(directory, config, resume)  # the one who was first may have just ended
        _write_run(directory)
        yield directory


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
      ValueError: the directory has no name, is an address, or holds checkpoints of
        another config; names the first field.
      FileExistsError: the directory holds this run already, and ``resume`` is False.
      FileNotFoundError: ``resume`` is True, and there is no run.
      NotADirectoryError: the path is a file.
    """
    directory = disk.local(directory, "--workdir")
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"--workdir={directory} is a file, not a directory")
    if has_checkpoints(directory):
        _check_same(directory, config, MAY_CHANGE if resume else ())
        if not resume:
            raise FileExistsError(
                f"{directory} holds checkpoints of this very run; go on with --resume,"
                " or take another --workdir"
            )
    elif resume and not (directory / CONFIG).exists():
        raise FileNotFoundError(
            f"nothing to resume: no run in {directory}; start without --resume"
        )
    return typed_json.to_json(config)


def started(
    directory: str | os.PathLike[str], config: Any, timings: Mapping[str, float]
) -> None:
    """Writes down the config, and timings, of a run that has taken its first step."""
    directory = pathlib.Path(directory)
    wanted = typed_json.to_json(config)
    path = directory / CONFIG
    if path.exists() and _json(path) != wanted and has_checkpoints(directory):
        aside = disk.set_aside(path)
        logging.warning("%s is not of this run; it is kept as %s", path, aside.name)
    typed_json.write(path, wanted)
    update_run(directory, **timings)


def load_config(directory: str | os.PathLike[str]) -> Any:
    """Reads back the config dataclass of a run: its newest whole checkpoint's.

    Raises:
      FileNotFoundError: the directory holds no run.
      ValueError: the config is of another version of the package, or cut short.
    """
    directory = disk.local(directory, "--workdir")
    found = _saved_config(directory)
    if found is None:
        raise FileNotFoundError(
            f"no {CONFIG} in {directory}; give the --workdir of a training run"
        )
    return typed_json.from_json(found, lenient=True)


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
    """Reads ``run.json``; what can't be read of it is as for a run never started."""
    fresh = {"command": None, "commit": None, "device": None}
    numbers = {"starts": 0, "wall_seconds": 0.0, "wall_seconds_before": 0.0}
    found = _json(pathlib.Path(directory) / RUN)
    found = found if isinstance(found, Mapping) else {}
    usable = {
        name: value
        for name, value in found.items()
        if name not in numbers or isinstance(value, (int, float))
    }
    return {**fresh, **numbers, **usable}


def update_run(directory: str | os.PathLike[str], **fields: Any) -> None:
    """Adds fields to ``run.json``, and the wall time up to now; what fails is told.

    Args:
      directory: a workdir that is `owned`.
      **fields: JSON values, such as ``seconds_to_first_step=2.1``.
    """
    directory = pathlib.Path(directory)
    run = {**load_run(directory), **fields}
    spent = time.monotonic() - _began.get(directory, time.monotonic())
    run["wall_seconds"] = run["wall_seconds_before"] + spent
    _write(directory, run)


def _saved_config(directory: pathlib.Path) -> Any:
    """The config, as JSON, that the checkpoints were saved by; else the file's."""
    if has_checkpoints(directory):
        for step in cards.candidates(directory):
            with contextlib.suppress(OSError, ValueError):
                if config := cards.read_card(step).get("config"):
                    return config
    path = directory / CONFIG
    if not path.exists():
        return None
    found = typed_json.read(path)
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} is damaged, and no checkpoint tells the config")
    return found


def _check_same(directory: pathlib.Path, config: Any, may_change) -> None:
    wanted, found = typed_json.to_json(config), _saved_config(directory)
    with contextlib.suppress(ValueError):  # else compared as it is written
        # By meaning: fields with defaults may have come or gone since.
        found = typed_json.to_json(typed_json.from_json(found, lenient=True))
    wanted, found = (_without(value, may_change) for value in (wanted, found))
    if where := typed_json.first_difference(wanted, found):
        raise ValueError(
            f"{directory} holds another config (asked for and found there differ in"
            f" {where}); take another --workdir, or --resume it with its own config"
        )


def _without(value: Any, fields: Sequence[str], path: str = "") -> Any:
    """JSON values without the fields of these paths."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: _without(item, fields, f"{path}{key}.")
        for key, item in value.items()
        if f"{path}{key}" not in fields
    }


def _json(path: pathlib.Path) -> Any:
    """What a file that only informs says; None if it can't be read."""
    try:
        return typed_json.read(path)
    except (OSError, ValueError):
        return None


def _write_run(directory: pathlib.Path) -> None:
    """Writes who runs what on what; the times of earlier starts add up."""
    path = directory / RUN
    if path.exists() and not isinstance(_json(path), Mapping):
        with contextlib.suppress(OSError):
            aside = disk.set_aside(path)
            logging.warning("%s can't be read; it is kept as %s", path, aside.name)
    before = load_run(directory)
    _began[directory] = time.monotonic()
    _write(
        directory,
        {
            "command": " ".join(sys.argv),
            "versions": environment.versions(),
            "device": environment.device(),
            "commit": environment.commit(),
            "starts": before["starts"] + 1,
            "started": time.time(),
            "wall_seconds_before": before["wall_seconds"],
            "wall_seconds": before["wall_seconds"],
        },
    )


def _write(directory: pathlib.Path, run: Mapping[str, Any]) -> None:
    first = sys.exception()  # what ends the run, which is to be told, and alone
    try:
        typed_json.write(directory / RUN, run)
    except OSError as error:  # it only informs
        if first is None:
            logging.warning("can't write %s (%s)", directory / RUN, error.strerror)
