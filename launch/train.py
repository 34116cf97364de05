"""Trains an experiment: any config file, of m3jax or of your own package.

python launch/train.py --config=configs/tokcom.py --workdir=runs/tokcom
python launch/train.py --workdir=runs/tokcom --resume
python launch/train.py --workdir=runs/tokcom --resume --config.train.steps=4000
"""

import pathlib
import sys

import cli
import config_flag
from absl import flags

from m3jax.experiments import running
from m3jax.files import places
from m3jax.train import interrupts, workdir

_CONFIG = config_flag.define(
    None, "Config file, as FILE or FILE:SIZE; --resume reads the run's own."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept.", required=True)
_RESUME = flags.DEFINE_bool("resume", False, "Go on with the run in --workdir.")


def main() -> None:
    """Trains what the flags name."""
    config = _CONFIG.value
    if config is None and not _RESUME.value:
        raise ValueError("--config is missing; give for example configs/tokcom.py")
    if config is None:
        config = workdir.load_config(_WORKDIR.value)
    places.writable(_WORKDIR.value, "--workdir")
    with interrupts.keeps(_kept):
        running.train(config, _WORKDIR.value, resume=_RESUME.value)


def _kept() -> str:
    step = workdir.newest_step(_WORKDIR.value)
    if step is None:
        return "nothing had been saved; start again"
    return f"step {step} is saved in {_WORKDIR.value}; go on with --resume"


def _with_own_config(argv: list[str]) -> list[str]:
    """Lets --resume change fields of the run's own config, which a flag names."""
    names = {arg.partition("=")[0].lstrip("-") for arg in argv}
    places = [arg.partition("=")[2] for arg in argv if arg.startswith("--workdir=")]
    changes = any(name.startswith("config.") for name in names)
    if "resume" not in names or "config" in names or not (places and changes):
        return argv
    file = pathlib.Path(__file__).with_name("of_run.py")
    return [argv[0], f"--config={file}:{places[-1]}", *argv[1:]]


if __name__ == "__main__":
    sys.argv = _with_own_config(sys.argv)
    cli.run(main)
