"""Points that a search may try next, and how the best of them are refined."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from m3jax import base
from m3jax.ops.bayesian import space

MAX_LISTED = 4096
"""Spaces of at most so many points are looked through as a whole in each round."""
_NEAR = (0.2, 0.05, 0.01)
"""Standard deviations around the best point so far, in edges of the cube."""


def draw(
    key: base.Array,
    leader: base.Array,
    within: space.Space,
    num_even: int,
    num_near: int,
) -> base.Array:
    """All points of a small space; else even ones, and some around the leader.

    Args:
      key: of the points.
      leader: ``[d]``, the best point so far.
      within: what may be chosen.
      num_even: points that are drawn evenly.
      num_near: points around the leader.

    Returns:
      ``[Q, d]`` in the unit cube.
    """
    if math.isfinite(within.size) and within.size <= MAX_LISTED:
        return jnp.asarray(within.grid())
    even_key, near_key, some_key = jax.random.split(key, 3)
    num_dims = leader.shape[0]
    even = jax.random.uniform(even_key, (num_even, num_dims))
    shape = num_near, num_dims
    scale = jnp.asarray(_NEAR)[jnp.arange(num_near) % len(_NEAR), None]
    # About two variables move at a time, so that levels of the others stay.
    moved = jax.random.bernoulli(some_key, min(1.0, 2.0 / num_dims), shape)
    near = leader + scale * jax.random.normal(near_key, shape) * moved
    return within.snap(jnp.concatenate([even, near]))


def climb(
    merit: Callable[[base.Array], base.Array],
    points: base.Array,
    within: space.Space,
    num_steps: int,
    learning_rate: float,
) -> base.Array:
    """Moves points to where their merit is greater, by Adam with steps that shrink.

    Variables with levels stay as they are. Steps are cut at the edges of the cube, and
    the last of them go to nothing by a cosine. A climb may end below its start.

    Args:
      merit: ``[K, d]`` -> ``[K]``, each of its own point; differentiable.
      points: ``[K, d]``, where to begin.
      within: what may be chosen.
      num_steps: of each climb.
      learning_rate: about the length of the first steps, in edges of the cube.

    Example:
      >>> line = space.Space((space.Dimension("x", 0, 1),))
      >>> peak = lambda x: -jnp.sum((x - 0.3) ** 2, axis=-1)
      >>> ended = climb(peak, jnp.array([[0.25], [0.4]]), line, 60, 0.03)
      >>> bool(jnp.all(jnp.abs(ended - 0.3) < 0.02))
      True
    """
    free = np.array([one.levels == 0 for one in within.dimensions])
    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))
    slope = jax.grad(lambda x: -jnp.sum(merit(x)))

    def step(_, carry):
        points, state = carry
        down = slope(points)
        down = jnp.where(free & jnp.isfinite(down), down, 0.0)
        change, state = adam.update(down, state)
        return jnp.clip(points + change, 0.0, 1.0), state

    return jax.lax.fori_loop(0, num_steps, step, (points, adam.init(points)))[0]
