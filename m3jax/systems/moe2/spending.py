"""What MoE2's experts cost, and how training is made to mind it.

The costs are those of servers (``m3jax.costs``); which of them are asked depends on the
weights. Training sees the budgets through multipliers that rise while a budget is
overdrawn and fall while it is not.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.costs import budgets, responses
from m3jax.costs import servers as servers_lib

_SEED = 11
_SOFTNESS = 0.05
"""Weights this far from the threshold feel a pull to cross it."""


@dataclasses.dataclass
class Config:
    """Costs, budgets, and who is asked.

    Attributes:
      servers: a fleet of ``costs.servers.PRESETS``; expert n runs on server n.
      workload: what is asked, and how distributions are sent.
      budget: what a response may cost.
      threshold: experts of less weight than this are not asked.
      in_training: let training mind the budget.
      num_draws: responses that means are taken over.
    """

    servers: str = "table_i"
    workload: responses.Workload = dataclasses.field(default_factory=responses.Workload)
    budget: budgets.Budget = dataclasses.field(default_factory=budgets.Budget)
    threshold: float = 0.0
    in_training: bool = False
    num_draws: int = 256

    def validate(self, num_experts: int) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        if self.servers not in servers_lib.PRESETS:
            raise ValueError(
                f"system.spending.servers is {self.servers!r}; choose one of"
                f" {tuple(servers_lib.PRESETS)}"
            )
        there = len(servers_lib.PRESETS[self.servers])
        if num_experts > there:
            raise ValueError(
                f"{num_experts} experts need as many servers, and"
                f" system.spending.servers={self.servers!r} has {there}"
            )
        self.workload.validate()
        self.budget.validate()
        if not 0 <= self.threshold < 1 / max(num_experts, 2):
            raise ValueError(
                f"system.spending.threshold is {self.threshold}; give 0 to less than"
                f" 1/{max(num_experts, 2)}, or nobody may be left to ask"
            )
        if self.in_training and self.budget.is_open:
            raise ValueError(
                "system.spending.in_training needs a budget: set"
                " system.spending.budget.tau_s or energy_j"
            )
        if self.num_draws < 1:
            raise ValueError("system.spending.num_draws must be at least 1")

    def fleet(self, num_experts: int) -> tuple[servers_lib.Server, ...]:
        """The experts' servers."""
        return servers_lib.PRESETS[self.servers][:num_experts]

    def draw(
        self,
        key: base.Array,
        num_experts: int,
        num: int,
        snr_offset_db: base.Array = 0.0,
    ) -> responses.Responses:
        """Draws responses of the experts, in the budget's unit."""
        fleet = self.fleet(num_experts)
        drawn = responses.draw(key, fleet, self.workload, num, snr_offset_db)
        return drawn.per(self.budget.per)


class Costs:
    """Delay and energy of whom the gate asks.

    Args:
      config: settings.
      num_experts: N.
    """

    def __init__(self, config: Config, num_experts: int):
        config.validate(num_experts)
        self.config = config
        self._num_experts = num_experts

    def init(self) -> base.Params:
        """The multipliers' logarithms, one for each budget."""
        return {"log": jnp.full(2, -2.0, jnp.float32)}

    def usage(self, weights: base.Array) -> base.Array:
        """Who is asked: 1 or 0, with the gradient of a soft step at the threshold.

        Args:
          weights: ``[B, N]``.
        """
        asked = (weights > jnp.maximum(self.config.threshold, 1e-6)).astype(jnp.float32)
        if not self.config.threshold:
            return asked
        soft = jax.nn.sigmoid((weights - self.config.threshold) / _SOFTNESS)
        return asked + soft - jax.lax.stop_gradient(soft)

    def delay(self, usage: base.Array) -> base.Array:
        """Mean seconds of a response, or of a token, by those asked: ``[B]``."""
        drawn = self._drawn().delays_s
        waiting = jnp.max(usage[:, None, None] * drawn, axis=-1)  # [B, K, phases]
        return jnp.mean(jnp.sum(waiting, axis=-1), axis=-1)

    def energy(self, usage: base.Array) -> base.Array:
        """Mean joules of it: ``[B]``."""
        return usage @ jnp.mean(self._drawn().energies_j, axis=0)

    def penalty(
        self, multipliers: base.Params, usage: base.Array
    ) -> tuple[base.Array, base.Metrics]:
        """What overdrawing costs the loss, and what was spent.

        For each budget ``lambda (spent / budget - 1)``, which parameters descend and
        lambda climbs: the saddle of the Lagrangian.

        Args:
          multipliers: of `init`.
          usage: ``[B, N]``.
        """
        spent = {
            "delay_s": jnp.mean(self.delay(usage)),
            "energy_j": jnp.mean(self.energy(usage)),
        }
        total = jnp.zeros(())
        if not self.config.in_training:
            return total, spent
        budget = self.config.budget
        limits = budget.tau_s, budget.energy_j
        factors = jax.nn.softplus(multipliers["log"])
        for factor, value, limit in zip(factors, spent.values(), limits, strict=True):
            if math.isinf(limit):
                continue
            over = value / limit - 1.0
            descends = jax.lax.stop_gradient(factor) * over
            climbs = -factor * jax.lax.stop_gradient(over)
            # The same value, so that the loss is that of the Lagrangian.
            total += descends + climbs - jax.lax.stop_gradient(climbs)
        return total, spent

    def _drawn(self) -> responses.Responses:
        key = jax.random.key(_SEED)
        return self.config.draw(key, self._num_experts, self.config.num_draws)
