"""What checksums cost: a save and a restore of 1 GB, with them and without.

python -m benchmarks.checkpoints

A save is timed until all is on disk. A ratio of 0.95 means that a twentieth of the time
goes into the sums.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from unittest import mock

import jax
import numpy as np
from absl import flags

from benchmarks import harness
from m3jax import base
from m3jax.train import cards, checkpoints

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed saves of each.", lower_bound=1)
_MEGABYTES = flags.DEFINE_integer("megabytes", 1000, "Of the state.", lower_bound=16)

NUM_ARRAYS = 16
MOST_LOST = 0.05  # of the time


def make_state(num_bytes: int) -> base.TrainState:
    """Draws parameters of that many bytes, in `NUM_ARRAYS` arrays."""
    rng = np.random.default_rng(0)
    size = num_bytes // NUM_ARRAYS // 4
    params = {
        f"layer_{i}": jax.device_put(rng.standard_normal(size, np.float32))
        for i in range(NUM_ARRAYS)
    }
    return base.TrainState(jax.numpy.int32(1), params, ())


@contextlib.contextmanager
def without_sums() -> Iterator[None]:
    """Saves and restores as if no card had checksums of arrays."""
    with mock.patch.object(cards, "sums_of", lambda leaves: {}):
        yield


def save(state: base.TrainState, folder: str) -> None:
    """Saves into an empty folder, up to the end of the last write."""
    shutil.rmtree(folder, ignore_errors=True)
    with checkpoints.Checkpointer(folder) as saves:
        saves.save(1, state)


def restore(state: base.TrainState, folder: str) -> None:
    """Restores what `save` wrote."""
    abstract = jax.eval_shape(lambda: state)
    with checkpoints.Checkpointer(folder, read_only=True) as saves:
        jax.block_until_ready(saves.restore(abstract).state.params)


def plain(call):
    """The same call without sums."""

    def run():
        with without_sums():
            call()

    return run


def main() -> list[harness.Row]:
    """Measures a save and a restore."""
    machine = harness.measure_machine([])
    state = make_state(_MEGABYTES.value * 10**6)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/saved"
        for name, work in (("save", save), ("restore", restore)):
            if name == "restore":
                save(state, place)
            ours = lambda work=work: work(state, place)  # noqa: E731
            rounds = harness.paired(
                {"m3jax": ours, "without checksums": plain(ours)},
                _ROUNDS.value,
                warmup=1,
            )
            rows.append(
                harness.compare(
                    f"{name} of {_MEGABYTES.value} MB with checksums",
                    *(rounds, machine),
                    target=1 - MOST_LOST,
                )
            )
    return rows


if __name__ == "__main__":
    harness.run(main)
