"""Measures a run over a grid of SNRs; writes evaluation.json, table.md and plots.

python launch/evaluate.py --workdir=runs/tokcom --snr_db=-10:20:2.5 --num_seeds=5
"""

import os

import cli
from absl import flags

from m3jax import evaluation, experiment
from m3jax.evals import records, snr_grid

_WORKDIR = flags.DEFINE_string("workdir", None, "The run.", required=True)
_STEP = flags.DEFINE_integer("step", None, "A saved step; the newest if unset.")
_SNR_DB = flags.DEFINE_string(
    "snr_db", "-10:25:2.5,inf", "SNRs in dB: start:stop:step, numbers, inf."
)
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Draws of noise and fading.")
_NUM_EXAMPLES = flags.DEFINE_integer(
    "num_examples", None, "Examples of the split; all if unset."
)
_EXPORT = flags.DEFINE_string(
    "export", None, "Name under which the package then ships the run's parameters."
)
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "The split.")


def main() -> None:
    """Evaluates what the flags name."""
    snrs_db = snr_grid.parse_range(_SNR_DB.value)
    run = experiment.restore(_WORKDIR.value, _STEP.value)
    rows = evaluation.evaluate(
        run,
        snrs_db,
        _NUM_SEEDS.value,
        variant=os.path.basename(os.path.normpath(_WORKDIR.value)),
        num_examples=_NUM_EXAMPLES.value,
        split=_SPLIT.value,
    )
    rows += evaluation.floor(run.experiment, _NUM_EXAMPLES.value, _SPLIT.value)
    text, paths = evaluation.report(rows, _WORKDIR.value)
    print(text)
    for path in paths:
        print(path)
    if _EXPORT.value:
        figures = {
            f"{_SPLIT.value} answer_accuracy, {row.at[0][1]:g} dB": round(row.mean, 4)
            for row in records.aggregate(
                records.select(rows, metric="answer_accuracy", skill=None)
            )
            if row.at
        }
        print(experiment.export(_WORKDIR.value, _EXPORT.value, figures))


if __name__ == "__main__":
    cli.run(main)
