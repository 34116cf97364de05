"""Pretrains the generalist; --export puts it where the package ships it from.

python launch/pretrain.py --workdir=runs/pretrain --export=generalist
"""

import cli
from absl import flags
from ml_collections import config_flags

from m3jax import evaluation, experiment
from m3jax.data import edgescenes
from m3jax.train import pretrained, typed_json, workdir

_CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/foundation.py", "Config file, as FILE or FILE:SIZE."
)
_WORKDIR = flags.DEFINE_string("workdir", "runs/pretrain", "Where the run is kept.")
_RESUME = flags.DEFINE_bool("resume", False, "Go on with the run in --workdir.")
_EXPORT = flags.DEFINE_string(
    "export", None, "Name under which the newest checkpoint is shipped."
)


def main() -> None:
    """Trains unless the run is complete, then exports if asked."""
    resume = _RESUME.value or workdir.has_checkpoints(_WORKDIR.value)
    experiment.train(_CONFIG.value, _WORKDIR.value, resume=resume)
    if _EXPORT.value:
        print(export(_WORKDIR.value, _EXPORT.value))


def export(directory: str, name: str) -> str:
    """Saves a run's parameters into the package, with a card; returns the folder."""
    run = experiment.restore(directory)
    ran = workdir.load_run(directory)
    folder = pretrained.ROOT / name
    card = {
        "name": name,
        "command": ran["command"],
        "commit": ran["commit"],
        "data": f"edge_scenes {edgescenes.EdgeScenes.VERSION}, fresh scenes",
        "wall_seconds": ran["wall_seconds"],
        "device": ran["device"],
        "config": typed_json.to_json(run.experiment),
        "figures": {
            "split": "test",
            "answer_accuracy": evaluation.accuracy_by_skill(run, "answer"),
        },
    }
    pretrained.save(folder, run.params, card)
    return str(folder)


if __name__ == "__main__":
    cli.run(main)
