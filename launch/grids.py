"""The flags that say what a run is measured over, for the launchers that measure."""

from absl import flags

from m3jax import base
from m3jax.evals import snr_grid
from m3jax.experiments import running

_SNR_DB = flags.DEFINE_string(
    "snr_db",
    None,
    "SNRs in dB: start:stop:step, numbers, inf; those that suit the run if unset.",
)
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Draws of noise, fading, episodes.")
_NUM_EXAMPLES = flags.DEFINE_integer(
    "num_examples", None, "Examples of the split; all if unset."
)
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "The split.")


def read(variant: str = "run") -> base.Grid:
    """The grid of the flags; raises ValueError for what makes no sense."""
    snrs_db = None if _SNR_DB.value is None else snr_grid.parse_range(_SNR_DB.value)
    grid = base.Grid(
        variant, snrs_db, _NUM_SEEDS.value, _NUM_EXAMPLES.value, _SPLIT.value
    )
    running.check_grid(grid)
    return grid
