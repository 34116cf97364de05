"""What checksums cost of a save and a restore of 1 GB.

python -m benchmarks.checkpoints

A save is timed until all is written, into memory (/dev/shm) where there is such a
place, as a disk would make the share of the sums smaller. Both figures are of the same
calls: all of their time, and their time without what is spent on the sums, during which
nothing else goes on. A ratio of 0.95 means that a twentieth goes into the sums.
"""

import contextlib
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from unittest import mock

import jax
import numpy as np
from absl import flags

from benchmarks import harness
from m3jax import base
from m3jax.train import cards, checkpoints

_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed saves and restores.", lower_bound=1)
_MEGABYTES = flags.DEFINE_integer("megabytes", 1000, "Of the state.", lower_bound=16)

MEMORY = pathlib.Path("/dev/shm")
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


def save(state: base.TrainState, folder: pathlib.Path) -> None:
    """Saves into an empty folder, up to the end of the last write."""
    shutil.rmtree(folder, ignore_errors=True)
    with checkpoints.Checkpointer(folder) as saves:
        saves.save(1, state)


def restore(state: base.TrainState, folder: pathlib.Path) -> None:
    """Restores what `save` wrote."""
    abstract = jax.eval_shape(lambda: state)
    with checkpoints.Checkpointer(folder, read_only=True) as saves:
        jax.block_until_ready(saves.restore(abstract).state.params)


@contextlib.contextmanager
def timed_sums(spent: list[float]) -> Iterator[None]:
    """Adds the seconds of each call that takes the sums of arrays."""
    take = cards.sums_of

    def timed(leaves):
        start = time.perf_counter()
        found = take(leaves)
        spent.append(time.perf_counter() - start)
        return found

    with mock.patch.object(cards, "sums_of", timed):
        yield


def one_round(work, state: base.TrainState, folder: pathlib.Path) -> dict[str, float]:
    """Seconds of a call, with what goes into sums and without it."""
    spent: list[float] = []
    with timed_sums(spent):
        start = time.perf_counter()
        work(state, folder)
        seconds = time.perf_counter() - start
    return {"m3jax": seconds, "without checksums": seconds - sum(spent)}


def main() -> list[harness.Row]:
    """Measures a save and a restore."""
    machine = harness.measure_machine([])
    state = make_state(_MEGABYTES.value * 10**6)
    rows = []
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        folder = pathlib.Path(place, "saved")
        for work in (save, restore):
            one_round(work, state, folder)  # not timed
            rounds = [one_round(work, state, folder) for _ in range(_ROUNDS.value)]
            name = f"{work.__name__} of {_MEGABYTES.value} MB with checksums"
            rows.append(harness.compare(name, rounds, machine, target=1 - MOST_LOST))
    return rows


if __name__ == "__main__":
    harness.run(main)
