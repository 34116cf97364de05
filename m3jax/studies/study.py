"""What a study is: units of work, and the claims and pictures made of their records."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from m3jax import base
from m3jax.ops import intervals


@dataclasses.dataclass(frozen=True)
class Unit:
    """The least that is run, kept and resumed: one variant at one seed.

    Attributes:
      variant: its name, as in the records.
      seed: of parameters, data order and noise; the same for all variants.
      weight: about how long it takes, relative to others, for the time that is left.
      program: units of one program compile alike, and one process runs them all.
    """

    variant: str
    seed: int
    weight: float = 1.0
    program: str = ""


class UnitResult(NamedTuple):
    """What a unit measured.

    Attributes:
      records: tidy rows of this variant and seed.
      curves: name -> numbers by step, such as losses, for pictures.
      arrays: name -> array, for pictures.
    """

    records: list[base.Record]
    curves: Mapping[str, Sequence[float]] = {}
    arrays: Mapping[str, np.ndarray] = {}


class Verdict(NamedTuple):
    """A claim beside its measurement.

    Attributes:
      claim: in words.
      paper: the paper's figure, or "" if it gives none.
      asked: the value that must be exceeded (or, below, not reached).
      measured: mean and 95 % interval over seeds.
      unit: of both.
      verdict: "holds" if the whole interval does, "fails" if none of it does, "open" in
        between.
      note: how it was measured.
    """

    claim: str
    paper: str
    asked: float
    measured: intervals.Interval
    unit: str
    verdict: str
    note: str = ""


class Study(Protocol):
    """A system's study, of some size.

    Attributes:
      settings: plain JSON values of all that decides the results.
    """

    settings: Mapping[str, Any]

    def units(self) -> Sequence[Unit]:
        """All units."""

    def prepare(self) -> None:
        """Makes what all units share, such as data and caches, once."""

    def run(self, unit: Unit) -> UnitResult:
        """Runs one unit; needs nothing of the others."""

    def conclude(self, results: "Results") -> list[base.Record]:
        """Measures what takes the results of several units; must be quick."""

    def verdicts(self, results: "Results") -> list[Verdict]:
        """Judges the claims."""

    def summarise(self, results: "Results") -> str:
        """Tables for people, as Markdown."""

    def draw(self, results: "Results", folder: pathlib.Path) -> list[pathlib.Path]:
        """Draws pictures into a folder; returns their paths."""


class Results(NamedTuple):
    """All that was measured.

    Attributes:
      records: of all units.
      curves: (variant, seed) -> curves.
      arrays: (variant, seed) -> arrays.
    """

    records: list[base.Record]
    curves: Mapping[tuple[str, int], Mapping[str, Sequence[float]]]
    arrays: Mapping[tuple[str, int], Mapping[str, np.ndarray]]


def judge(
    claim: str,
    values: Sequence[float],
    asked: float,
    *,
    unit: str,
    paper: str = "",
    below: bool = False,
    note: str = "",
) -> Verdict:
    """Judges a claim by values of independent seeds.

    Args:
      claim: in words.
      values: a value for each seed, such as the difference of two methods.
      asked: the value to exceed.
      unit: of both; "1" for a fraction.
      paper: the paper's figure.
      below: whether values must stay below ``asked`` instead.
      note: how it was measured.

    Returns:
      A verdict; with one seed there is no interval, and it is "open".

    Example:
      >>> judge("more", [2.0, 2.1, 1.9], 1.5, unit="1").verdict
      'holds'
    """
    found = intervals.student_t(np.asarray(values, np.float64))
    low, high = float(found.low), float(found.high)
    if below:
        holds, fails = high < asked, low >= asked
    else:
        holds, fails = low > asked, high <= asked
    verdict = "holds" if holds else "fails" if fails else "open"
    measured = intervals.Interval(float(found.mean), low, high)
    return Verdict(claim, paper, asked, measured, unit, verdict, note)
