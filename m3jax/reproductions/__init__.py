"""Reproductions: the claims of each paper, measured by one command.

``launch/reproduce.py SYSTEM`` runs the study of a system; ``study.py`` says what a
study is, ``runner.py`` runs one.
"""

from m3jax.reproductions.runner import SIZES, SYSTEMS, load, run
from m3jax.reproductions.study import Study, Unit, UnitResult, Verdict

__all__ = ["SIZES", "SYSTEMS", "Study", "Unit", "UnitResult", "Verdict", "load", "run"]
