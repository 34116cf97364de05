"""Trains an experiment: any config file, of m3jax or of your own package.

python launch/train.py --config=configs/tokcom.py --workdir=runs/tokcom
python launch/train.py --workdir=runs/tokcom --resume
"""

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


if __name__ == "__main__":
    cli.run(main)
