"""Trains and measures one run for each point of a grid of config fields.

python launch/sweep.py --config=configs/tokcom.py --over 'train.seed=0,1,2,3,4' \
    --workdir=runs/s
"""

import cli
from absl import flags
from ml_collections import config_flags

from m3jax import evaluation, sweeps
from m3jax.evals import snr_grid

_CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/tokcom.py", "Config file, as FILE or FILE:SIZE."
)
_OVER = flags.DEFINE_multi_string(
    "over", None, "An axis of the grid, as path=value,value; may come several times."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the runs go.", required=True)
_SNR_DB = flags.DEFINE_string(
    "snr_db", "-10:25:2.5,inf", "SNRs in dB: start:stop:step, numbers, inf."
)
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Draws of noise for each run.")
_NUM_EXAMPLES = flags.DEFINE_integer(
    "num_examples", None, "Test examples; all if unset."
)

flags.mark_flag_as_required("over")


def main() -> None:
    """Runs the grid that the flags name; what is done already is not done again."""
    rows = sweeps.run(
        _CONFIG.value,
        sweeps.parse_over(_OVER.value),
        _WORKDIR.value,
        snrs_db=snr_grid.parse_range(_SNR_DB.value),
        num_seeds=_NUM_SEEDS.value,
        num_examples=_NUM_EXAMPLES.value,
    )
    text, paths = evaluation.report(rows, _WORKDIR.value)
    print(text)
    for path in paths:
        print(path)


if __name__ == "__main__":
    cli.run(main)
