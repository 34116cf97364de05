"""Domain randomisation: every episode draws its own parameters."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.envs import environment


class Range(NamedTuple):
    """Two parameters of one structure; every number is drawn between the two.

    Attributes:
      low: the least of every number.
      high: the greatest.
    """

    low: Any
    high: Any


class RandomisedState(NamedTuple):
    """The inner state, and the parameters of this episode."""

    inner: Any
    params: Any


@dataclasses.dataclass(frozen=True)
class Randomised(environment.Environment):
    """An environment whose parameters are drawn anew for each episode.

    Its own parameters are a `Range`: floats are uniform between both ends, whole
    numbers too, the ends included, and what is neither stays at ``low``.

    Attributes:
      env: the environment within.

    Example:
      >>> from m3jax.envs.expert_routing import wireless
      >>> env = Randomised(wireless.Wireless())
      >>> low = high = wireless.Wireless().default_params
      >>> low = low._replace(report_noise_db=0.0)
      >>> _, state = env.reset(jax.random.key(0), Range(low, high))
      >>> bool(0 < state.params.report_noise_db < 2)
      True
    """

    env: environment.Environment

    @property
    def default_params(self) -> Range:
        """Both ends are the default parameters within."""
        return Range(self.env.default_params, self.env.default_params)

    def action_space(self, params: Range | None = None) -> Any:
        """That of the environment within."""
        return self.env.action_space(None if params is None else params.low)

    def observation_space(self, params: Range | None = None) -> Any:
        """That of the environment within."""
        return self.env.observation_space(None if params is None else params.low)

    def reset_env(self, key: base.Array, params: Range) -> tuple[Any, RandomisedState]:
        """Draws parameters and begins an episode with them."""
        draw_key, inner_key = jax.random.split(key)
        drawn = draw(draw_key, params)
        obs, inner = self.env.reset_env(inner_key, drawn)
        return obs, RandomisedState(inner, drawn)

    def step_env(
        self, key: base.Array, state: RandomisedState, action: base.Array, params: Range
    ) -> tuple[Any, RandomisedState, base.Array, base.Array, dict[str, Any]]:
        """Takes a step with this episode's parameters."""
        del params
        obs, inner, *rest = self.env.step_env(key, state.inner, action, state.params)
        return obs, state._replace(inner=inner), *rest

    def is_truncated(self, state: RandomisedState, params: Range) -> base.Array:
        """Whether the environment within has come to its end of time."""
        del params
        return self.env.is_truncated(state.inner, state.params)


def draw(key: base.Array, between: Range) -> Any:
    """Draws parameters.

    Args:
      key: PRNG key, consumed.
      between: the ends, of one structure and the same shapes.

    Returns:
      Arrays of that structure.

    Raises:
      ValueError: the structures of both ends differ.
    """
    low, structure = jax.tree.flatten(between.low)
    if jax.tree.structure(between.high) != structure:
        raise ValueError("low and high must be parameters of one structure")
    low, high = (
        [jnp.asarray(leaf) for leaf in leaves]
        for leaves in (low, jax.tree.leaves(between.high))
    )
    # One draw for all numbers: many small ones take long to compile.
    ends = np.cumsum([leaf.size for leaf in low])
    uniforms = jnp.split(
        jax.random.uniform(key, (int(ends[-1]),), jnp.float32), ends[:-1]
    )
    return structure.unflatten(map(_between, uniforms, low, high))


def _between(uniform: base.Array, low: base.Array, high: base.Array) -> base.Array:
    uniform = uniform.reshape(low.shape)
    if jnp.issubdtype(low.dtype, jnp.floating):
        # From low up, so that equal ends give exactly that number.
        return low + (high - low) * uniform
    if jnp.issubdtype(low.dtype, jnp.integer):
        steps = jnp.floor((high - low + 1) * uniform).astype(low.dtype)
        # Rounding may reach one beyond the end.
        return jnp.minimum(low + steps, high)
    return low
