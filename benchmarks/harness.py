"""Paired timing, the machine's own figure, and the rows that every benchmark prints.

JAX is imported only where it is used, so this module costs a fresh process nothing.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]

# One round of times in seconds: contestant -> time.
Round = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured comparison.

    Attributes:
      workload: what both sides computed.
      unit: of ``m3jax`` and ``peer``: "s", where less is better, or a rate such as
        "1/s", where more is.
      m3jax: median of m3jax.
      peer: median of the best peer.
      peer_name: name of that peer.
      ratio: how many times better m3jax is: above 1, m3jax wins. The median of the
        ratios of paired measurements, so not exactly that of the two medians.
      versions: package -> version.
      cores: processor cores that the process may use.
      device: name of the device that both sides ran on.
      matmul_gflops: float32 matrix product of this machine, measured beside.
      target: the ratio to reach, or None.
      others: peers that were worse -> their median.
    """

    workload: str
    unit: str
    m3jax: float
    peer: float
    peer_name: str
    ratio: float
    versions: Mapping[str, str | None]
    cores: int
    device: str
    matmul_gflops: float
    target: float | None = None
    others: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the measurements of one process ran on; see `Row`."""

    versions: Mapping[str, str | None]
    cores: int
    device: str
    matmul_gflops: float


def paired(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 3,
    pause: float = 0.02,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, float]]:
    """Times contestants in turn, so that a drift of the machine meets all of them.

    The order turns from round to round, and every second round is reversed, so nobody
    always follows the same other one.

    Args:
      contestants: name -> a call that does the work and waits for its end.
      rounds: timed calls of each.
      warmup: calls of each before the first timed one.
      pause: seconds before each timed call, for the threads of the one before to
        fall asleep.
      clock: gives the time in seconds.

    Returns:
      For each round: name -> seconds.

    Raises:
      ValueError: ``rounds`` is below 1, or there is no contestant.

    Example:
      >>> times = paired({"a": lambda: None, "b": lambda: None}, rounds=2)
      >>> [sorted(one_round) for one_round in times]
      [['a', 'b'], ['a', 'b']]
    """
    if rounds < 1 or not contestants:
        raise ValueError(
            f"there must be a round and a contestant, got {rounds} and"
            f" {len(contestants)}."
        )
    for call in contestants.values():
        for _ in range(warmup):
            call()
    names = list(contestants)
    found = []
    for index in range(rounds):
        turn = index // 2 % len(names)
        order = names[turn:] + names[:turn]
        times = {}
        for name in order[::-1] if index % 2 else order:
            time.sleep(pause)
            start = clock()
            contestants[name]()
            times[name] = clock() - start
        found.append({name: times[name] for name in names})
    return found


def compare(
    workload: str,
    rounds: Sequence[Round],
    machine: Machine,
    *,
    ours: str = "m3jax",
    peers: Sequence[str] | None = None,
    target: float | None = None,
) -> Row:
    """Makes the row of the best peer from paired times.

    Args:
      workload: what was computed.
      rounds: seconds of each contestant, by round.
      machine: what it ran on.
      ours: the contestant that is m3jax.
      peers: contestants to compare with; all the others if None.
      target: the ratio to reach.

    Raises:
      ValueError: there is no round or no peer.
    """
    if not rounds:
        raise ValueError(f"{workload}: there is no round to compare.")
    if peers is None:
        peers = [name for name in rounds[0] if name != ours]
    if not peers:
        raise ValueError(f"{workload}: there is no peer to compare with.")
    medians = {
        name: statistics.median(times[name] for times in rounds)
        for name in (ours, *peers)
    }
    best = min(peers, key=medians.__getitem__)
    return Row(
        workload=workload,
        unit="s",
        m3jax=medians[ours],
        peer=medians[best],
        peer_name=best,
        ratio=statistics.median(times[best] / times[ours] for times in rounds),
        **dataclasses.asdict(machine),
        target=target,
        others={name: medians[name] for name in peers if name != best},
    )


def measure_machine(peer_packages: Sequence[str]) -> Machine:
    """Names the machine and packages, and measures the matrix product.

    Args:
      peer_packages: distributions of the peers, to give their versions too.
    """
    from m3jax.train import environment

    versions = environment.versions()
    versions.update({name: _version(name) for name in peer_packages})
    gflops = matmul_gflops()
    device = environment.device()
    print(f"float32 matrix product: {gflops:.0f} GFLOP/s", file=sys.stderr)
    kind = device["kind"]
    if device["platform"] == "cpu":
        kind = _processor() or kind
    return Machine(versions, num_cores(), str(kind), gflops)


def matmul_gflops(size: int = 2048, repeats: int = 7) -> float:
    """Measures a float32 product of two square matrices, in 1e9 operations a second.

    Args:
      size: rows and columns.
      repeats: timed products; their median counts.
    """
    import jax
    import jax.numpy as jnp

    left = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    rounds = paired(
        {"matmul": lambda: product(left, left).block_until_ready()}, repeats
    )
    return 2e-9 * size**3 / statistics.median(times["matmul"] for times in rounds)


def num_cores() -> int:
    """Number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require(package: str) -> None:
    """Raises RuntimeError, naming the mend, if a peer's package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise RuntimeError(
            f"the benchmarks compare with {package}, which is not installed:"
            " pip install 'm3jax[bench]'"
        )


def require_processor() -> None:
    """Raises RuntimeError, naming the mend, if JAX would not use the processor."""
    import jax

    if jax.default_backend() != "cpu":
        raise RuntimeError("this comparison is of processors: set JAX_PLATFORMS=cpu")


def run(work: Callable[[], Sequence[Row]]) -> None:
    """Runs a benchmark as a program: flags, quiet logs, errors of one line.

    Its rows are printed as one JSON list, and nothing else goes to standard output.
    """
    from absl import app, logging

    def main(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"what is {argv[1]!r}? See --help")
        if logging.get_verbosity() == logging.INFO:
            logging.set_verbosity(logging.WARNING)  # libraries tell a lot
        try:
            print_rows(work())
        except (ValueError, RuntimeError) as error:
            logging.debug("in full:", exc_info=True)
            sys.exit(f"error: {error}")

    app.run(main)


def print_rows(rows: Sequence[Row]) -> None:
    """Prints the rows as one JSON list."""
    fields = [dataclasses.asdict(row) for row in rows]
    print(json.dumps(fields, indent=2, allow_nan=False))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name, or an empty string where the system doesn't tell it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()
