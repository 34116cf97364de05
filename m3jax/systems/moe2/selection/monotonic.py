"""Subset monotonic optimisation, corrected, with a certificate (MoE2, algorithm 2).

Losses must not rise when a set grows, and feasible sets must be downward closed. A node
of the tree holds all feasible sets between the experts that it *includes* and its
*upper* set; the loss of the upper set bounds theirs from below. What is printed cannot
run: see docs/selection.md for what was put in its place.
"""

import heapq
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from m3jax.systems.moe2.selection import enumeration
from m3jax.systems.moe2.selection import problem as problems

Bound = Callable[[np.ndarray, np.ndarray], float]
"""``(include [N], upper [N]) -> least loss`` that any feasible set between can have."""


class _Node(NamedTuple):
    """Feasible sets between two sets; ordered by what their loss is at least."""

    floor: float
    number: int
    include: np.ndarray
    upper: np.ndarray
    measured: bool


def smo(
    problem: problems.Problem,
    *,
    epsilon: float = 0.0,
    time_limit_s: float = np.inf,
    max_evaluations: int | None = None,
    batch_size: int = 1,
    bound: Bound | None = None,
    start: Iterable[np.ndarray] = (),
    heuristic: bool = False,
) -> problems.Selection:
    """The feasible set of least loss, by branch and bound, with a certificate.

    With U = -L: keep a list of upper sets; remove those with U <= CBV + epsilon; take
    the one of greatest U; a maximal feasible subset S' of it may raise CBV to U(S');
    branch on the elements of a minimal infeasible subset C of it, since each feasible
    subset misses one of C (Tuy, SIAM J. Optim. 11, 2000, made discrete). The child that
    misses the j-th element includes those before it, so no set is in two children, and
    whoever cannot join what is included leaves the upper set at once.

    Args:
      problem: with monotone losses.
      epsilon: nats that the answer may be above the optimum.
      time_limit_s: seconds after which the best so far is returned with its gap.
      max_evaluations: sets whose loss may be asked for, about.
      batch_size: upper sets that are evaluated together. More of them suit losses
        that are cheaper together; some will have been evaluated for nothing.
      bound: a further bound of the loss, if one is known.
      start: feasible sets to begin with.
      heuristic: run on losses that are not monotone, where bounds do not hold; the
        status then says so.

    Raises:
      ValueError: the losses are not monotone, and ``heuristic`` is not set.
    """
    if problem.kind == "restrict" and not heuristic:
        raise ValueError(
            "losses of kind 'restrict' may rise when an expert is added, so SMO's"
            " bounds do not hold: use enumerate_best, refitted losses, or heuristic=True"
        )
    search = _Search(problem, epsilon, bound)
    for members in start:
        search.try_set(members)
    search.open()
    if not search.heap:
        return enumeration.nobody(problem, search.seconds())
    most = np.inf if max_evaluations is None else max_evaluations
    stopped = None
    while search.is_open():
        if search.seconds() > time_limit_s:
            stopped = problems.Status.TIME
            break
        if len(search.known) >= most:
            stopped = problems.Status.EVALUATIONS
            break
        search.advance(batch_size)
    return search.result(stopped, problem.kind == "restrict")


