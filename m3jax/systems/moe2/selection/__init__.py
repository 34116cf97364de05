"""Which experts answer: exact and certified choice of a subset under budgets."""

from m3jax.systems.moe2.selection.enumeration import (
    Resolved,
    enumerate_best,
    pareto,
    resolve_many,
)
from m3jax.systems.moe2.selection.heuristics import greedy, knapsack, random_feasible
from m3jax.systems.moe2.selection.monotonic import smo
from m3jax.systems.moe2.selection.problem import (
    Constraint,
    Limits,
    Problem,
    Selection,
    Status,
    make_problem,
)

__all__ = [
    "Constraint",
    "Limits",
    "Problem",
    "Resolved",
    "Selection",
    "Status",
    "enumerate_best",
    "greedy",
    "knapsack",
    "make_problem",
    "pareto",
    "random_feasible",
    "resolve_many",
    "smo",
]
