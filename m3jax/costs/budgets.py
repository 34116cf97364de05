"""Budgets of a response, and whether a set of experts keeps them."""

import dataclasses
import math

from m3jax.costs import responses


@dataclasses.dataclass
class Budget:
    """What a response, or a token, may cost on average (MoE2, equations 9 and 12).

    Plain and mutable, so that the command line can override a field.

    Attributes:
      tau_s: seconds; inf for no limit.
      energy_j: joules; inf for no limit.
      per: "response" or "token".
    """

    tau_s: float = math.inf
    energy_j: float = math.inf
    per: str = "response"

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for field in ("tau_s", "energy_j"):
            if not getattr(self, field) > 0:
                raise ValueError(
                    f"budget.{field} is {getattr(self, field)!r}; give a number above"
                    " 0, or inf for no limit"
                )
        if self.per not in responses.PER:
            raise ValueError(
                f"budget.per is {self.per!r}; choose one of {responses.PER}"
            )

    @property
    def is_open(self) -> bool:
        """Whether nothing is limited."""
        return math.isinf(self.tau_s) and math.isinf(self.energy_j)
