"""The environment of M3LLM's router: wireless links, real tasks, and what MCP tells.

Around ``envs.expert_routing.wireless`` (what is earned, and how links move) this lays
the state of equation 22,

    s_t = [f_img, f_text, r_tag, m_coarse, z_ASEM]

Every step brings an example of the task that waits: features of its picture and its
question, its tag and its coarse mask come from a bank. z_ASEM are the means of the
latents that ASEM infers from the reports; without ASEM the reports themselves take its
place. Without MCP there is no tag and no mask: all experts pass.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.envs import environment, spaces
from m3jax.envs.expert_routing import reports, wireless, world
from m3jax.nn import state_space
from m3jax.nn import state_space_types as asem_types


class Bank(NamedTuple):
    """Examples of each of K tasks, M of each.

    Attributes:
      image: float32 ``[K, M, d_img]``, features of the picture.
      text: float32 ``[K, M, d_text]``, features of the question.
      tag: float32 ``[K, M, d_tag]``, task category as read off the question.
      mask: bool ``[K, M, N]``, experts that retrieval lets pass, never none.
    """

    image: base.Array
    text: base.Array
    tag: base.Array
    mask: base.Array


class Filter(NamedTuple):
    """A trained ASEM.

    Attributes:
      params: of the state-space model.
      mean, std: of reported SNRs, scalars, by which they are standardised.
    """

    params: base.Params
    mean: base.Array
    std: base.Array


class Params(NamedTuple):
    """What may change without a new compilation.

    Attributes:
      wireless: of the links, tasks and rewards.
      bank: of the tasks' examples.
      filter: of ASEM; None without it.
    """

    wireless: world.Params
    bank: Bank
    filter: Filter | None = None


class State(NamedTuple):
    """Where an episode stands.

    Attributes:
      wireless: of the links.
      seen: what the wireless environment showed of it.
      example: int32, which example of the task waits.
      filter: of ASEM; None without it.
    """

    wireless: world.State
    seen: Any
    example: base.Array
    filter: asem_types.State | None


@dataclasses.dataclass(frozen=True)
class RoutingEnv(environment.Environment):
    """The environment; observations are dicts of ``observation`` and ``action_mask``.

    Attributes:
      inner: of the links, with ``actions="heads"``.
      asem: the state-space model; None: policies see the reports themselves.
      uses_mcp: whether there are tags and coarse masks.
    """

    inner: wireless.Wireless = wireless.Wireless(actions="heads")
    asem: state_space.StateSpace | None = None
    uses_mcp: bool = True

    @property
    def default_params(self) -> Params:
        """There are none: the bank is made of real examples.

        Raises:
          ValueError: always; pass params to `reset` and `step`.
        """
        raise ValueError(
            "RoutingEnv needs the examples of its tasks: pass params of"
            " m3jax.systems.m3llm.routing_env.Params"
        )

    def action_space(self, params: Params) -> Any:
        """That of the wireless environment."""
        return self.inner.action_space(params.wireless)

    def observation_space(self, params: Params) -> dict[str, Any]:
        """A dict of boxes."""
        num_experts = params.wireless.tasks.num_experts
        widths = [params.bank.image.shape[-1], params.bank.text.shape[-1]]
        if self.uses_mcp:
            widths += [params.bank.tag.shape[-1], num_experts]
        widths.append(
            2 * num_experts
            if self.asem is None
            else self.asem.fast_dim + self.asem.slow_dim
        )
        box = spaces.Box(-jnp.inf, jnp.inf, (sum(widths),))
        mask = spaces.Binary((num_experts,))
        return {"observation": box, "action_mask": mask}

    def reset_env(self, key: base.Array, params: Params) -> tuple[Any, State]:
        """Begins an episode, with ASEM at its prior."""
        inner_key, example_key = jax.random.split(key)
        seen, inside = self.inner.reset(inner_key, params.wireless)
        filtered = None if self.asem is None else self.asem.initial_state()
        return self._arrive(example_key, seen, inside, filtered, params)

    def step_env(
        self, key: base.Array, state: State, action: base.Array, params: Params
    ) -> tuple[Any, State, base.Array, base.Array, dict[str, base.Array]]:
        """Earns what the wireless environment pays, and takes the next example."""
        inner_key, example_key = jax.random.split(key)
        seen, inside, reward, terminated, info = self.inner.step_env(
            inner_key, state.wireless, action, params.wireless
        )
        obs, after = self._arrive(example_key, seen, inside, state.filter, params)
        return obs, after, reward, terminated, info

    def is_truncated(self, state: State, params: Params) -> base.Array:
        """As the wireless environment has it."""
        return self.inner.is_truncated(state.wireless, params.wireless)

    def _arrive(
        self,
        key: base.Array,
        seen: Any,
        inside: world.State,
        filtered: asem_types.State | None,
        params: Params,
    ) -> tuple[Any, State]:
        """Draws the example, filters the reports, and shows both."""
        view = self.inner.view(seen, params.wireless)
        example = jax.random.randint(key, (), 0, params.bank.image.shape[1])
        filtered, channels = self._channels(view, filtered, params)
        state = State(inside, seen, example, filtered)
        shown = jax.tree.map(lambda rows: rows[inside.task, example], params.bank)
        parts = [shown.image, shown.text]
        if self.uses_mcp:
            parts += [shown.tag, shown.mask.astype(jnp.float32)]
        live = view.live > 0.5
        passing = live & shown.mask if self.uses_mcp else live
        mask = jnp.where(jnp.any(passing), passing, live)
        obs = {
            "observation": jnp.concatenate([*parts, channels]),
            "action_mask": mask,
        }
        return obs, state

    def _channels(
        self,
        view: reports.View,
        filtered: asem_types.State | None,
        params: Params,
    ) -> tuple[asem_types.State | None, base.Array]:
        """What a policy learns of the links, and ASEM's state after it."""
        if self.asem is None:
            return None, jnp.concatenate([view.snr, view.reported])
        standard = (view.snr - params.filter.mean) / params.filter.std
        filtered, step = self.asem.apply(
            params.filter.params,
            standard[None],
            view.reported[None] > 0.5,
            state=filtered,
            method="filter",
        )
        latents = jnp.concatenate([step.fast.mean, step.slow.mean], axis=-1)
        return filtered, latents[0]
