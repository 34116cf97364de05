"""Exact retrieval by cosine similarity, against FAISS.

python -m benchmarks.retrieval

Both sides have the items as unit vectors already, and must find the same ones before
anything is timed. A ratio above 1 means that m3jax is faster.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import harness
from m3jax.ops import retrieval

# Another benchmark in the same process, as in the tests, may have the same flags.
_ROUNDS = flags.DEFINE_integer(
    "rounds", 15, "Timed calls of each side.", lower_bound=1, allow_override=True
)
_SIZE = flags.DEFINE_enum(
    "size", "full", ("full", "tiny"), "Workload.", allow_override=True
)

OURS, UNSCALED = "m3jax", "m3jax, lengths not known"
FAISS = "FAISS flat"
# Items that FAISS multiplies at once: its own choice, and what may be faster.
BLOCKS = (1024, 4096, 16384)
TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is searched.

    Attributes:
      num_items: in the pool.
      target: the ratio to reach, or None.
      num_queries: searched together.
      dim: numbers of a vector.
      k: items for each query.
    """

    num_items: int
    target: float | None = None
    num_queries: int = 64
    dim: int = 384
    k: int = 8

    @property
    def title(self) -> str:
        """Names the work and its size, for people."""
        items = f"{self.num_items:.0e}".replace("+0", "")
        return (
            f"exact top-{self.k} of {items} vectors ({self.dim}-d),"
            f" {self.num_queries} queries"
        )

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Queries and items, float32 unit vectors of random directions."""
        rng = np.random.default_rng(0)
        drawn = [
            rng.standard_normal((num, self.dim), np.float32)
            for num in (self.num_queries, self.num_items)
        ]
        for x in drawn:
            x /= np.linalg.norm(x, axis=1, keepdims=True)
        return drawn[0], drawn[1]


WORKLOADS = {
    "full": (Workload(10_000, 1.0), Workload(1_000_000, 0.95)),
    "tiny": (Workload(300, None, 4, 16, 3),),
}

Search = Callable[[], tuple[Any, Any]]
"""A call that gives cosines and indices, ``[Q, k]`` each, and waits for them."""


def searches(workload: Workload, queries: np.ndarray, items: np.ndarray) -> dict:
    """m3jax's side: name -> `Search`."""
    queries, items = jnp.asarray(queries), jnp.asarray(items)

    def search(unit_items: bool) -> Search:
        find = functools.partial(retrieval.top_k, k=workload.k, unit_items=unit_items)
        program = jax.jit(find)  # in which nothing is checked, as in FAISS
        return lambda: jax.block_until_ready(program(queries, items))

    return {OURS: search(True), UNSCALED: search(False)}


def faiss_searches(workload: Workload, queries: np.ndarray, items: np.ndarray) -> dict:
    """FAISS's side, in blocks of several sizes: name -> `Search`."""
    import faiss

    index = faiss.IndexFlatIP(workload.dim)
    index.add(items)

    def search(block: int) -> tuple[np.ndarray, np.ndarray]:
        faiss.cvar.distance_compute_blas_database_bs = block
        return index.search(queries, workload.k)

    names = {block: f"{FAISS}, blocks of {block}" for block in BLOCKS}
    names[BLOCKS[0]] = FAISS
    return {names[block]: functools.partial(search, block) for block in BLOCKS}


def check(name: str, found: tuple, expected: tuple) -> None:
    """Checks what one side found against the other.

    Raises:
      RuntimeError: cosines differ, or items of different cosines were found.
    """
    scores, indices = (np.asarray(x) for x in found)
    expected_scores, expected_indices = (np.asarray(x) for x in expected)
    error = np.abs(scores - expected_scores).max()
    # Another item may stand where rounding makes two cosines change places.
    other = indices != expected_indices
    if not error <= TOLERANCE or other.mean() > 0.01:
        raise RuntimeError(
            f"{name}: cosines differ by up to {error:.2g}, and {other.sum()} of"
            f" {other.size} items are others"
        )


def measure(workload: Workload, machine: harness.Machine) -> list[harness.Row]:
    """Checks and times one workload."""
    vectors = workload.draw()
    peers = faiss_searches(workload, *vectors)
    contestants = searches(workload, *vectors) | peers
    expected = contestants[FAISS]()
    for name, search in contestants.items():
        check(name, search(), expected)
    rounds = harness.paired(contestants, _ROUNDS.value)
    against = list(peers)
    title, goal = workload.title, workload.target
    return [
        harness.compare(title, rounds, machine, peers=against, target=goal),
        harness.compare(
            f"{title}: {UNSCALED}", rounds, machine, ours=UNSCALED, peers=against
        ),
    ]


def main() -> list[harness.Row]:
    """Measures each pool."""
    harness.require("faiss")
    machine = harness.measure_machine(["faiss-cpu"])
    rows = [measure(workload, machine) for workload in WORKLOADS[_SIZE.value]]
    return sum(rows, [])


if __name__ == "__main__":
    harness.run(main)
