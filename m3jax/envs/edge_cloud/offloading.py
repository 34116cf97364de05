"""Offloading between edge and cloud, request by request (MSAO, equation 11).

At each step a question arrives with some modalities. The agent says how much of each is
kept and whether it goes to the cloud, from which confidence on the edge drafts, and how
many tokens. What is earned is, with the weights of the parameters,

    - latency - quality lost - limits broken

in closed form (``costs.offload``), so a reward is no chance. The agent sees the link by
a noisy report and acceptance by a moving average. Its actions move nothing but rewards
and that average: what is best at each step is best altogether (`policies.oracle`).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.costs import offload, offload_limits, transmission
from m3jax.envs import batch_last, spaces
from m3jax.envs.edge_cloud import plans, world
from m3jax.ops import random

ACTIONS = ("plan", "grid")
_TINY = 1e-6


@dataclasses.dataclass(frozen=True)
class Offloading(batch_last.BatchLast):
    """The environment.

    Attributes:
      actions: "plan": ``[2 M + 2]`` in [0, 1], see `plans`; "grid": the number of a
        row of `table`.
      levels: of the grid.
      max_draft: the longest draft.
      pipelined: whether the edge drafts the next round while one is away.

    Raises:
      ValueError: a setting is not known, or a length too long.

    Example:
      >>> env = Offloading()
      >>> obs, state = env.reset(jax.random.key(0))
      >>> out = env.step(jax.random.key(1), state, 0.9 * jnp.ones(8))
      >>> obs.shape, bool(out[2] < 0), bool(0 < out[-1]["latency_s"] < 10)
      ((16,), True, True)
      >>> obs, state = env.reset_batch(jax.random.key(0), 64)
      >>> out = env.step_batch(jax.random.key(1), state, jnp.ones((8, 64)))
      >>> obs.shape, out[2].shape
      ((16, 64), (64,))
    """

    actions: str = "plan"
    levels: plans.Levels = plans.Levels()
    max_draft: int = 5
    pipelined: bool = True

    def __post_init__(self):
        if self.actions not in ACTIONS:
            raise ValueError(f"actions must be one of {ACTIONS}, got {self.actions!r}")
        longest = max(self.levels.lengths)
        if not longest <= self.max_draft <= offload.MAX_DRAFT:
            raise ValueError(
                f"max_draft must be from {longest}, the greatest of levels.lengths, to"
                f" {offload.MAX_DRAFT}, got {self.max_draft!r}"
            )

    @property
    def default_params(self) -> world.Params:
        """MSAO's at 300 Mbps."""
        return world.make_params()

    def table(self, params: world.Params) -> base.Array:
        """All discrete actions, ``[A, 2 M + 2]``."""
        num = params.tokens.shape[0]
        return jnp.asarray(plans.table(self.levels, num, self.max_draft))

    def action_space(self, params: world.Params | None = None) -> Any:
        """What actions are, for so many modalities."""
        num = self._num_modalities(params)
        if self.actions == "grid":
            each = 2 * len(self.levels.retentions)
            others = len(self.levels.thresholds) * len(self.levels.lengths)
            return spaces.Discrete(each**num * others)
        return spaces.Box(0.0, 1.0, (2 * num + 2,))

    def observation_space(self, params: world.Params | None = None) -> Any:
        """SNR, acceptance, loads; relevance, sparsity, tokens, bits of modalities."""
        num = self._num_modalities(params)
        return spaces.Box(-jnp.inf, jnp.inf, (4 + 4 * num,))

    def begin(
        self, key: base.Array, batch: tuple[int, ...], params: world.Params
    ) -> tuple[base.Array, world.State]:
        """Begins episodes: everything in its stationary state."""
        normals = self._normals(key, batch, params)
        walks, request, rest = self._parts(normals)
        state = world.State(
            jnp.zeros(batch, jnp.int32),
            walks,
            *world.draw_request(request, params),
            estimate=jnp.full(batch, 0.8, jnp.float32),
        )
        return self._observe(rest[0], state, params), state

    def advance(
        self,
        key: base.Array,
        state: world.State,
        action: base.Array,
        params: world.Params,
    ) -> tuple[base.Array, world.State, base.Array, base.Array, dict[str, base.Array]]:
        """Answers a request, then brings the next one.

        The scalars of ``info`` are those of `score`.
        """
        normals = self._normals(key, state.time.shape, params)
        walks, request, rest = self._parts(normals)
        reward, info = self.score(state, action, params)
        after = world.State(
            state.time + 1,
            world.walk(state.walks, walks, params),
            *world.draw_request(request, params),
            estimate=self._estimate(rest[1], state, action, params),
        )
        obs = self._observe(rest[0], after, params)
        return obs, after, reward, jnp.zeros(reward.shape, bool), info

    def is_truncated(self, state: world.State, params: world.Params) -> base.Array:
        """Whether all requests of an episode are answered; nothing terminates it."""
        return state.time >= params.max_steps

    def score(
        self, state: world.State, action: base.Array, params: world.Params
    ) -> tuple[base.Array, dict[str, base.Array]]:
        """What actions earn in states: no randomness; any batch shape.

        Returns:
          The reward, and ``latency_s``, ``upload_s``, ``prefill_s``, ``decode_s``,
          ``tokens_per_s`` while decoding, ``quality_loss``, ``violation`` (what is too
          much of each limit, at most all of it, added up) and ``feasible``.
        """
        plan, threshold = self._plan(action, params)
        found = self._expected(plan, threshold, state, params)
        lost = world.quality_loss(plan.retention, plan.sent, state, params)
        taken = offload_limits.Taken(
            lost,
            found.edge_bytes,
            found.cloud_bytes,
            found.send_s,
            plan.retention,
            1.0 - world.least_retention(state),
        )
        excess = offload_limits.excesses(params.limits, taken)
        violation = jnp.sum(jnp.clip(excess, 0.0, 1.0), axis=0)
        costs = jnp.stack([found.total_s, lost, violation])
        reward = -jnp.tensordot(params.weights, costs, 1)
        return reward, {
            "latency_s": found.total_s,
            "upload_s": found.upload_s,
            "prefill_s": found.prefill_s,
            "decode_s": found.decode_s,
            "tokens_per_s": found.tokens_per_round / found.round_s,
            "quality_loss": lost,
            "violation": violation,
            "feasible": jnp.all(excess <= 1e-6, axis=0),
        }

    def believed(self, obs: base.Array, params: world.Params) -> world.State:
        """The state as an observation ``[D, *batch]`` tells it."""
        num = params.tokens.shape[0]
        relevance, sparsity, tokens, bits = jnp.split(obs[4 : 4 + 4 * num], 4)
        one = jnp.ones_like(obs[0])
        hard = world.difficulty_of(obs[1], one, params)
        hard = jnp.clip(hard, 1e-4, 1.0 - 1e-4)
        mean, spread = params.difficulty[0], params.difficulty[1]
        # What does not vary is what it is on average, whatever is divided by.
        load = jnp.log(obs[2:4]) / world.column(jnp.maximum(params.load, _TINY), obs)
        link = (20.0 * obs[0] - params.snr_db) / jnp.maximum(params.snr_sd_db, _TINY)
        logit = jnp.log(hard) - jnp.log1p(-hard)
        seen = (logit - mean) / jnp.maximum(spread, _TINY)
        walks = jnp.concatenate([jnp.stack([link, seen]), load])
        return world.State(
            jnp.zeros(obs.shape[1:], jnp.int32),
            walks,
            relevance,
            sparsity,
            1e3 * tokens,
            1e6 * bits,
            obs[1],
        )

    def from_plan(self, action: base.Array, params: world.Params) -> base.Array:
        """An action ``[2 M + 2, *batch]`` of "plan" as this environment takes it."""
        if self.actions == "plan":
            return action
        table = self.table(params)
        gap = jnp.sum(
            (table.reshape(table.shape + (1,) * (action.ndim - 1)) - action) ** 2,
            axis=1,
        )
        return jnp.argmin(gap, axis=0).astype(jnp.int32)

    def _num_modalities(self, params: world.Params | None) -> int:
        return len(world.MODALITIES) if params is None else params.tokens.shape[0]

    def _plan(self, action, params) -> tuple[offload.Plan, base.Array]:
        if self.actions == "grid":
            action = jnp.moveaxis(self.table(params)[action], -1, 0)
        return plans.split(action, params.tokens.shape[0], self.max_draft)

    def _expected(self, plan, threshold, state, params) -> offload.Expected:
        rate = transmission.rate(world.snr_db(state, params), 1.0, params.bandwidth_hz)
        load = world.loads(state, params)
        hard = world.difficulty(state, params)
        now = offload.Conditions(
            rate,
            rate,
            params.rtt_s,
            load[0],
            load[1],
            world.confident(threshold, params),
            world.acceptance(hard, threshold, params),
        )
        request = offload.Request(
            state.tokens, state.bits, params.text_tokens, params.answer_tokens
        )
        return offload.expected(params.machines, request, plan, now, self.pipelined)

    def _estimate(self, normal, state, action, params) -> base.Array:
        """The moving average of acceptance after a request, of about so many drafts."""
        _, threshold = self._plan(action, params)
        hard = world.difficulty(state, params)
        true = world.acceptance(hard, threshold, params)
        drafts = params.answer_tokens * world.confident(threshold, params)
        noise = jnp.sqrt(true * (1.0 - true) / jnp.maximum(drafts, 1.0))
        seen = jnp.clip(true + noise * normal, 0.0, 1.0)
        seen_hard = world.difficulty_of(seen, threshold, params)
        whole = world.acceptance(jnp.clip(seen_hard, 0.0, 1.0), 1.0, params)
        # Few drafts of little entropy tell little of the others.
        rate = params.estimate_rate * jnp.clip(threshold, 0.0, 1.0) * (drafts >= 1.0)
        moved = state.estimate + rate * (whole - state.estimate)
        return jax.lax.stop_gradient(moved).astype(jnp.float32)

    def _normals(self, key, batch, params) -> base.Array:
        shape = world.num_normals(params), *batch
        return jax.random.normal(random.fusible(key), shape, jnp.float32)

    def _parts(self, normals) -> tuple[base.Array, base.Array, base.Array]:
        """Normals of the walks, of the request, of the report and the estimate."""
        return normals[: world.NUM_WALKS], normals[world.NUM_WALKS : -2], normals[-2:]

    def _observe(self, normal, state, params) -> base.Array:
        reported = world.snr_db(state, params) + params.report_noise_db * normal
        first = jnp.stack([reported / 20.0, state.estimate])
        rows = (first, world.loads(state, params), state.relevance, state.sparsity)
        return jnp.concatenate([*rows, state.tokens / 1e3, state.bits / 1e6])
