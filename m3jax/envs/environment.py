"""The calls of gymnax 1.0, made of a reset and a step that knows no end of episodes.

    reset(key, params) -> (obs, state)
    step(key, state, action, params)
        -> (obs, state, reward, terminated, truncated, info)

A step that ends an episode gives the first observation and state of the next one; the
last observation of the old one is ``info["final_observation"]``.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from m3jax import base


@dataclasses.dataclass(frozen=True)
class Environment(abc.ABC):
    """What all environments share. Frozen and hashable: it can be static under jit.

    Attributes:
      transition_gradients: whether gradients flow through observations and states.
        Rewards always have theirs.
    """

    transition_gradients: bool = dataclasses.field(default=False, kw_only=True)

    @property
    @abc.abstractmethod
    def default_params(self) -> Any:
        """Parameters that make sense: a pytree of numbers and arrays."""

    @abc.abstractmethod
    def reset_env(self, key: base.Array, params: Any) -> tuple[Any, Any]:
        """Begins an episode; returns ``(obs, state)``."""

    @abc.abstractmethod
    def step_env(
        self, key: base.Array, state: Any, action: base.Array, params: Any
    ) -> tuple[Any, Any, base.Array, base.Array, dict[str, Any]]:
        """Takes a step; returns ``(obs, state, reward, terminated, info)``."""

    @abc.abstractmethod
    def is_truncated(self, state: Any, params: Any) -> base.Array:
        """Whether the time of an episode is over, bool scalar."""

    @property
    def name(self) -> str:
        """The name of the environment."""
        return type(self).__name__

    @property
    def supports_transition_gradients(self) -> bool:
        """True: every environment here is differentiable."""
        return True

    @property
    def transition_gradients_enabled(self) -> bool:
        """Whether gradients flow through observations and states."""
        return self.transition_gradients

    def with_transition_gradients(self) -> Self:
        """The same environment whose observations and states pass gradients on."""
        return dataclasses.replace(self, transition_gradients=True)

    def reset(self, key: base.Array, params: Any = None) -> tuple[Any, Any]:
        """Begins an episode.

        Args:
          key: PRNG key, consumed.
          params: parameters; None for the default ones.

        Returns:
          ``(obs, state)``.
        """
        params = self.default_params if params is None else params
        obs, state = self.reset_env(key, params)
        return self._detach((self._shown(obs, params), state))

    def step(
        self, key: base.Array, state: Any, action: base.Array, params: Any = None
    ) -> tuple[Any, Any, base.Array, base.Array, base.Array, dict[str, Any]]:
        """Takes a step, and begins anew if the episode is over.

        Args:
          key: PRNG key, consumed.
          state: as `reset` or `step` gave it.
          action: one of ``action_space``.
          params: parameters; None for the default ones.

        Returns:
          ``(obs, state, reward, terminated, truncated, info)``.
        """
        params = self.default_params if params is None else params
        step_key, reset_key = jax.random.split(key)
        final, after, reward, terminated, info = self.step_env(
            step_key, state, action, params
        )
        final, after = self._shown(final, params), like(after, state)
        final, after = self._detach((final, after))
        truncated = self.is_truncated(after, params)
        over = terminated | truncated
        if self.transition_gradients:
            begun = self.reset(reset_key, params)
            obs, after = _select(over, begun, (final, after))
        else:
            still = jax.lax.stop_gradient(params)
            # As a list: types that check their numbers would refuse JAX's marks.
            leaves, tree = jax.tree.flatten(still)
            anew = _anew(lambda key, flat: self.reset(key, tree.unflatten(flat)))
            obs, after = anew(over, reset_key, leaves, (final, after))
        info = {
            **info,
            "terminated": terminated,
            "truncated": truncated,
            "final_observation": final,
        }
        return obs, after, reward, terminated, truncated, info

    def _shown(self, obs: Any, params: Any) -> Any:
        """An observation in the types of its space, if the environment tells of one."""
        space = getattr(self, "observation_space", None)
        return obs if space is None else _in_space(obs, space(params))

    def _detach(self, tree: Any) -> Any:
        return tree if self.transition_gradients else jax.lax.stop_gradient(tree)


def _in_space(x: Any, space: Any) -> Any:
    """Floats and integers in the width of their space, whatever JAX's default is."""
    if isinstance(x, Mapping) and isinstance(space, Mapping):
        return {**x, **{name: _in_space(x[name], part) for name, part in space.items()}}
    if isinstance(x, Mapping) or isinstance(space, Mapping):
        return x  # of another form, which `testing.environments` tells
    x = jnp.asarray(x)
    alike = any(
        jnp.issubdtype(x.dtype, kind) and jnp.issubdtype(space.dtype, kind)
        for kind in (jnp.floating, jnp.integer)
    )
    return x.astype(space.dtype) if alike else x


def _select(over: base.Array, begun: Any, kept: Any) -> Any:
    """What has begun anew where an episode is over, else what was."""
    return jax.tree.map(lambda new, old: jnp.where(over, new, old), begun, kept)


def _anew(reset: Callable[[base.Array, Any], Any]) -> Callable[..., Any]:
    """``(over, key, params, kept) -> reset(key, params) or kept``.

    As a branch, also under `jax.vmap`: as long as no episode of a batch is over,
    nothing is reset. A plain `jax.lax.cond` would reset all of them in every step.
    """

    @jax.custom_batching.custom_vmap
    def choose(over, key, params, kept):
        return jax.lax.cond(over, lambda: like(reset(key, params), kept), lambda: kept)

    @choose.def_vmap
    def choose_batch(size, in_batched, over, key, params, kept):
        axes = jax.tree.map(lambda batched: 0 if batched else None, in_batched)

        def spread(batched: bool, leaf: base.Array) -> base.Array:
            shape = size, *jnp.shape(leaf)
            return leaf if batched else jnp.broadcast_to(leaf, shape)

        # Every part has the axis, so that both branches give the same.
        over, kept = (
            jax.tree.map(spread, in_batched[i], leaf)
            for i, leaf in ((0, over), (3, kept))
        )

        def begin():
            fresh = jax.vmap(reset, axes[1:3], axis_size=size)(key, params)
            chosen = jax.vmap(_select)(over, fresh, kept)
            return like(chosen, kept)

        out = jax.lax.cond(jnp.any(over), begin, lambda: kept)
        return out, jax.tree.map(lambda _: True, out)

    return choose


def like(new: Any, old: Any) -> Any:
    """A tree in the types of another one: a step must not change those of a state."""
    return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.result_type(b)), new, old)
