"""Pretrains the generalist and, when asked, puts it where the package ships it from.

python launch/pretrain.py --config=configs/foundation.py --workdir=runs/pretrain
"""

from absl import app, flags
from ml_collections import config_flags

from m3jax import experiment
from m3jax.train import cache

_CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/foundation.py", "Config file, as FILE:SIZE."
)
_WORKDIR = flags.DEFINE_string("workdir", "runs/pretrain", "Where the run is kept.")
_RESUME = flags.DEFINE_bool("resume", False, "Go on with the run in --workdir.")


def main(argv):
    cache.enable_compilation_cache()
    experiment.train(_CONFIG.value, _WORKDIR.value, resume=_RESUME.value)


if __name__ == "__main__":
    app.run(main)
