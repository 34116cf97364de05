"""Damage to the folder of a run: what it does, and what a command must make of it."""

import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import NamedTuple

STEPS = 4  # of the runs that are hurt, which save steps 2 and 4


class Damage(NamedTuple):
    """One kind of damage.

    Attributes:
      hurt: does it to a workdir.
      torn: step 4 can't be used any more, so that the commands fall back to step 2.
      told: a word of the warning that names it; "" where nothing need be said.
    """

    hurt: Callable[[pathlib.Path], object]
    torn: bool = False
    told: str = ""


def step(run: pathlib.Path) -> pathlib.Path:
    """The newest checkpoint."""
    return run / "checkpoints" / str(STEPS)


def numbers(run: pathlib.Path, item: str) -> pathlib.Path:
    """The file of a checkpoint that holds the most of its arrays."""
    return max((step(run) / item).rglob("d/*"), key=os.path.getsize)


def flip(file: pathlib.Path, at: float = 0.5) -> None:
    """Turns one bit."""
    data = bytearray(file.read_bytes())
    data[int(at * (len(data) - 1))] ^= 4
    file.write_bytes(bytes(data))


def cut(file: pathlib.Path) -> None:
    """Takes the second half away."""
    os.truncate(file, file.stat().st_size // 2)


def swap(file: pathlib.Path, old: str, new: str) -> None:
    """Changes a word."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def edit(file: pathlib.Path, **fields: object) -> None:
    """Changes fields of a JSON file; those that are None go."""
    found = json.loads(file.read_text()) | fields
    kept = {key: value for key, value in found.items() if value is not None}
    file.write_text(json.dumps(kept))


def replace_by_folder(file: pathlib.Path) -> None:
    """Puts a folder in the place of a file."""
    file.unlink(missing_ok=True)
    file.mkdir()


def empty(folder: pathlib.Path) -> None:
    """Leaves the folder alone."""
    shutil.rmtree(folder)
    folder.mkdir()


def _torn(hurt) -> Damage:
    return Damage(hurt, torn=True, told="skipped")


CHECKPOINTS = {
    "a bit of the parameters": _torn(lambda run: flip(numbers(run, "params"))),
    "a bit of the optimizer": _torn(lambda run: flip(numbers(run, "state"))),
    "parameters cut short": _torn(lambda run: cut(numbers(run, "params"))),
    "parameters of zeros": _torn(
        lambda run: numbers(run, "params").write_bytes(
            bytes(numbers(run, "params").stat().st_size)
        )
    ),
    "parameters gone": _torn(lambda run: shutil.rmtree(step(run) / "params")),
    "optimizer gone": _torn(lambda run: shutil.rmtree(step(run) / "state")),
    "index cut short": _torn(lambda run: cut(step(run) / "params" / "manifest.ocdbt")),
    "card gone": _torn(lambda run: shutil.rmtree(step(run) / "card")),
    "card cut short": _torn(lambda run: cut(step(run) / "card" / "metadata")),
    "card of other JSON": _torn(
        lambda run: (step(run) / "card" / "metadata").write_text('{"x": 1}')
    ),
    "card a list": _torn(
        lambda run: (step(run) / "card" / "metadata").write_text("[]")
    ),
    "a letter of the card": _torn(
        lambda run: swap(step(run) / "card" / "metadata", "float32", "float16")
    ),
    "position of other JSON": _torn(
        lambda run: (step(run) / "position" / "metadata").write_text('{"x": 1}')
    ),
    "position gone": _torn(lambda run: shutil.rmtree(step(run) / "position")),
    "an empty step": _torn(lambda run: empty(step(run))),
}

INFORMS = {
    "a garbage line of metrics": Damage(
        lambda run: swap(
            run / "metrics.jsonl", '{"step"', '{"step": nonsense\n{"step"'
        ),
        told="metrics.jsonl",
    ),
    "a row of metrics without step": Damage(
        lambda run: swap(run / "metrics.jsonl", '{"step"', '{"loss": 1}\n{"step"'),
        told="metrics.jsonl",
    ),
    "metrics that are not UTF-8": Damage(
        lambda run: (run / "metrics.jsonl").write_bytes(
            b"\xff\xfe\n" + (run / "metrics.jsonl").read_bytes()
        ),
        told="metrics.jsonl",
    ),
    "metrics that end in zeros": Damage(
        lambda run: (run / "metrics.jsonl").write_bytes(
            (run / "metrics.jsonl").read_bytes() + bytes(512)
        )
    ),
    "run.json of nothing": Damage(lambda run: (run / "run.json").write_text("{}")),
    "run.json of garbage": Damage(
        lambda run: (run / "run.json").write_text('{"com'), told="run.json"
    ),
    "run.json a list": Damage(
        lambda run: (run / "run.json").write_text("[1]"), told="run.json"
    ),
    "run.json with words for numbers": Damage(
        lambda run: edit(run / "run.json", wall_seconds="long", starts="many")
    ),
    "run.json gone": Damage(lambda run: (run / "run.json").unlink()),
    "config.json of garbage": Damage(
        lambda run: (run / "config.json").write_text('{"type'), told="config.json"
    ),
    "config.json of nothing": Damage(
        lambda run: (run / "config.json").write_text("{}"), told="config.json"
    ),
    "config.json of another run": Damage(
        lambda run: swap(run / "config.json", '"seed": 0', '"seed": 1'),
        told="config.json",
    ),
    "config.json from before a field": Damage(
        lambda run: edit(run / "config.json", cache=None), told="config.json"
    ),
    "config.json gone": Damage(lambda run: (run / "config.json").unlink()),
    "a save that was cut off": Damage(
        lambda run: (run / "checkpoints" / "6.orbax-checkpoint-tmp").mkdir()
    ),
    "a note among the checkpoints": Damage(
        lambda run: (run / "checkpoints" / "notes.txt").write_text("keep 2")
    ),
    "a torn lock file": Damage(lambda run: (run / ".lock").write_text('{"host"')),
    "a torn temporary file": Damage(
        lambda run: (run / ".run.json.abc").write_text('{"host"')
    ),
}
"""Damage to what only informs; it is done to a run that has step 2 alone."""
