"""Runs that faults happen to, and what it means that nothing was lost."""

import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

from m3jax.train import cards, metrics

ROOT = pathlib.Path(__file__).parents[2]


class System(NamedTuple):
    """How a system is trained by a command.

    Attributes:
      package: the flag that names its package, if it is not of m3jax.
      config: the flag that names its config.
      cwd: where the command is given.
    """

    package: tuple[str, ...]
    config: str
    cwd: pathlib.Path


QUICK = "mine"
"""The one that compiles in no time: a package outside of m3jax."""
SYSTEMS = {
    QUICK: System(
        ("--package=mine",), "--config=mine/config.py", ROOT / "tests" / "own_system"
    ),
    **{
        name: System((), f"--config=configs/{name}.py:tiny", ROOT)
        for name in ("tokcom", "m3llm", "moe2", "wdmoe", "msao")
    },
}


def start(system: str, run: pathlib.Path) -> tuple[str, ...]:
    """Flags of ``train.py`` that start a run."""
    package, config, _ = SYSTEMS[system]
    return *package, config, f"--workdir={run}"


def resume(system: str, run: pathlib.Path) -> tuple[str, ...]:
    """Flags of ``train.py`` that go on with it."""
    return *SYSTEMS[system].package, f"--workdir={run}", "--resume"


def wait_for(happens: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until something has happened."""
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.02)


def check_same(whole: pathlib.Path, run: pathlib.Path, step: int) -> None:
    """A checkpoint of two runs is the same to the bit, and so are their metrics."""
    one, two = (cards.read_card(f / "checkpoints" / str(step)) for f in (whole, run))
    assert one["tree"] == two["tree"]  # with the checksums of all arrays
    assert one["position_xxh3"] == two["position_xxh3"]
    rows, again = (_without_times(metrics.read(folder)) for folder in (whole, run))
    assert again and again == [row for row in rows if row in again]
    assert again[-1] == rows[-1]


def _without_times(rows: list[dict]) -> list[dict]:
    return [
        {key: value for key, value in row.items() if "second" not in key}
        for row in rows
    ]
