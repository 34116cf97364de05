"""Searches that model nothing, and the exact optimum of a grid."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops.bayesian import space, trace

Objective = Callable[[base.Array], base.Array]


class Optimum(NamedTuple):
    """The best point of a grid.

    Attributes:
      point: ``[d]`` in the units of the dimensions.
      value: there; inf if no point keeps the constraints.
      num: points of the grid.
      num_feasible: of them, those that keep the constraints.
    """

    point: base.Array
    value: base.Array
    num: int
    num_feasible: base.Array


def random_search(
    key: base.Array,
    objective: Objective,
    within: space.Space,
    num: int = 50,
    num_excess: int = 0,
) -> trace.Trace:
    """Points drawn evenly; arguments are those of ``search.minimise``."""
    unit = jax.random.uniform(key, (num, len(within.dimensions)))
    return _all(objective, within, within.snap(unit), num_excess)


def grid_search(
    objective: Objective, within: space.Space, num: int = 50, num_excess: int = 0
) -> trace.Trace:
    """The finest even grid of at most ``num`` points, its ends included.

    Args:
      objective: as of ``search.minimise``.
      within: what may be chosen.
      num: points at most; each dimension gets ``floor(num^(1/d))`` of them, no more
        than it has levels.
      num_excess: C, constraints.

    Raises:
      ValueError: there are not two points for each dimension.
    """
    num_dims = len(within.dimensions)
    each = int(num ** (1.0 / num_dims) + 1e-9)
    if each < 2:
        raise ValueError(
            f"a grid of {num_dims} dimensions has {2**num_dims} points or more; num is"
            f" {num}"
        )
    coarse = space.Space(
        tuple(
            space.Dimension(one.name, 0.0, 1.0, min(each, one.levels or each))
            for one in within.dimensions
        )
    )
    unit = within.snap(jnp.asarray(coarse.grid()))
    return _all(objective, within, unit, num_excess)


def enumerate_all(
    objective: Objective,
    within: space.Space,
    num_excess: int = 0,
    most: int = 0,
    batch_size: int = 1024,
) -> Optimum:
    """The optimum of the whole grid, exactly.

    Args:
      objective: as of ``search.minimise``.
      within: what may be chosen.
      num_excess: C, constraints.
      most: values of a variable that takes any.
      batch_size: points at a time.

    Example:
      >>> line = space.Space((space.Dimension("x", -2, 2, levels=9),))
      >>> found = enumerate_all(lambda x: (x[0] - 0.6) ** 2, line)
      >>> found.point.tolist(), found.num
      ([0.5], 9)
    """
    unit = jnp.asarray(within.grid(most))
    found = _all(objective, within, unit, num_excess, batch_size)
    count = jnp.sum(found.feasible)
    return Optimum(found.best_point, found.best_value, len(unit), count)


def _all(objective, within, unit, num_excess, batch_size=None) -> trace.Trace:
    def look(point):
        return trace.evaluate(objective, within, point, num_excess)

    if batch_size is None:
        values, excess = jax.vmap(look)(unit)
    else:
        values, excess = jax.lax.map(look, unit, batch_size=batch_size)
    return trace.Trace(within.values(unit), values, excess)
