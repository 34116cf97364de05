"""Routing to experts over fading links: the environment of M3LLM (section II).

At each step a task arrives, the agent weighs the experts, each expert's features cross
the experts' links at their present SNRs, and the rewards of equations 8 to 17 follow.
The agent sees late and noisy reports of the SNRs. Its actions move nothing but the
rewards, so what is best at each step is best altogether (`policies.oracle`).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.envs import environment, spaces
from m3jax.envs.expert_routing import (
    events,
    judges,
    radio,
    reports,
    routing,
    scoring,
    tasks,
    world,
)
from m3jax.ops import random, subsets

ACTIONS = ("weights", "heads", "subset")
MODES = ("link_budget", "calibrated")


@dataclasses.dataclass(frozen=True)
class Wireless(environment.Environment):
    """The environment.

    Attributes:
      actions: "weights": [N] in [0, 1]; "heads": [2, N], of experts and channels,
        joined by equation 26; "subset": one number, for equal weights over a subset of
        the experts (`routing.subset_actions`). Weights need not sum to one. Those of
        experts that have failed are lost; if nothing is left all live experts are used.
      mode: "link_budget": equations 4 to 7; "calibrated": mean SNRs from equation 1.
      max_delay: greatest ``report_delay``.
      show_mask: the observation is a dict of ``"observation"`` and ``"action_mask"``,
        bool: valid subsets, or for other actions, live experts.
      literal: equations to take as printed (`scoring.LITERAL`).
      judge: R_4, see `judges`.

    Raises:
      ValueError: a setting is not known.

    Example:
      >>> env = Wireless()
      >>> obs, state = env.reset(jax.random.key(0))
      >>> out = env.step(jax.random.key(1), state, jnp.ones(7))
      >>> reward, info = out[2], out[-1]
      >>> obs.shape, bool(0 < reward < 1), info["semantic"].shape
      ((30,), True, ())
    """

    actions: str = "weights"
    mode: str = "link_budget"
    max_delay: int = 3
    show_mask: bool = False
    literal: frozenset[str] = frozenset()
    judge: judges.Judge = judges.success

    def __post_init__(self):
        for name, known in (("actions", ACTIONS), ("mode", MODES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {known}, got {getattr(self, name)!r}"
                )
        object.__setattr__(self, "literal", frozenset(self.literal))
        if unknown := self.literal - scoring.LITERAL:
            raise ValueError(
                f"literal must be of {sorted(scoring.LITERAL)}, got {sorted(unknown)}"
            )
        if type(self.max_delay) is not int or self.max_delay < 0:
            raise ValueError(
                f"max_delay must be a whole number of 0 or more, got {self.max_delay!r}"
            )

    @property
    def default_params(self) -> world.Params:
        """Seven specialists, the links of the paper, no events."""
        return world.make_params(tasks.specialists())

    def action_space(self, params: world.Params | None = None) -> Any:
        """What actions are, for so many experts."""
        num_experts = self._params(params).tasks.num_experts
        if self.actions == "subset":
            return spaces.Discrete(len(routing.subset_actions(num_experts)))
        shape = (2, num_experts) if self.actions == "heads" else (num_experts,)
        return spaces.Box(0.0, 1.0, shape)

    def observation_space(self, params: world.Params | None = None) -> Any:
        """What observations are; a dict of a box and a mask with ``show_mask``."""
        params = self._params(params)
        width = params.tasks.num_tasks + 3 * params.tasks.num_experts + 2
        box = spaces.Box(-jnp.inf, jnp.inf, (width,))
        if not self.show_mask:
            return box
        space = self.action_space(params)
        count = space.n if self.actions == "subset" else params.tasks.num_experts
        return {"observation": box, "action_mask": spaces.Binary((count,))}

    def reset_env(
        self, key: base.Array, params: world.Params
    ) -> tuple[Any, world.State]:
        """Begins an episode: links in their stationary state, nothing wrong."""
        radio_key, task_key, report_key = jax.random.split(random.fusible(key), 3)
        num_experts = params.tasks.num_experts
        links = radio.start(radio_key, num_experts, params.radio, params.events)
        wrong = events.start(num_experts)
        time = jnp.int32(0)
        now_db = self._snr_db(links, wrong, time, params)
        shape = (1 + self.max_delay, num_experts)
        state = world.State(
            time=time,
            task=jax.random.randint(task_key, (), 0, params.tasks.num_tasks, jnp.int32),
            radio=links,
            events=wrong,
            history=jnp.broadcast_to(now_db, shape),
            weights=jnp.zeros(num_experts, jnp.float32),
            earned=jnp.zeros(2, jnp.float32),
        )
        return self._observe(report_key, state, params), state

    def step_env(
        self,
        key: base.Array,
        state: world.State,
        action: base.Array,
        params: world.Params,
    ) -> tuple[Any, world.State, base.Array, base.Array, dict[str, base.Array]]:
        """Earns the rewards of the present links, then moves everything on.

        The scalars of ``info``: those of `scoring.semantic` and `scoring.channel`,
        ``switching``, half the sum of changes of the final weights (0 at the first
        step), and ``invalid``, whether an expert that has failed was given weight.
        """
        move_key, report_key = jax.random.split(random.fusible(key))
        reward, parts, weights = self.score(state, action, params)
        given = self._head(action, params.tasks.num_experts)
        moved = 0.5 * jnp.sum(jnp.abs(weights.final - state.weights))
        info = {
            **parts,
            "switching": jnp.where(state.time > 0, moved, 0.0),
            "invalid": jnp.any((given > 0) & ~state.events.live),
        }
        after = self._move(move_key, state, params)._replace(
            weights=weights.final,
            earned=jnp.stack([parts["semantic"], parts["channel"]]),
        )
        obs = self._observe(report_key, after, params)
        return obs, after, reward, jnp.zeros((), bool), info

    def is_truncated(self, state: world.State, params: world.Params) -> base.Array:
        """Whether all steps of the episode have been taken; nothing terminates it."""
        return state.time >= params.max_steps

    def score(
        self, state: world.State, action: base.Array, params: world.Params
    ) -> tuple[base.Array, dict[str, base.Array], scoring.Weights]:
        """What an action earns in a state: no randomness.

        Returns:
          The combined reward, its parts, and the weights that the action is.
        """
        scene = world.scene(state, params)
        given = self._head(action, params.tasks.num_experts)
        if self.actions == "heads":
            weights = scoring.joined(given, scene, self.literal)
        else:
            weights = scoring.single(given, scene)
        reward, parts = scoring.score(
            weights, scene, params.rewards, self.judge, self.literal
        )
        return reward, parts, weights

    def from_subset(self, members: base.Array) -> base.Array:
        """The action of equal weights over a subset, bool ``[N]``, not empty."""
        if self.actions == "subset":
            return subsets.index(members) - 1
        weights = members.astype(jnp.float32)
        return jnp.stack([weights] * 2) if self.actions == "heads" else weights

    def view(self, obs: Any, params: world.Params) -> reports.View:
        """Takes an observation ``[..., D]`` apart."""
        flat = obs["observation"] if isinstance(obs, dict) else obs
        return reports.split(flat, params)

    def _params(self, params: world.Params | None) -> world.Params:
        return self.default_params if params is None else params

    def _move(
        self, key: base.Array, state: world.State, params: world.Params
    ) -> world.State:
        """What moves whatever the agent does: links, events and tasks."""
        keys = jax.random.split(key, 3)
        time = state.time + 1
        links = radio.advance(keys[0], state.radio, params.radio, params.events)
        wrong = events.advance(keys[1], state.events, time, params.events)
        now_db = self._snr_db(links, wrong, time, params)
        return state._replace(
            time=time,
            task=tasks.following(
                keys[2], state.task, params.tasks.num_tasks, params.task_change
            ),
            radio=links,
            events=wrong,
            history=jnp.concatenate([now_db[None], state.history[:-1]]),
        )

    def _snr_db(
        self,
        links: radio.Radio,
        wrong: events.Events,
        time: base.Array,
        params: world.Params,
    ) -> base.Array:
        calibrated = self.mode == "calibrated"
        clear_db = radio.snr_db(
            links, time, params.radio, params.events, calibrated, self.literal
        )
        return clear_db - events.loss_db(wrong, params.events)

    def _head(self, action: base.Array, num_experts: int) -> base.Array:
        """Weights ``[N]``, not yet valid, or those of both heads."""
        if self.actions != "subset":
            return action
        return subsets.members(action + 1, num_experts).astype(jnp.float32)

    def _observe(
        self, key: base.Array, state: world.State, params: world.Params
    ) -> Any:
        seen = reports.report(key, state, params)
        obs = jnp.concatenate(seen)
        if not self.show_mask:
            return obs
        live = state.events.live
        if self.actions != "subset":
            return {"observation": obs, "action_mask": live}
        members = jnp.asarray(routing.subset_actions(live.shape[0]))
        valid = ~jnp.any(members & ~live, axis=1)
        return {"observation": obs, "action_mask": valid}
