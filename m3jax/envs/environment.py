"""The calls of gymnax 1.0, made of a reset and a step that knows no end of episodes.

    reset(key, params) -> (obs, state)
    step(key, state, action, params)
        -> (obs, state, reward, terminated, truncated, info)

A step that ends an episode gives the first observation and state of the next one; the
last observation of the old one is ``info["final_observation"]``.
"""

import abc
import dataclasses
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
        return self._detach(self.reset_env(key, params))

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
        final, after = self._detach((final, after))
        truncated = self.is_truncated(after, params)
        obs, begun = jax.tree.map(
            lambda new, old: jnp.where(terminated | truncated, new, old),
            self.reset(reset_key, params),
            (final, after),
        )
        info = {
            **info,
            "terminated": terminated,
            "truncated": truncated,
            "final_observation": final,
        }
        return obs, begun, reward, terminated, truncated, info

    def _detach(self, tree: Any) -> Any:
        return tree if self.transition_gradients else jax.lax.stop_gradient(tree)
