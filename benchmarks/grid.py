"""A whole SNR grid and all seeds against a single point, for each example.

python -m benchmarks.grid

The shipped TokCom answers the same questions at 16 SNRs x 5 seeds in one compiled
program, and at one SNR and seed. The ratio is how many times cheaper an example at one
point of the grid is than at the single point; 1 / 1.5 is what it must reach.
"""

import math
from collections.abc import Callable, Sequence

import jax
from absl import flags

from benchmarks import harness
from m3jax import base
from m3jax.data.edgescenes import dataset
from m3jax.evals import snr_sweep
from m3jax.experiments import over_snr as evaluation
from m3jax.experiments import running as experiment
from m3jax.train import memory

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed calls of each side.", lower_bound=1)
_EXAMPLES = flags.DEFINE_integer("num_examples", 200, "Test examples.", lower_bound=1)

TARGET = 1 / 1.5
SNRS_DB = (*(-10.0 + 2.5 * i for i in range(15)), math.inf)
NUM_SEEDS = 5


def make_sweep(
    run: experiment.Restored, batches: Sequence[base.Batch]
) -> Callable[[Sequence[float], int], snr_sweep.Sweep]:
    """Binds a model and its questions to ``(snrs_db, num_seeds) -> Sweep``."""
    encode = run.system.predict["encode"]

    def prepare(params: base.Params, batch: base.Batch) -> base.Batch:
        return dict(batch) | {"tokens": encode(params, batch, None)}

    return lambda snrs_db, num_seeds: snr_sweep.sweep(
        run.system.predict["answer"],
        run.params,
        batches,
        snrs_db=snrs_db,
        num_seeds=num_seeds,
        key=jax.random.key(0),
        prepare=prepare,
    )


def main() -> list[harness.Row]:
    """Times both, and divides by the number of points."""
    memory.keep_freed_memory()  # as the launchers do
    machine = harness.measure_machine([])
    run = experiment.load("tokcom")
    arrays = experiment.load_arrays(
        dataset.Config(config="smoke"), "test", _EXAMPLES.value
    )
    batches = experiment.split_batches(arrays, evaluation.BATCH_SIZE)
    sweep = make_sweep(run, batches)
    rounds = harness.paired(
        {
            "grid": lambda: sweep(SNRS_DB, NUM_SEEDS),
            "one point": lambda: sweep((10.0,), 1),
        },
        _ROUNDS.value,
        warmup=1,
    )
    points = len(SNRS_DB) * NUM_SEEDS
    per_example = [
        {
            "grid": times["grid"] / (points * _EXAMPLES.value),
            "one point": times["one point"] / _EXAMPLES.value,
        }
        for times in rounds
    ]
    title = f"TokCom's answers, an example at one of {points} points"
    return [harness.compare(title, per_example, machine, ours="grid", target=TARGET)]


if __name__ == "__main__":
    harness.run(main)
