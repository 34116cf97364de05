"""Bandwidth, power and numbers of tokens of several users, chosen together."""

from m3jax.systems.tokcom.allocation.baselines import equal_split, exhaustive
from m3jax.systems.tokcom.allocation.drops import Users, draw_users
from m3jax.systems.tokcom.allocation.loss_curve import ExponentialLoss, PowerLoss, fit
from m3jax.systems.tokcom.allocation.problem import (
    Outcome,
    Plan,
    Problem,
    equal_plan,
    evaluate,
    make_problem,
)
from m3jax.systems.tokcom.allocation.solve import Allocation, allocate, round_lengths
from m3jax.systems.tokcom.allocation.study import Saving, measure_saving, records

__all__ = [
    "Allocation",
    "ExponentialLoss",
    "Outcome",
    "Plan",
    "PowerLoss",
    "Problem",
    "Saving",
    "Users",
    "allocate",
    "draw_users",
    "equal_plan",
    "equal_split",
    "evaluate",
    "exhaustive",
    "fit",
    "make_problem",
    "measure_saving",
    "records",
    "round_lengths",
]
