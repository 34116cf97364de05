"""What a search looked at, and what it found."""

from typing import NamedTuple

import jax.numpy as jnp

from m3jax import base
from m3jax.ops.bayesian import space as space_lib


class Trace(NamedTuple):
    """N evaluations in their order.

    Attributes:
      points: ``[N, d]``, what was tried, in the units of the dimensions.
      values: ``[N]``, what was to be small.
      excess: ``[N, C]``, above 0 where a constraint was broken.
    """

    points: base.Array
    values: base.Array
    excess: base.Array

    @property
    def feasible(self) -> base.Array:
        """Which kept all constraints, bool ``[N]``."""
        return jnp.all(self.excess <= 0.0, axis=-1)

    @property
    def running_best(self) -> base.Array:
        """The least value so far that kept them, ``[N]``; inf before the first."""
        kept = jnp.where(self.feasible, self.values, jnp.inf)
        return jnp.minimum.accumulate(kept, axis=-1)

    @property
    def best_value(self) -> base.Array:
        """The least of all that kept them; inf if none did."""
        return self.running_best[..., -1]

    @property
    def best_point(self) -> base.Array:
        """Where it was, ``[d]``; if none kept them, where least was broken."""
        kept = jnp.where(self.feasible, self.values, jnp.inf)
        worst = jnp.max(self.excess, axis=-1, initial=0.0)
        rank = jnp.where(jnp.any(self.feasible, axis=-1, keepdims=True), kept, worst)
        best = jnp.argmin(rank, axis=-1)
        return jnp.take_along_axis(self.points, best[..., None, None], -2)[..., 0, :]


def evaluate(objective, space: space_lib.Space, unit: base.Array, num_excess: int):
    """One evaluation: ``(value, excess [C])`` of a point of the unit cube."""
    told = objective(space.values(unit))
    value, excess = told if num_excess else (told, jnp.zeros(0))
    return jnp.float32(value), jnp.asarray(excess, jnp.float32).reshape(num_excess)
