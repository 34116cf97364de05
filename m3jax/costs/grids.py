"""How tight a grid of budgets is: how many sets of experts fit each point of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from m3jax.costs import budgets, responses

TAUS_S = (1.0, 2.0, 3.0)
ENERGIES_J = (5.0, 10.0, 15.0, 20.0, 25.0, 35.0, 50.0)
"""The limits of MoE2's tables II to IV."""


class Point(NamedTuple):
    """What fits a budget.

    Attributes:
      tau_s, energy_j: its limits.
      num_maximal: sets that no expert can be added to.
      largest: experts of the largest set; 0 if none fits.
    """

    tau_s: float
    energy_j: float
    num_maximal: int
    largest: int


def tabulate(
    drawn: responses.Responses,
    taus_s: Sequence[float] = TAUS_S,
    energies_j: Sequence[float] = ENERGIES_J,
    per: str = "response",
) -> list[Point]:
    """What fits each budget of a grid; host only.

    Args:
      drawn: responses of at most 16 experts.
      taus_s: limits of the delay.
      energies_j: limits of the energy.
      per: "response" or "token".

    Returns:
      One point for each pair, energies running fastest.
    """
    spent = np.asarray(budgets.feasible(drawn, budgets.Budget(per=per)).spent)
    numbers = np.arange(len(spent))
    num_experts = len(spent).bit_length() - 1
    sizes = sum(numbers >> n & 1 for n in range(num_experts))
    points = []
    for tau_s in taus_s:
        for energy_j in energies_j:
            fits = (spent <= (tau_s, energy_j)).all(axis=1) & (numbers > 0)
            grows = np.zeros_like(fits)
            for n in range(num_experts):
                grows |= (numbers >> n & 1 == 0) & fits[numbers | 1 << n]
            count = int((fits & ~grows).sum())
            largest = int(sizes[fits].max(initial=0))
            points.append(Point(tau_s, energy_j, count, largest))
    return points


def markdown(points: Sequence[Point]) -> str:
    """The points as a table: rows by delay, columns by energy; "maximal / largest"."""
    taus = dict.fromkeys(point.tau_s for point in points)
    energies = dict.fromkeys(point.energy_j for point in points)
    cells = {
        (point.tau_s, point.energy_j): f"{point.num_maximal} / {point.largest}"
        for point in points
    }
    lines = [
        "| | " + " | ".join(f"{energy:g} J" for energy in energies) + " |",
        "|---" * (len(energies) + 1) + "|",
    ]
    lines += [
        f"| {tau:g} s | " + " | ".join(cells[tau, e] for e in energies) + " |"
        for tau in taus
    ]
    return "\n".join(lines)
