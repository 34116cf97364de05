"""Pretrains the generalist; --export puts it where the package ships it from.

python launch/pretrain.py --workdir=runs/pretrain --export=generalist
"""

import cli
from absl import flags
from ml_collections import config_flags

from m3jax import evaluation, experiment
from m3jax.train import workdir

_CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/foundation.py", "Config file, as FILE or FILE:SIZE."
)
_WORKDIR = flags.DEFINE_string("workdir", "runs/pretrain", "Where the run is kept.")
_EXPORT = flags.DEFINE_string(
    "export", None, "Name under which the newest checkpoint is shipped."
)


def main() -> None:
    """Trains, going on where an earlier start stopped; then exports if asked."""
    resume = workdir.has_checkpoints(_WORKDIR.value)
    experiment.train(_CONFIG.value, _WORKDIR.value, resume=resume)
    if _EXPORT.value:
        run = experiment.restore(_WORKDIR.value)
        figures = {
            f"test answer_accuracy, {skill}": round(value, 4)
            for skill, value in evaluation.accuracy_by_skill(run, "answer").items()
        }
        print(experiment.export(_WORKDIR.value, _EXPORT.value, figures))


if __name__ == "__main__":
    cli.run(main)
