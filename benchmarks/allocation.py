"""Bandwidths for round trips to eight devices, against SciPy's SLSQP.

python -m benchmarks.allocation

One block (the greatest latency of eight devices) and one split for 32 blocks (the sum
of their greatest latencies), over channels as WDMoE draws them. WDMoE solves these with
SLSQP. It gets both forms of the problem: with a variable for each block's latency,
smooth and with analytic Jacobians, and the sum of maxima itself with a subgradient;
every form that reaches the optimum to 1e-4 is a peer. m3jax solves in float32, many at
a time, and must reach the optimum (its own, in float64, with a gap below 1e-9) to 1e-6.
"""

import dataclasses
import sys

import jax
import numpy as np
from absl import flags
from scipy import optimize

from benchmarks import harness
from m3jax.ops import fair_round_trips, round_trips, sum_of_maxima
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import latency

# Another benchmark in the same process, as in the tests, may have the same flags.
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "Timed calls of each side.", lower_bound=1, allow_override=True
)
_SIZE = flags.DEFINE_enum(
    "size", "full", ("full", "tiny"), "Workload.", allow_override=True
)

OURS, SMOOTH, DIRECT = "m3jax", "SciPy SLSQP", "SciPy SLSQP on the sum itself"
EXCESS, PEERS_EXCESS = 1e-6, 1e-4


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is solved.

    Attributes:
      num_blocks: I.
      num_draws: of channels and loads, which m3jax solves at a time.
      num_peers: of these, solved by SLSQP in each round.
      target: the ratio to reach, or None.
    """

    num_blocks: int
    num_draws: int
    num_peers: int
    target: float | None = None

    @property
    def title(self) -> str:
        """Names the work and its size, for people."""
        if self.num_blocks == 1:
            return "bandwidths of one block of 8 devices, a solve"
        return f"one split for the sum of {self.num_blocks} block maxima, a solve"

    def draw(self) -> tuple[np.ndarray, round_trips.Trips, np.float32]:
        """Loads ``[N, I, 8]``, trips ``[N, 8]`` and the total bandwidth."""
        cell = cells.Cell()
        rng = np.random.default_rng(0)
        gains = cells.draw_gains(jax.random.key(0), cell, self.num_draws)
        likes = rng.dirichlet(np.full(8, 8.0), (self.num_draws, 1))
        likes = np.repeat(likes, self.num_blocks, axis=1)
        loads = np.maximum(rng.multinomial(512, likes), 1).astype(np.float32)
        trips = jax.tree.map(np.asarray, latency.make_trips(cell, gains))
        spread = rng.lognormal(0.0, 0.5, trips.fixed_s.shape)
        trips = trips._replace(fixed_s=(trips.fixed_s * spread).astype(np.float32))
        return loads, trips, np.float32(cell.bandwidth_hz)


WORKLOADS = {
    "full": (Workload(1, 4096, 50, 200.0), Workload(32, 1024, 10, 50.0)),
    "tiny": (Workload(1, 8, 4), Workload(3, 8, 4)),
}


def solver(num_blocks: int):
    """m3jax's: from loads, trips and the total to bandwidths ``[N, 8]``, jitted."""

    def solve(loads, trips, total):
        if num_blocks == 1:
            return fair_round_trips.fair_bandwidths(loads[0], trips, total).amounts
        return sum_of_maxima.sum_of_maxima(loads, trips, total).amounts

    return jax.jit(jax.vmap(solve, (0, 0, None)))


def exact_values(workload: Workload, given) -> np.ndarray:
    """Optimal seconds ``[N]`` in float64, with a gap below 1e-9."""
    with jax.enable_x64():
        given = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), given)
        split = jax.jit(jax.vmap(sum_of_maxima.sum_of_maxima, (0, 0, None)))(*given)
        if np.max(split.gap / split.value) > 1e-9:
            raise RuntimeError(f"{workload.title}: the reference is not solved")
        return np.asarray(split.value)


def values(given, amounts: np.ndarray) -> np.ndarray:
    """Seconds ``[N]`` of bandwidths, brought to the exact total, in float64."""
    loads, trips, total = given
    amounts = np.asarray(amounts, np.float64)
    amounts = amounts / amounts.sum(axis=1, keepdims=True) * np.float64(total)
    ways = ((trips.bits_down, trips.cn0_down), (trips.bits_up, trips.cn0_up))
    token_s = sum(
        bits * np.log(2.0) / (amounts * np.log1p(cn0 / amounts)) for bits, cn0 in ways
    )
    token_s = token_s + trips.fixed_s
    return np.max(loads * token_s[:, None], axis=2).sum(axis=1)


