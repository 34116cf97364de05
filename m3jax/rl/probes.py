"""Environments so small that the exact values are known: each proves one part.

A `Table` is a whole Markov decision process as data, so that one compiled program can
train on all of them at once. Their order is that of what can break: the critic's fit,
its input, the bootstrap, the actor, both together, and time limits.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from m3jax import base
from m3jax.envs import environment, spaces


class Table(NamedTuple):
    """A Markov decision process of S states and A actions.

    Attributes:
      observation: float32 [S, D], what each state shows.
      start: float32 [S], probability that an episode begins there.
      next_state: int32 [S, A].
      reward: float32 [S, A].
      terminated: bool [S, A].
      valid: bool [S, A], the actions that may be taken.
      max_steps: int32 scalar, steps after which an episode is truncated.
    """

    observation: base.Array
    start: base.Array
    next_state: base.Array
    reward: base.Array
    terminated: base.Array
    valid: base.Array
    max_steps: base.Array


class ProbeState(NamedTuple):
    """Where an episode stands: int32 scalars."""

    state: base.Array
    time: base.Array


@dataclasses.dataclass(frozen=True)
class Probe(environment.Environment):
    """Plays a table.

    Discrete actions come with a mask of the valid ones in the observation. A continuous
    action a in [-2, 2] mixes the rewards of the table's two actions, with weights
    ``(2 - a) / 4`` and ``(2 + a) / 4``, and otherwise does what the first one does.

    Attributes:
      continuous: whether actions are continuous.
    """

    continuous: bool = False

    @property
    def default_params(self) -> Table:
        """The simplest table."""
        return constant()

    def action_space(self, params: Table) -> spaces.Discrete | spaces.Box:
        """The actions of a table."""
        if self.continuous:
            return spaces.Box(-2.0, 2.0, (1,))
        return spaces.Discrete(params.reward.shape[1])

    def observation_space(self, params: Table) -> spaces.Box | dict[str, Any]:
        """What a table shows; with discrete actions a dict with their mask."""
        box = spaces.Box(-jnp.inf, jnp.inf, params.observation.shape[1:])
        if self.continuous:
            return box
        mask = spaces.Binary(params.valid.shape[1:])
        return {"observation": box, "action_mask": mask}

    def reset_env(self, key: base.Array, params: Table) -> tuple[Any, ProbeState]:
        """Begins an episode; returns ``(obs, state)``."""
        first = jax.random.categorical(key, jnp.log(params.start)).astype(jnp.int32)
        state = ProbeState(first, jnp.int32(0))
        return self._observe(state, params), state

    def step_env(
        self, key: base.Array, state: ProbeState, action: base.Array, params: Table
    ) -> tuple[Any, ProbeState, base.Array, base.Array, dict[str, Any]]:
        """Takes a step, which draws nothing."""
        del key
        row = jax.tree.map(
            lambda table: table[state.state],
            (params.next_state, params.reward, params.terminated),
        )
        if self.continuous:
            weight = (2.0 + action[0]) / 4.0
            next_state, _, terminated = (column[0] for column in row)
            reward = (1.0 - weight) * row[1][0] + weight * row[1][1]
        else:
            next_state, reward, terminated = (column[action] for column in row)
        after = ProbeState(next_state, state.time + 1)
        return self._observe(after, params), after, reward, terminated, {}

    def is_truncated(self, state: ProbeState, params: Table) -> base.Array:
        """Whether the table's time is over."""
        return state.time >= params.max_steps

    def _observe(self, state: ProbeState, params: Table) -> Any:
        shown = params.observation[state.state]
        if self.continuous:
            return shown
        return {"observation": shown, "action_mask": params.valid[state.state]}


def constant() -> Table:
    """One action, one step, reward 1: can the critic fit a number?"""
    return _table(start=(1, 0), reward=((1, 1), (1, 1)), valid=(1, 0))


def observed() -> Table:
    """One action, one step, the reward is the observation: does the critic see it?"""
    return _table(
        observation=(-1, 1), start=(1, 1), reward=((-1, -1), (1, 1)), valid=(1, 0)
    )


def two_steps() -> Table:
    """One action, reward 1 at the second of two steps: is it discounted once?"""
    return _table(
        start=(1, 0),
        reward=((0, 0), (1, 1)),
        next_state=(1, 1),
        terminated=(0, 1),
        valid=(1, 0),
    )


def acting() -> Table:
    """Two actions, rewards -1 and 1, one step: does the actor follow the critic?"""
    return _table(start=(1, 0), reward=((-1, 1), (-1, 1)))


def acting_on_observed() -> Table:
    """Two actions, the one that the observation names earns 1, the other -1."""
    return _table(observation=(-1, 1), start=(1, 1), reward=((1, -1), (-1, 1)))


def time_limit() -> Table:
    """Rewards 0, 1, 0, 1 without end, cut every three steps: does the value go on?

    The cut comes where the next state is not the one that episodes begin in, so a
    bootstrap from the new episode's observation gives wrong values too.
    """
    return _table(
        start=(1, 0),
        reward=((0, 0), (1, 1)),
        next_state=(1, 0),
        terminated=(0, 0),
        valid=(1, 0),
        max_steps=3,
    )


def soft_q(table: Table, discount: float, alpha: float) -> np.ndarray:
    """Exact soft-optimal values of a table, time limits unseen.

        Q(s, a) = r + gamma (1 - terminated) V(s'),  V = alpha log sum_a exp(Q / alpha)

    Args:
      table: the process, not batched.
      discount: gamma, below 1.
      alpha: temperature, above 0, for discrete actions.

    Returns:
      float64 [S, A].
    """
    reward, valid = np.asarray(table.reward, np.float64), np.asarray(table.valid)
    goes_on = discount * (1.0 - np.asarray(table.terminated))
    q = np.zeros_like(reward)
    # Contracts by gamma; as many rounds as bring 1 below the rounding of float64.
    for _ in range(int(np.ceil(40.0 / -np.log(max(discount, 1e-16))))):
        value = alpha * special.logsumexp(q / alpha, axis=1, b=valid)
        q = reward + goes_on * value[np.asarray(table.next_state)]
    return q


def _table(
    start: tuple[int, int],
    reward: tuple[tuple[int, int], tuple[int, int]],
    observation: tuple[int, int] = (0, 1),
    next_state: tuple[int, int] = (0, 0),
    terminated: tuple[int, int] = (1, 1),
    valid: tuple[int, int] = (1, 1),
    max_steps: int = 100,
) -> Table:
    """A table of two states and actions from what each state does."""
    start = jnp.array(start, jnp.float32)
    both = jnp.ones((1, 2), jnp.int32)
    return Table(
        observation=jnp.array(observation, jnp.float32)[:, None],
        start=start / start.sum(),
        next_state=jnp.array(next_state, jnp.int32)[:, None] * both,
        reward=jnp.array(reward, jnp.float32),
        terminated=jnp.array(terminated, bool)[:, None] & (both > 0),
        valid=jnp.array(valid, bool) & (both.T > 0),
        max_steps=jnp.int32(max_steps),
    )
