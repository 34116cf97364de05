"""The best subset of experts in each of many states, against NumPy.

python -m benchmarks.selection

Both sides look at the same 256 subsets of 8 experts in 10,000 states of the system,
with the mean of the greatest delay over 64 common random numbers, and must choose the
same subsets before anything is timed. NumPy takes a state at a time and its subsets
together, with experts on the last axis or on the first, where whole rows are compared.
A row of its own has NumPy make tables by doubling, as m3jax does.
"""

import dataclasses
import functools

import jax
import numpy as np
from absl import flags

from benchmarks import harness
from m3jax.ops import subsets
from m3jax.systems.moe2 import selection

# Another benchmark in the same process, as in the tests, may have the same flags.
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "Timed calls of each side.", lower_bound=1, allow_override=True
)
_SIZE = flags.DEFINE_enum(
    "size", "full", ("full", "tiny"), "Workload.", allow_override=True
)

OURS, NUMPY = "m3jax", "NumPy"
ROWS, DOUBLING = "NumPy, experts first", "NumPy, by doubling"


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is solved.

    Attributes:
      num_states: of the system: delays, energies and budgets differ.
      target: the ratio to reach, or None.
      num_experts: N; all 2^N subsets are looked at.
      num_samples: K, common random numbers of delay.
    """

    num_states: int
    target: float | None = None
    num_experts: int = 8
    num_samples: int = 64

    @property
    def title(self) -> str:
        """Names the work and its size, for people."""
        return (
            f"the best of {2**self.num_experts} subsets of experts in"
            f" {self.num_states} states, {self.num_samples} samples of delay"
        )

    def draw(self) -> tuple:
        """Losses, delays, energies and budgets, as `selection.resolve_many` takes."""
        rng = np.random.default_rng(0)
        states, experts = self.num_states, self.num_experts
        merit = rng.gamma(0.5, size=(32, experts))
        masks = subsets.masks(experts)
        value = np.where(masks[:, None], merit, 0.0).max(axis=-1).mean(axis=-1)
        losses = np.where(masks.any(axis=1), -value, np.inf)
        # Load and link slow an expert down; what computation takes varies by itself.
        load, link = rng.uniform(0.3, 1.5, (2, states, 1, experts))
        shape = (states, self.num_samples, experts)
        delays = 0.2 * link + load * rng.exponential(size=shape)
        energies = rng.uniform(0.5, 2.0, (states, experts))
        tau_s = rng.uniform(0.8, 4.0, states)
        energy_j = rng.uniform(0.15, 0.8, states) * energies.sum(axis=1)
        arrays = (losses, delays, energies, tau_s, energy_j)
        losses, delays, energies, *budget = (x.astype(np.float32) for x in arrays)
        return losses, delays, energies, selection.Limits(*budget)


WORKLOADS = {"full": (Workload(10_000, 20.0),), "tiny": (Workload(50, None, 4, 8),)}


def m3jax_side(losses, delays, energies, budget):
    """m3jax's side: a call that gives the numbers of the subsets."""
    given = jax.device_put((losses, delays, energies, budget))
    return lambda: np.asarray(selection.resolve_many(*given).numbers)


def numpy_sides(losses, delays, energies, budget) -> dict:
    """NumPy's side, in three forms: name -> a call that gives the numbers."""
    num_experts = energies.shape[1]
    masks = subsets.masks(num_experts)
    as_floats = masks.astype(np.float32)
    by_expert = np.ascontiguousarray(as_floats.T)[:, :, None]

    def direct(samples, costs):
        kept = np.where(masks[:, None, :], samples, np.float32(0))
        return kept.max(axis=-1).mean(axis=-1), as_floats @ costs

    def rows(samples, costs):
        kept = by_expert * np.ascontiguousarray(samples.T)[:, None, :]
        return kept.max(axis=0).mean(axis=-1), as_floats @ costs

    def doubling(samples, costs):
        delay = np.zeros((2**num_experts, len(samples)), np.float32)
        energy = np.zeros(2**num_experts, np.float32)
        for i, (column, cost) in enumerate(zip(samples.T, costs, strict=True)):
            half = 2**i
            np.maximum(delay[:half], column, out=delay[half : 2 * half])
            np.add(energy[:half], cost, out=energy[half : 2 * half])
        return delay.mean(axis=1), energy

    def solve(tables):
        found = np.zeros(len(delays), np.int32)
        for state, (samples, costs, tau_s, energy_j) in enumerate(
            zip(delays, energies, *budget, strict=True)
        ):
            delay, energy = tables(samples, costs)
            passes = (delay <= tau_s) & (energy <= energy_j)
            number = np.argmin(np.where(passes, losses, np.inf))
            found[state] = number if passes[number] else 0
        return found

    forms = {NUMPY: direct, ROWS: rows, DOUBLING: doubling}
    return {name: functools.partial(solve, form) for name, form in forms.items()}


def check(
    name: str, found: np.ndarray, expected: np.ndarray, losses: np.ndarray
) -> None:
    """Checks the subsets that one side chose against the other's.

    Raises:
      RuntimeError: more than 0.1 % of the states got a subset of another loss; in so
        few, a set just at a limit may pass on one side.
    """
    other = losses[found] != losses[expected]
    if other.mean() > 1e-3:
        raise RuntimeError(
            f"{name}: in {other.sum()} of {other.size} states another subset was chosen"
        )


def measure(workload: Workload, machine: harness.Machine) -> list[harness.Row]:
    """Checks and times one workload."""
    given = workload.draw()
    contestants = {OURS: m3jax_side(*given), **numpy_sides(*given)}
    expected = contestants[NUMPY]()
    for name, solve in contestants.items():
        check(name, solve(), expected, given[0])
    rounds = harness.paired(contestants, _ROUNDS.value, warmup=1)
    return [
        harness.compare(
            workload.title,
            rounds,
            machine,
            peers=[NUMPY, ROWS],
            target=workload.target,
        ),
        harness.compare(
            f"{workload.title}: both by doubling", rounds, machine, peers=[DOUBLING]
        ),
    ]


def main() -> list[harness.Row]:
    """Measures each workload."""
    machine = harness.measure_machine([])
    return sum([measure(workload, machine) for workload in WORKLOADS[_SIZE.value]], [])


if __name__ == "__main__":
    harness.run(main)
