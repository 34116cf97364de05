"""The flags that say what a run is measured over, for the launchers that measure."""

from absl import flags

from m3jax import base
from m3jax.evals import snr_grid
from m3jax.experiments import running
from m3jax.train import memory

# A record, its coordinates and its row of the file; each metric and group has one.
_BYTES_OF_A_RECORD = 500

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
    places = 1 if snrs_db is None else len(snrs_db)
    memory.check_fits(
        places * grid.num_seeds * _BYTES_OF_A_RECORD,
        memory.host_bytes(),
        f"what --num_seeds={grid.num_seeds} at {places} SNRs measures",
        "take fewer seeds or SNRs",
    )
    return grid
