"""Subset monotonic optimisation, corrected, with a certificate (MoE2, algorithm 2).

Losses must not rise when a set grows, and feasible sets must be downward closed. A node
of the tree holds all feasible sets between the experts that it *includes* and its
*upper* set; the loss of the upper set bounds theirs from below. What is printed cannot
run: see docs/selection.md for what was put in its place.
"""

from collections.abc import Iterable

import numpy as np

from m3jax.systems.moe2.selection import enumeration, tree
from m3jax.systems.moe2.selection import problem as problems


def smo(
    problem: problems.Problem,
    *,
    epsilon: float = 0.0,
    time_limit_s: float = np.inf,
    max_evaluations: int | None = None,
    batch_size: int = 1,
    bound: tree.Bound | None = None,
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
      bound: a further bound of the loss, if one is known, see `tree.Bound`.
      start: feasible sets to begin with.
      heuristic: run on losses that are not monotone, where bounds do not hold; the
        status then says so.

    Raises:
      ValueError: the losses are not monotone, and ``heuristic`` is not set; or a set
        to start with is not feasible.
    """
    if problem.kind == "restrict" and not heuristic:
        raise ValueError(
            "losses of kind 'restrict' may rise when an expert is added, so SMO's"
            " bounds do not hold: use enumerate_best, refit losses, or heuristic=True"
        )
    search = tree.Search(problem, epsilon, bound)
    for members in start:
        if broken := problem.broken(members):
            raise ValueError(f"a set to start with breaks a limit: {', '.join(broken)}")
        search.try_set(members)
    if not search.open():
        return enumeration.nobody(problem, search.seconds())
    most = np.inf if max_evaluations is None else max_evaluations
    status = None
    while status is None and search.is_open():
        if search.seconds() > time_limit_s:
            status = problems.Status.TIME
        elif len(search.known) >= most:
            status = problems.Status.EVALUATIONS
        else:
            search.advance(batch_size)
    gap = search.gap()
    if problem.kind == "restrict":
        status, gap = problems.Status.HEURISTIC, np.inf
    elif status is None:
        exact, nearly = problems.Status.OPTIMAL, problems.Status.EPSILON_OPTIMAL
        status = nearly if gap else exact
    return problems.Selection(
        members=search.best,
        loss=search.best_loss,
        status=status,
        gap=gap,
        binding=problem.binding(search.best),
        num_evaluated=len(search.known),
        num_nodes=search.num_nodes,
        seconds=search.seconds(),
    )