class _Search:
    """The state of one search."""

    def __init__(self, problem, epsilon, bound):
        self.problem, self.epsilon, self.bound = problem, epsilon, bound
        self.known: dict[bytes, tuple[float, float]] = {}
        self.best, self.best_loss = None, np.inf
        self.closed = np.inf  # the least floor of what was put aside
        self.heap: list[_Node] = []
        self.num_nodes = self.num_pushed = 0
        self.began = time.perf_counter()
        self.worth = np.zeros(problem.num_experts)

    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def is_open(self) -> bool:
        """Whether some node may hold a set that is better by more than epsilon."""
        return bool(self.heap) and self.heap[0].floor < self.best_loss - self.epsilon

    def measure(self, sets: list[np.ndarray]) -> None:
        """Evaluates sets that are not known yet, together."""
        new = {m.tobytes(): m for m in sets if m.tobytes() not in self.known}
        if new:
            losses, gaps = self.problem.losses(np.array(list(new.values())))
            found = zip(losses.tolist(), gaps.tolist(), strict=True)
            self.known.update(zip(new, found, strict=True))

    def loss(self, members: np.ndarray) -> float:
        return self.known[members.tobytes()][0]

    def try_set(self, members: np.ndarray) -> None:
        """Takes a feasible set as the best so far if it is."""
        self.measure([members])
        if self.loss(members) < self.best_loss:
            self.best, self.best_loss = members, self.loss(members)

    def open(self) -> None:
        """Looks at experts alone, and puts the first node on the list."""
        nobody = np.zeros(self.problem.num_experts, bool)
        alone = np.eye(self.problem.num_experts, dtype=bool)
        able = self.problem.feasible(alone)
        if not able.any():
            return
        self.measure(list(alone[able]))
        for members in alone[able]:
            self.try_set(members)
        singles = np.array([self.loss(members) for members in alone[able]])
        self.worth[able] = singles.max() - singles
        self.push(-np.inf, nobody, able)

    def push(self, floor: float, include: np.ndarray, upper: np.ndarray) -> None:
        if self.bound is not None:
            floor = max(floor, self.bound(include, upper))
        self.add(_Node(floor, self.num_pushed, include, upper, False))

    def add(self, node: _Node) -> None:
        self.num_pushed += 1
        heapq.heappush(self.heap, node)

    def advance(self, batch_size: int) -> None:
        """Evaluates the upper sets of the best nodes, or branches on them."""
        nodes = []
        while self.is_open() and len(nodes) < batch_size:
            nodes.append(heapq.heappop(self.heap))
        self.measure([node.upper for node in nodes if not node.measured])
        for node in nodes:
            loss, gap = self.known[node.upper.tobytes()]
            floor = max(node.floor, loss - gap)
            if floor >= self.best_loss - self.epsilon:
                self.closed = min(self.closed, floor)
            elif node.measured:
                self.branch(node)
            elif self.problem.feasible(node.upper[None])[0]:
                self.try_set(node.upper)
                self.closed = min(self.closed, floor)
            else:
                self.add(node._replace(floor=floor, measured=True))

    def branch(self, node: _Node) -> None:
        """A maximal feasible set of the node, and its children."""
        self.num_nodes += 1
        inside = self.fill(node)
        self.try_set(inside)
        missed = self.conflict(node, inside)
        include = node.include.copy()
        for expert in missed:
            upper = node.upper.copy()
            upper[expert] = False
            upper = self.joinable(include, upper)
            if upper is None:
                break
            self.push(node.floor, include.copy(), upper)
            include[expert] = True

    def joinable(self, include: np.ndarray, upper: np.ndarray) -> np.ndarray | None:
        """The upper set without those who cannot join; None if nothing is feasible."""
        if not self.problem.feasible(include[None])[0]:
            return None
        others = np.flatnonzero(upper & ~include)
        joined = np.repeat(include[None], len(others), axis=0)
        joined[np.arange(len(others)), others] = True
        kept = include.copy()
        if len(others):
            kept[others[self.problem.feasible(joined)]] = True
        return kept

    def fill(self, node: _Node) -> np.ndarray:
        """A maximal feasible set of a node: the worthiest who still fits, again."""
        inside, upper = node.include, node.upper
        while upper is not None and (upper & ~inside).any():
            free = np.flatnonzero(upper & ~inside)
            inside = inside.copy()
            inside[free[np.argmax(self.worth[free])]] = True
            upper = self.joinable(inside, upper)
        return inside

    def conflict(self, node: _Node, inside: np.ndarray) -> list[int]:
        """Experts who cannot all join what is included, none of them for nothing."""
        free = np.flatnonzero(node.upper & ~node.include)
        free = free[np.argsort(-self.worth[free], kind="stable")]
        trial, chosen = node.include.copy(), []
        for expert in free:
            trial[expert] = True
            chosen.append(int(expert))
            if not self.problem.feasible(trial[None])[0]:
                break
        for expert in chosen[-2::-1]:
            trial[expert] = False
            if self.problem.feasible(trial[None])[0]:
                trial[expert] = True
            else:
                chosen.remove(expert)
        return chosen

    def result(self, stopped, unproved) -> problems.Selection:
        floors = [self.closed, *(node.floor for node in self.heap[:1])]
        gap = max(self.best_loss - min(floors), 0.0)
        status = stopped
        if status is None:
            exact = gap == 0.0
            kinds = problems.Status
            status = kinds.OPTIMAL if exact else kinds.EPSILON_OPTIMAL
        if unproved:
            status, gap = problems.Status.HEURISTIC, np.inf
        return problems.Selection(
            members=self.best,
            loss=self.best_loss,
            status=status,
            gap=float(gap),
            binding=self.problem.binding(self.best),
            num_evaluated=len(self.known),
            num_nodes=self.num_nodes,
            seconds=self.seconds(),
        )
