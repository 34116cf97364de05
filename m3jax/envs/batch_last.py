"""Environments that step as a batch from one key, with environments on the last axis.

Written once for any batch shape: every number of a state is ``[..., *batch]``, so that
vector units run over environments, and one draw serves them all. A key for each of a
thousand environments, and rows of seven numbers, are several times slower on a CPU.
"""

import abc
from typing import Any

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.envs import environment


class BatchLast(environment.Environment):
    """An environment whose `begin` and `advance` take any batch shape.

    Its single steps are those of a batch of shape ``()``; a batch draws other numbers
    of the same law.
    """

    @abc.abstractmethod
    def begin(
        self, key: base.Array, batch: tuple[int, ...], params: Any
    ) -> tuple[base.Array, Any]:
        """Begins episodes: ``(obs [D, *batch], state)``."""

    @abc.abstractmethod
    def advance(
        self, key: base.Array, state: Any, action: base.Array, params: Any
    ) -> tuple[base.Array, Any, base.Array, base.Array, dict[str, base.Array]]:
        """Takes steps: ``(obs, state, reward, terminated, info)``."""

    def reset_env(self, key: base.Array, params: Any) -> tuple[base.Array, Any]:
        """Begins an episode."""
        return self.begin(key, (), params)

    def step_env(
        self, key: base.Array, state: Any, action: base.Array, params: Any
    ) -> tuple[base.Array, Any, base.Array, base.Array, dict[str, base.Array]]:
        """Takes a step."""
        return self.advance(key, state, action, params)

    def reset_batch(
        self, key: base.Array, num_envs: int, params: Any = None
    ) -> tuple[base.Array, Any]:
        """Begins so many episodes; all arrays have environments on the last axis.

        Args:
          key: PRNG key, one for all, consumed.
          num_envs: B.
          params: parameters, the same for all; None for the default ones.

        Returns:
          ``(obs [D, B], state)``.
        """
        params = self.default_params if params is None else params
        obs, state = self.begin(key, (num_envs,), params)
        return self._detach((self._shown(obs, params), state))

    def step_batch(
        self, key: base.Array, state: Any, action: base.Array, params: Any = None
    ) -> tuple[
        base.Array, Any, base.Array, base.Array, base.Array, dict[str, base.Array]
    ]:
        """Takes a step of each; where an episode is over, another one begins.

        Args:
          key: PRNG key, one for all, consumed.
          state: as `reset_batch` or `step_batch` gave it.
          action: ``[A, B]``, or ``[B]`` of choices.
          params: parameters, the same for all; None for the default ones.

        Returns:
          What `step` returns, with environments on the last axis.
        """
        params = self.default_params if params is None else params
        step_key, reset_key = jax.random.split(key)
        final, after, reward, terminated, info = self.advance(
            step_key, state, action, params
        )
        final, after = self._shown(final, params), environment.like(after, state)
        final, after = self._detach((final, after))
        truncated = self.is_truncated(after, params)
        over = terminated | truncated

        def anew():
            fresh = self._detach(self.begin(reset_key, reward.shape, params))
            return jax.tree.map(
                lambda new, old: jnp.where(over, new, old).astype(old.dtype),
                fresh,
                (final, after),
            )

        obs, after = jax.lax.cond(jnp.any(over), anew, lambda: (final, after))
        info = {
            **info,
            "terminated": terminated,
            "truncated": truncated,
            "final_observation": final,
        }
        return obs, after, reward, terminated, truncated, info
