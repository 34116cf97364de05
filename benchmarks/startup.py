"""First train step of a new process, against eager PyTorch in a new process.

python -m benchmarks.startup

Each time runs from the launch of the process to the end of its first step: interpreter,
imports, initial weights, compilation, the step. m3jax starts with an empty compilation
cache (cold) and with the one that this start left (warm), its layers scanned and
unrolled. A ratio above 1 means that m3jax is faster.
"""

import dataclasses
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from absl import flags

from benchmarks import harness, vit_workload

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed starts of each.", lower_bound=1)
_SIZE = flags.DEFINE_string("size", "small", "Workload: small, large or tiny.")

PEER = "PyTorch eager"
# The start to aim at, and the seconds that it may take.
AIM = "warm cache, scanned layers"
WARM_SECONDS = 2.5
SECONDS_LIMIT = 600.0


def time_first_step(arguments: Sequence[str]) -> float:
    """Launches a process and returns the seconds up to the end of its first step.

    Args:
      arguments: of `benchmarks.first_step`.

    Raises:
      RuntimeError: the process did not get there; its own message stands above.
    """
    command = [sys.executable, "-m", "benchmarks.first_step", *arguments]
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=harness.ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        process.stdout.read()
        # The end of a process is not timed, and must not run into the next one.
        code = process.wait(SECONDS_LIMIT)
    if code or not line.startswith("done"):
        raise RuntimeError(f"{' '.join(command)} ended with {code} before its step")
    return seconds


def one_round(size: str, depth: int) -> dict[str, float]:
    """Launches each contestant once and returns its seconds by name."""
    times = {PEER: time_first_step(["torch", size])}
    for layers, unroll in (("scanned", 1), ("unrolled", depth)):
        with tempfile.TemporaryDirectory() as folder:
            cache = pathlib.Path(folder, "cache")
            arguments = ["m3jax", size, f"--scan_unroll={unroll}", f"--cache={cache}"]
            for state in ("cold", "warm"):
                times[f"{state} cache, {layers} layers"] = time_first_step(arguments)
    return times


def main() -> list[harness.Row]:
    """Measures each state of the cache and form of the layers."""
    harness.require("torch")
    workload = vit_workload.named(_SIZE.value)
    machine = harness.measure_machine(["torch"])
    # Not timed: it brings the files of both sides from the disk into memory.
    one_round(_SIZE.value, workload.depth)
    rounds = [one_round(_SIZE.value, workload.depth) for _ in range(_ROUNDS.value)]
    title = f"first step of a new process, {workload.num_tokens} tokens"
    rows = []
    for name in rounds[0]:
        if name != PEER:
            row = harness.compare(
                f"{title}: {name}", rounds, machine, ours=name, peers=[PEER]
            )
            target = row.peer / WARM_SECONDS if name == AIM else None
            rows.append(dataclasses.replace(row, target=target))
    return rows


if __name__ == "__main__":
    harness.run(main)
