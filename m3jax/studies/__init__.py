"""Studies: the claims of a paper, measured by one command.

``launch/reproduce.py SYSTEM`` runs the study of a system; ``study.py`` says what a
study is, ``runner.py`` runs one.
"""

from m3jax.studies.runner import SIZES, load, names, run
from m3jax.studies.study import Study, Unit, UnitResult, Verdict

__all__ = ["SIZES", "Study", "Unit", "UnitResult", "Verdict", "load", "names", "run"]
