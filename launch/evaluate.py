"""Measures a run: evaluation.json, table.md and plots; --export gives it a name.

python launch/evaluate.py --workdir=runs/tokcom --snr_db=-10:20:2.5 --num_seeds=5
python launch/evaluate.py --workdir=runs/tokcom --export=my_model
"""

import os

import cli
import grids
from absl import flags

from m3jax.evals import records, report
from m3jax.experiments import running
from m3jax.files import places
from m3jax.train import pretrained

_WORKDIR = flags.DEFINE_string("workdir", None, "The run.", required=True)
_STEP = flags.DEFINE_integer("step", None, "A saved step; the newest if unset.")
_EXPORT = flags.DEFINE_string(
    "export", None, "Name by which running.load then finds the run's parameters."
)
_REPLACE = flags.DEFINE_bool("replace", False, "Replace an older export of this name.")
_EXPORT_ROOT = flags.DEFINE_string(
    "export_root", None, "Folder of exports; your own if unset."
)


def main() -> None:
    """Evaluates what the flags name."""
    grid = grids.read(os.path.basename(os.path.normpath(_WORKDIR.value)))
    if _EXPORT.value is not None:
        root = _EXPORT_ROOT.value
        pretrained.check_name(_EXPORT.value, root, _REPLACE.value)
        places.writable(
            pretrained.own_root() if root is None else root, "--export_root"
        )
    places.writable(_WORKDIR.value, "--workdir")
    trained = running.restore(_WORKDIR.value, _STEP.value)
    if _EXPORT.value is not None:
        # A card tells figures of what is shipped, which is rounded.
        trained = running.as_exported(trained)
    rows = running.evaluate(trained, grid)
    print(report.markdown(rows, trained.run.shown))
    for path in report.write(rows, _WORKDIR.value, trained.run.shown):
        print(path)
    if _EXPORT.value is not None:
        ours = records.select(rows, variant=grid.variant)
        figures = report.figures(ours, trained.run.shown, grid.split)
        print(
            running.export(
                *(_WORKDIR.value, _EXPORT.value, figures),
                *(_STEP.value, _EXPORT_ROOT.value),
            )
        )


if __name__ == "__main__":
    cli.run(main)
