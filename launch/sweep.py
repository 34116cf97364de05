"""Trains and measures one run for each point of a grid of config fields.

python launch/sweep.py --config=configs/tokcom.py --over 'train.seed=0,1,2,3,4' \
    --workdir=runs/s
"""

import cli
import config_flag
import grids
from absl import flags

from m3jax.evals import report
from m3jax.experiments import fields, sweeping

_CONFIG = config_flag.define("configs/tokcom.py", "Config file, as FILE or FILE:SIZE.")
_OVER = flags.DEFINE_multi_string(
    "over", None, "An axis of the grid, as path=value,value; may come several times."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the runs go.", required=True)
_TOGETHER = flags.DEFINE_bool(
    "together",
    None,
    "Train points that differ in seeds and floats alone by one program; where that is"
    " faster if unset.",
)

flags.mark_flag_as_required("over")


def main() -> None:
    """Runs the grid that the flags name; what is done already is not done again."""
    axes = fields.parse_over(_OVER.value)
    rows = sweeping.run(
        *(_CONFIG.value, axes, _WORKDIR.value, grids.read()), shared=_TOGETHER.value
    )
    shown = _CONFIG.value.build().shown
    print(report.markdown(rows, shown))
    for path in report.write(rows, _WORKDIR.value, shown):
        print(path)


if __name__ == "__main__":
    cli.run(main)
