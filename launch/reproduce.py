"""Measures the claims of a paper: trains its variants, judges, tabulates and plots.

python launch/reproduce.py tokcom --out=runs/reproduce/tokcom
python launch/reproduce.py tokcom --size=smoke

A study that was stopped goes on with the same command; each variant and seed is kept.
"""

import sys

import cli
from absl import flags

from m3jax import reproductions

_SIZE = flags.DEFINE_enum("size", "laptop", reproductions.SIZES, "How much is run.")
_OUT = flags.DEFINE_string(
    "out", None, "Where results go; runs/reproduce/SYSTEM-SIZE if unset."
)
_WORKERS = flags.DEFINE_integer(
    "workers", None, "Processes; one for each core of a CPU if unset."
)


def main() -> None:
    """Runs the study that the command line names."""
    out = _OUT.value or f"runs/reproduce/{_SYSTEM}-{_SIZE.value}"
    print(reproductions.run(_SYSTEM, _SIZE.value, out, _WORKERS.value))
    print(f"\n{out}")


def _take_system() -> str:
    """The first word after the script's name, which absl would refuse."""
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        return sys.argv.pop(1)
    if {"--help", "--helpshort", "--helpfull", "-h"} & set(sys.argv):
        return ""
    known = ", ".join(sorted(reproductions.SYSTEMS))
    sys.exit(f"error: name a system first: launch/reproduce.py SYSTEM, of {known}")


if __name__ == "__main__":
    _SYSTEM = _take_system()
    cli.run(main)
