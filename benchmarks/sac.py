"""Soft actor-critic with wide observations, against Stable-Baselines3.

python -m benchmarks.sac

Each side takes steps in an environment that costs nothing, stores them, and makes an
update after each. Given the same weights, batch and noise, their losses and gradients
must agree before anything is timed. A ratio above 1 means that m3jax is faster.
"""

import jax
import numpy as np
from absl import flags

from benchmarks import harness, sac_m3jax, sac_workload
from m3jax.train import memory

# Another benchmark in the same process, as in the tests, may have the same flags.
_ROUNDS = flags.DEFINE_integer(
    "rounds", 9, "Timed calls of each side.", lower_bound=1, allow_override=True
)
_SIZE = flags.DEFINE_enum(
    "size", "full", ("full", "tiny"), "Workload.", allow_override=True
)

TARGET = 2.0
PEER = "Stable-Baselines3"
# Float32 sums in another order; a wrong formula is off by far more.
TOLERANCE = 1e-3


def check(workload: sac_workload.Workload) -> None:
    """Checks that both sides find the same losses and gradients.

    Raises:
      RuntimeError: they do not; says what differs and by how much.
    """
    from benchmarks import sac_sb3

    ours = jax.device_get(sac_m3jax.find_losses(workload))
    params, log_alpha = ours.grads
    expected = {**params, "log_alpha": log_alpha}
    values, grads = sac_sb3.find_losses(workload, ours.params, ours.target, ours.noise)
    for name, value in values.items():
        if not np.isclose(ours.values[name], value, rtol=TOLERANCE):
            raise RuntimeError(f"{name} differs: {ours.values[name]} and {value}")
    for name, found in grads.items():
        pairs = zip(sac_sb3.counterpart(name, expected[name]), found, strict=True)
        for i, (left, right) in enumerate(pairs):
            error, norm = np.linalg.norm(left - right), np.linalg.norm(right)
            if not error <= TOLERANCE * norm:
                raise RuntimeError(
                    f"gradients of {name}, tensor {i}, differ: norm {norm:.3g}, of the"
                    f" difference {error:.3g}"
                )


def measure(
    workload: sac_workload.Workload, machine: harness.Machine
) -> list[harness.Row]:
    """Checks and times one workload."""
    from benchmarks import sac_sb3

    check(workload)
    calls = {
        "m3jax": sac_m3jax.make_step(workload),
        PEER: sac_sb3.make_step(workload),
    }
    rounds = harness.paired(calls, _ROUNDS.value, warmup=2)
    return [harness.compare(workload.title, rounds, machine, target=TARGET)]


def main() -> list[harness.Row]:
    """Measures the workload."""
    for package in ("torch", "stable_baselines3"):
        harness.require(package)
    memory.keep_freed_memory()  # as the launchers do; both sides live by it
    machine = harness.measure_machine(["torch", "stable-baselines3"])
    return measure(sac_workload.WORKLOADS[_SIZE.value], machine)


if __name__ == "__main__":
    harness.run(main)
