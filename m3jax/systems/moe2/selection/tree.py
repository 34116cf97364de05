"""The tree of subset monotonic optimisation; see `monotonic.smo` for the idea."""

import heapq
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from m3jax.systems.moe2.selection import problem as problems

Bound = Callable[[np.ndarray, np.ndarray], float]
"""``(include [N], upper [N]) -> least loss`` that any feasible set between can have."""
FEW = 3
"""Up to so many maximal feasible sets for each expert, all are evaluated: fewer sets
than bounds would ask for."""


class Node(NamedTuple):
    """The feasible sets between two sets; ordered by what their loss is at least.

    Attributes:
      floor: no set of the node has less loss.
      number: nodes of equal floor go by it.
      include: bool ``[N]``, experts whom all sets have.
      upper: bool ``[N]``, experts whom no set exceeds; each can join what is included.
      measured: whether the loss of the upper set is in the floor.
    """

    floor: float
    number: int
    include: np.ndarray
    upper: np.ndarray
    measured: bool


class Search:
    """The state of one search: what is known of sets, the best one, the open nodes."""

    def __init__(self, problem: problems.Problem, epsilon: float, bound: Bound | None):
        self.problem, self.epsilon, self.bound = problem, epsilon, bound
        self.known: dict[bytes, float] = {}
        self.best, self.best_loss = None, np.inf
        self.closed = np.inf  # the least floor of what was put aside
        self.num_nodes = 0
        self._heap: list[Node] = []
        self._num_pushed = 0
        self._began = time.perf_counter()
        # What an expert alone is better than the worst: whom to try first.
        self._worth = np.zeros(problem.num_experts)
        # Sets that are known as numbers, and their floors, in arrays that grow.
        self._bits = np.uint64(1) << np.arange(problem.num_experts, dtype=np.uint64)
        self._numbers, self._floors = np.zeros(64, np.uint64), np.zeros(64)

    def seconds(self) -> float:
        """Since the search began."""
        return time.perf_counter() - self._began

    def is_open(self) -> bool:
        """Whether some node may hold a set that is better by more than epsilon."""
        return bool(self._heap) and self._hopeful(self._heap[0].floor)

    def gap(self) -> float:
        """What the best loss is above the least possible at most."""
        floors = [self.closed, *(node.floor for node in self._heap[:1])]
        return float(max(self.best_loss - min(floors), 0.0))

    def try_set(self, members: np.ndarray) -> None:
        """Takes a feasible set as the best so far if it is."""
        self._measure([members])
        if self.known[members.tobytes()] < self.best_loss:
            self.best, self.best_loss = members, self.known[members.tobytes()]

    def open(self) -> bool:
        """Puts the first node on the list; False if no expert passes alone.

        Where maximal feasible sets are few, they are evaluated instead.
        """
        num_experts = self.problem.num_experts
        alone = np.eye(num_experts, dtype=bool)
        able = self.problem.feasible(alone)
        if not able.any():
            return False
        first = Node(-np.inf, 0, np.zeros(num_experts, bool), able, False)
        few = self._maximal(first, FEW * num_experts)
        self._measure(few or list(alone[able]))
        for members in few or alone[able]:
            self.try_set(members)
        if few:
            self.closed = min(self._floor(members) for members in few)
        else:
            losses = np.array(
                [self.known[members.tobytes()] for members in alone[able]]
            )
            self._worth[able] = losses.max() - losses
            self._push(first)
        return True

    def advance(self, batch_size: int) -> None:
        """Takes the best nodes; evaluates their upper sets, or branches on them."""
        nodes = []
        while self.is_open() and len(nodes) < batch_size:
            node = heapq.heappop(self._heap)
            nodes.append(node._replace(floor=max(node.floor, self._floor(node.upper))))
        inside = [self._fill(node) if node.measured else node.upper for node in nodes]
        hopeful = [
            self._hopeful(max(node.floor, self._floor(members)))
            for node, members in zip(nodes, inside, strict=True)
        ]
        pairs = zip(inside, hopeful, strict=True)
        self._measure([members for members, is_so in pairs if is_so])
        for node, members, is_so in zip(nodes, inside, hopeful, strict=True):
            if is_so and node.measured:
                self.try_set(members)
            floor = max(node.floor, self._floor(node.upper))
            if not self._hopeful(floor):
                self.closed = min(self.closed, floor)
            elif node.measured:
                self.num_nodes += 1
                for child in self._children(node):
                    self._push(child)
            elif self.problem.feasible(node.upper[None])[0]:
                self.try_set(node.upper)
                self.closed = min(self.closed, floor)
            else:
                self._push(node._replace(floor=floor, measured=True))

    def _hopeful(self, floor: float) -> bool:
        return floor < self.best_loss - self.epsilon

    def _push(self, node: Node) -> None:
        floor = node.floor
        if self.bound is not None and not node.measured:
            floor = max(floor, self.bound(node.include, node.upper))
        self._num_pushed += 1
        node = node._replace(floor=floor, number=self._num_pushed)
        heapq.heappush(self._heap, node)

    def _measure(self, sets: list[np.ndarray]) -> None:
        """Evaluates sets that are not known yet, together."""
        new = {m.tobytes(): m for m in sets if m.tobytes() not in self.known}
        if not new:
            return
        losses, gaps = self.problem.losses(np.array(list(new.values())))
        start = len(self.known)
        self.known.update(zip(new, losses.tolist(), strict=True))
        while len(self._numbers) < len(self.known):
            self._numbers = np.concatenate([self._numbers, self._numbers])
            self._floors = np.concatenate([self._floors, self._floors])
        end = len(self.known)
        self._numbers[start:end] = [self._number(m) for m in new.values()]
        self._floors[start:end] = losses - gaps

    def _number(self, members: np.ndarray) -> np.uint64:
        return self._bits[members].sum(dtype=np.uint64)

    def _floor(self, members: np.ndarray) -> float:
        """The least loss that a set can have, by itself and larger ones if known."""
        number, count = self._number(members), len(self.known)
        larger = self._numbers[:count] & number == number
        return float(self._floors[:count].max(where=larger, initial=-np.inf))

    def _joinable(self, include: np.ndarray, upper: np.ndarray) -> np.ndarray | None:
        """The upper set without those who cannot join; None if nothing is feasible."""
        others = np.flatnonzero(upper & ~include)
        joined = np.repeat(include[None], len(others) + 1, axis=0)
        joined[np.arange(len(others)), others] = True
        passes = self.problem.feasible(joined)
        if not passes[-1]:
            return None
        kept = include.copy()
        kept[others[passes[:-1]]] = True
        return kept

    def _fill(self, node: Node) -> np.ndarray:
        """A maximal feasible set of a node: the worthiest who still fits, again."""
        inside, upper = node.include, node.upper
        while (upper & ~inside).any():
            free = np.flatnonzero(upper & ~inside)
            inside = inside.copy()
            inside[free[np.argmax(self._worth[free])]] = True
            upper = self._joinable(inside, upper)
        return inside

    def _children(self, node: Node) -> Iterator[Node]:
        """A partition of the feasible sets of a node whose upper set is not."""
        include = node.include.copy()
        for expert in self._conflict(node):
            upper = node.upper.copy()
            upper[expert] = False
            upper = self._joinable(include, upper)
            if upper is None:
                return
            yield Node(node.floor, 0, include.copy(), upper, False)
            include[expert] = True

    def _conflict(self, node: Node) -> list[int]:
        """Experts who cannot all join what is included, none of them for nothing."""
        free = np.flatnonzero(node.upper & ~node.include)
        free = free[np.argsort(-self._worth[free], kind="stable")]
        joined = np.repeat(node.include[None], len(free), axis=0)
        joined[:, free] |= np.tri(len(free), dtype=bool)
        first = np.argmin(self.problem.feasible(joined))
        trial, chosen = joined[first], free[: first + 1].tolist()
        for expert in chosen[-2::-1]:
            trial[expert] = False
            if self.problem.feasible(trial[None])[0]:
                trial[expert] = True
            else:
                chosen.remove(expert)
        return chosen

    def _maximal(self, first: Node, most: int) -> list[np.ndarray]:
        """All maximal feasible sets, or none if they are more than so many."""
        found: dict[int, np.ndarray] = {}
        nodes = [first]
        for _ in range(10 * most):
            if not nodes or len(found) > most:
                break
            node = nodes.pop()
            if self.problem.feasible(node.upper[None])[0]:
                number = int(self._number(node.upper))
                if not any(number & ~other == 0 for other in found):
                    found = {k: m for k, m in found.items() if k & ~number}
                    found[number] = node.upper
            else:
                nodes += self._children(node)
        return [] if nodes or len(found) > most else list(found.values())
