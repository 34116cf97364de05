"""Measures the claims of a paper: trains its variants, judges, tabulates and plots.

python launch/reproduce.py tokcom --out=runs/reproduce/tokcom
python launch/reproduce.py tokcom --size=smoke
python launch/reproduce.py mine.study --size=smoke

A study that was stopped goes on with the same command; each variant and seed is kept.
"""

import cli
from absl import flags

from m3jax import studies

_SIZE = flags.DEFINE_enum("size", "laptop", studies.SIZES, "How much is run.")
_OUT = flags.DEFINE_string(
    "out", None, "Where results go; runs/reproduce/SYSTEM-SIZE if unset."
)
_WORKERS = flags.DEFINE_integer(
    "workers", None, "Processes; one for each core of a CPU if unset.", lower_bound=0
)


def main(system: str) -> None:
    """Runs the study that the command line names."""
    out = f"runs/reproduce/{system}-{_SIZE.value}" if _OUT.value is None else _OUT.value
    studies.run(system, _SIZE.value, out, _WORKERS.value, print)
    print(f"\n{out}")


if __name__ == "__main__":
    known = ", ".join([*studies.names(), "or a module of your own"])
    cli.run(main, f"a system first, such as {known}")