def slsqp(form: str, loads: np.ndarray, trips, total: float) -> np.ndarray:
    """SLSQP's bandwidths of one draw, from even ones; in shares and a mean block."""
    num_blocks, num = loads.shape
    ways = [(trips.bits_down, trips.cn0_down), (trips.bits_up, trips.cn0_up)]
    ways = [(np.log(2.0) * bits / total, cn0 / total) for bits, cn0 in ways]
    rows, columns = np.arange(num_blocks), np.arange(num)

    def times(shares):
        seconds = sum(a / (shares * np.log1p(c / shares)) for a, c in ways)
        return loads * ((seconds + trips.fixed_s) / unit)

    def slopes(shares):
        rises = 0.0
        for a, c in ways:
            t = c / shares
            log = np.log1p(t)
            rises = rises + a / (shares**2 * log) * (t / ((1.0 + t) * log) - 1.0)
        return loads * (rises / unit)

    unit = 1.0
    start = np.full(num, 1.0 / num)
    unit = times(start).max(axis=1).mean()
    bounds = [(1e-6, 1.0)] * num
    options = {"ftol": 1e-9, "maxiter": 300}
    if form == DIRECT:

        def slope(x):
            slowest = times(x).argmax(axis=1)
            found = np.zeros(num)
            np.add.at(found, slowest, slopes(x)[rows, slowest])
            return found

        found = optimize.minimize(
            lambda x: times(x).max(axis=1).sum(),
            start,
            jac=slope,
            method="SLSQP",
            bounds=bounds,
            constraints={
                "type": "eq",
                "fun": lambda x: x.sum() - 1.0,
                "jac": lambda x: np.ones(num),
            },
            options=options,
        )
        return found.x * total
    objective = np.r_[np.zeros(num), np.ones(num_blocks)]
    budget = np.r_[np.ones(num), np.zeros(num_blocks)]

    def jacobian(x):
        matrix = np.zeros((num_blocks, num, num + num_blocks))
        matrix[:, columns, columns] = -slopes(x[:num])
        matrix[rows, :, num + rows] = 1.0
        return matrix.reshape(-1, num + num_blocks)

    found = optimize.minimize(
        lambda x: x[num:].sum(),
        np.r_[start, times(start).max(axis=1)],
        jac=lambda x: objective,
        method="SLSQP",
        bounds=bounds + [(0.0, None)] * num_blocks,
        constraints=[
            {
                "type": "ineq",
                "fun": lambda x: (x[num:, None] - times(x[:num])).ravel(),
                "jac": jacobian,
            },
            {
                "type": "eq",
                "fun": lambda x: x[:num].sum() - 1.0,
                "jac": lambda x: budget,
            },
        ],
        options=options,
    )
    return found.x[:num] * total


def peer(form: str, given, count: int):
    """SLSQP's side: a call that gives bandwidths of the first draws."""
    loads, trips, total = given
    trips = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), trips)
    draws = [
        (np.float64(loads[n]), jax.tree.map(lambda leaf, n=n: leaf[n], trips))
        for n in range(count)
    ]
    return lambda: np.array([slsqp(form, *one, float(total)) for one in draws])


def excess(found: np.ndarray, optimum: np.ndarray) -> np.ndarray:
    """By what share values lie above the optimum."""
    return found / optimum[: len(found)] - 1.0


def measure(workload: Workload, machine: harness.Machine) -> list[harness.Row]:
    """Checks and times one workload.

    Raises:
      RuntimeError: m3jax or all of SLSQP's forms miss the optimum.
    """
    given = workload.draw()
    loads, trips, total = given
    optimum = exact_values(workload, given)
    solve = solver(workload.num_blocks)
    on_device = jax.device_put(given)
    above = excess(values(given, solve(*given)), optimum)
    print(f"{OURS}: most {above.max():.1e} above the optimum", file=sys.stderr)
    if above.max() > EXCESS:
        raise RuntimeError(f"{workload.title}: m3jax is {above.max():.1e} above")
    count = workload.num_peers
    first = jax.tree.map(lambda leaf: leaf[:count], (loads, trips))
    sides = {}
    for form in (SMOOTH, DIRECT):
        side = peer(form, given, count)
        off = excess(values((*first, total), side()), optimum)
        print(f"{form}: most {off.max():.1e} above the optimum", file=sys.stderr)
        if off.max() <= PEERS_EXCESS:
            sides[form] = side
    contestants = {OURS: lambda: solve(*on_device).block_until_ready(), **sides}
    rounds = harness.paired(contestants, _ROUNDS.value, warmup=1)
    sizes = dict.fromkeys(sides, count) | {OURS: workload.num_draws}
    each = [{name: s / sizes[name] for name, s in times.items()} for times in rounds]
    return [harness.compare(workload.title, each, machine, target=workload.target)]


def main() -> list[harness.Row]:
    """Measures each workload."""
    machine = harness.measure_machine([])
    return sum([measure(workload, machine) for workload in WORKLOADS[_SIZE.value]], [])


if __name__ == "__main__":
    harness.run(main)
