"""Routing to experts over wireless links in NumPy, as one writes it by hand.

The same class serves one environment and a batch. Arrays are ``[N, *batch]`` for N
experts: environments stand last, since NumPy is fastest along a long last axis. What
the measured parameters leave out (events, motion, missing reports) costs nothing, so
nobody moves, path losses are worked out once for an episode, and all experts are live.
"""

import math
from typing import Any, NamedTuple

import gymnasium
import numpy as np

_ROUNDING = 1e-6
_EPSILON = 1e-6
_LEAST_GAIN = 1e-9
_TINY = 1e-30


class Noise(NamedTuple):
    """What a step draws.

    Attributes:
      shadow: [N, *batch], standard normal.
      scatter: [2, N, *batch], standard normal, real and imaginary part.
      report: [N, *batch], standard normal.
      task: int [*batch], the task that comes.
    """

    shadow: np.ndarray
    scatter: np.ndarray
    report: np.ndarray
    task: np.ndarray


class World:
    """The environment, its state in attributes.

    Attributes:
      time: steps taken; all of a batch begin and end together.
      task: int [*batch].
      base_db: [N, *batch], SNR without shadowing and fading.
      shadow_std_db: [N, *batch].
      shadow_db: [N, *batch], a loss.
      scatter: [2, N, *batch], the fading.
      history: SNRs in dB, each [N, *batch], the present ones first.
      weights: [N, *batch], of the last step.
      earned: semantic and channel reward of the last step, each [*batch].

    Args:
      params: of `m3jax.envs.expert_routing.wireless.Wireless`, in its default mode.
      batch: shape of the batch; of one environment none.
    """

    def __init__(self, params: Any, batch: tuple[int, ...] = ()):
        self.params, self.batch = params, batch
        core, irrelevant, self._competence = (
            np.ascontiguousarray(np.asarray(table, np.float32).T)
            for table in params.tasks
        )
        self._core, self._irrelevant = core, irrelevant
        self._core_count = np.maximum(core.sum(0), 1)
        self._irrelevant_count = np.maximum(irrelevant.sum(0), 1)
        self._no_core = (core.sum(0) == 0).astype(np.float32)
        self.num_experts, self.num_tasks = core.shape
        self._kinds = np.arange(self.num_tasks).reshape(-1, *[1] * len(batch))
        rewards = params.rewards
        self._spread_db = rewards.max_snr_db - rewards.min_snr_db
        self._best = math.log1p(10.0 ** (rewards.max_snr_db / 10.0))
        self._log_count = math.log(self.num_experts)

    def reset(self, rng: np.random.Generator) -> np.ndarray:
        """Draws the links of an episode and a task; returns the observation."""
        radio, shape = self.params.radio, (self.num_experts, *self.batch)
        n = rng.standard_normal((5, *shape), np.float32)
        distance = np.maximum(radio.mean_distance + radio.std_distance * n[0], 1.0)
        self.set_distances(distance)
        std = radio.mean_shadow_std_db + radio.std_shadow_std_db * n[1]
        self.shadow_std_db = np.maximum(std, 0.0)
        self.shadow_db = self.shadow_std_db * n[2]
        self.scatter = math.sqrt(0.5) * n[3:]
        self.task = rng.integers(self.num_tasks, size=self.batch)
        self.history = [self._snr_db()] * 4
        self.weights = np.zeros(shape, np.float32)
        zero = np.zeros(self.batch, np.float32)
        self.earned, self.time = (zero, zero), 0
        return self._observe(rng.standard_normal(shape, np.float32))

    def draw(self, rng: np.random.Generator) -> Noise:
        """What the next step needs."""
        n = rng.standard_normal((4, self.num_experts, *self.batch), np.float32)
        task = rng.integers(self.num_tasks, size=self.batch)
        change = self.params.task_change
        if change < 1.0:
            task = np.where(rng.random(self.batch) < change, task, self.task)
        return Noise(n[0], n[1:3], n[3], task)

    def step(
        self, action: np.ndarray, noise: Noise
    ) -> tuple[np.ndarray, np.ndarray, bool, dict[str, np.ndarray]]:
        """Earns the rewards of the present links, then moves them on.

        Args:
          action: weights [N, *batch], not negative.
          noise: what is drawn.

        Returns:
          Observation [K + 3 N + 2, *batch], reward [*batch], whether the time of the
          episode is over, and the parts of the reward.
        """
        weights = self._normalised(action)
        parts = self._semantic(weights) | self._channel(weights)
        shares = self.params.rewards
        reward = shares.semantic_share * parts["semantic"]
        reward = reward + shares.channel_share * parts["channel"]
        moved = 0.5 * np.abs(weights - self.weights).sum(0)
        parts["switching"] = moved if self.time else 0.0 * moved
        self.weights, self.earned = weights, (parts["semantic"], parts["channel"])
        self._move(noise)
        over = self.time >= self.params.max_steps
        return self._observe(noise.report), reward, over, parts

    def set_distances(self, distance: np.ndarray) -> None:
        """Places the experts, metres [N, *batch]."""
        radio = self.params.radio
        noise_dbm = radio.noise_density_dbm_hz + 10.0 * math.log10(radio.bandwidth_hz)
        noise_dbm += radio.noise_figure_db
        loss_db = 10.0 * radio.path_loss_exponent * np.log10(distance)
        self.base_db = radio.tx_power_dbm - radio.reference_loss_db - noise_dbm
        self.base_db = self.base_db - loss_db

    def _move(self, noise: Noise) -> None:
        radio = self.params.radio
        rho, r = radio.shadow_correlation, radio.fading_correlation
        fresh = math.sqrt(1.0 - rho**2) * self.shadow_std_db
        self.shadow_db = rho * self.shadow_db + fresh * noise.shadow
        self.scatter = r * self.scatter + math.sqrt(0.5 * (1.0 - r**2)) * noise.scatter
        self.task, self.time = noise.task, self.time + 1
        self.history = [self._snr_db(), *self.history[:-1]]

    def _snr_db(self) -> np.ndarray:
        radio = self.params.radio
        real, imag = radio.fading_std * self.scatter
        power = (real + radio.fading_mean) ** 2 + imag**2
        fading_db = 10.0 * np.log10(np.maximum(power, _LEAST_GAIN))
        return self.base_db - self.shadow_db + fading_db

    def _normalised(self, action: np.ndarray) -> np.ndarray:
        weights = np.maximum(action, 0.0)
        total = weights.sum(0)
        if total.all():
            return weights / total
        equal = np.float32(1.0 / self.num_experts)
        return np.where(total > 0, weights / np.maximum(total, _TINY), equal)

    def _semantic(self, w: np.ndarray) -> dict[str, np.ndarray]:
        params, task, judge = self.params.rewards, self.task, self.params.rewards.judge
        core, irrelevant = self._core[:, task], self._irrelevant[:, task]
        active = w >= params.activation - _ROUNDING
        heard = w >= params.suppression - _ROUNDING
        spread = -(w * np.log(np.maximum(w, _TINY))).sum(0) / self._log_count
        x = (self.history[0] - judge.half_snr_db) / judge.slope_db
        helped = (w * self._competence[:, task] / (1.0 + np.exp(-x))).sum(0)
        reached = (active * core).sum(0) / self._core_count[task]
        noisy = (heard * irrelevant).sum(0) / self._irrelevant_count[task]
        parts = {
            "activation": reached + self._no_core[task],
            "suppression": 1.0 - noisy,
            "concentration": (w * core).sum(0) * (1.0 - spread),
            "judged": judge.guess + (1.0 - judge.guess) * helped,
        }
        return {"semantic": _weighted(parts, params.semantic_weights), **parts}

    def _channel(self, w: np.ndarray) -> dict[str, np.ndarray]:
        params, snr_db = self.params.rewards, self.history[0]
        active = w >= params.suppression - _ROUNDING
        count = active.sum(0)
        many = np.maximum(count, 1)
        x = (snr_db - params.min_snr_db) / self._spread_db
        mean = (x * active).sum(0) / many
        quality = np.minimum(np.maximum(mean, 0.0), 1.0)
        deviation = np.sqrt(((x - mean) ** 2 * active).sum(0) / many)
        stable = 1.0 - deviation / (quality + _EPSILON)
        used = w * active
        p = used / np.maximum(used.sum(0), _TINY)
        rate = np.log1p(np.exp(math.log(10.0) / 10.0 * snr_db))
        rate = (rate * active).sum(0) / (many * self._best)
        parts = {
            "quality": quality,
            "stability": np.minimum(np.maximum(stable, 0.0), 1.0) * (count > 0),
            "balance": -(p * np.log(np.maximum(p, _TINY))).sum(0) / self._log_count,
            "efficiency": np.minimum(rate, 1.0),
        }
        return {"channel": _weighted(parts, params.channel_weights), **parts}

    def _observe(self, noise: np.ndarray) -> np.ndarray:
        late_db = self.history[min(self.params.report_delay, 3)]
        seen_db = late_db + self.params.report_noise_db * noise
        num_tasks, num_experts = self.num_tasks, self.num_experts
        # All are live, and every report comes.
        obs = np.ones((num_tasks + 3 * num_experts + 2, *self.batch), np.float32)
        obs[:num_tasks] = self._kinds == self.task
        obs[-2 - num_experts : -2] = (
            seen_db - self.params.rewards.min_snr_db
        ) / self._spread_db
        obs[-2:] = self.earned
        return obs


class NumpyEnv(gymnasium.Env):
    """One environment with Gymnasium's calls."""

    def __init__(self, params: Any):
        self.world = World(params)
        shape = (self.world.num_tasks + 3 * self.world.num_experts + 2,)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape)
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (self.world.num_experts,))

    def reset(self, *, seed=None, options=None):
        """Begins an episode."""
        super().reset(seed=seed)
        return self.world.reset(self.np_random), {}

    def step(self, action):
        """Takes a step."""
        noise = self.world.draw(self.np_random)
        obs, reward, truncated, info = self.world.step(action, noise)
        return obs, float(reward), False, truncated, info


def _weighted(parts: dict[str, np.ndarray], weights: tuple[float, ...]) -> np.ndarray:
    return sum(w * part for w, part in zip(weights, parts.values(), strict=True))
