"""Trains an experiment: any config file, of m3jax or of your own package.

python launch/train.py --config=configs/tokcom.py --workdir=runs/tokcom
python launch/train.py --workdir=runs/tokcom --resume
"""

import cli
from absl import flags
from ml_collections import config_flags

from m3jax.experiments import running
from m3jax.train import workdir

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, as FILE or FILE:SIZE; --resume reads the run's own."
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
    running.train(config, _WORKDIR.value, resume=_RESUME.value)


if __name__ == "__main__":
    cli.run(main)
