"""The workload of soft actor-critic in Stable-Baselines3, as its users run it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common import logger, type_aliases

from benchmarks import sac_workload


class TableEnv(gymnasium.Env):
    """Shows the rows of a table in turn, as that of m3jax's side."""

    def __init__(self, workload: sac_workload.Workload):
        self.table = workload.table()
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (workload.obs_dim,))
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (workload.action_dim,))
        self.time = 0

    def reset(self, *, seed: int | None = None, options: Any = None):
        """Begins an episode at the first row."""
        super().reset(seed=seed)
        self.time = 0
        return self.table[0], {}

    def step(self, action: np.ndarray):
        """Shows the next row."""
        self.time += 1
        reward = -float(np.mean(action**2))
        truncated = self.time >= sac_workload.EPISODE
        return self.table[self.time % len(self.table)], reward, False, truncated, {}


def make_model(
    workload: sac_workload.Workload, learning_rate: float = sac_workload.LEARNING_RATE
) -> stable_baselines3.SAC:
    """Makes the agent; settings that are not named are defaults of both sides."""
    return stable_baselines3.SAC(
        "MlpPolicy",
        TableEnv(workload),
        learning_rate=learning_rate,
        buffer_size=workload.capacity,
        learning_starts=workload.warmup,
        batch_size=workload.batch,
        tau=sac_workload.TAU,
        gamma=sac_workload.DISCOUNT,
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": list(workload.hidden)},
        device="cpu",
        seed=0,
    )


def make_step(workload: sac_workload.Workload) -> Callable[[], dict[str, float]]:
    """Makes a call that takes so many steps, goes on from there, and gives metrics."""
    model = make_model(workload)
    learn(model, workload.warmup)

    def step() -> dict[str, float]:
        learn(model, workload.steps)
        return dict(model.logger.name_to_value)

    return step


def learn(model: stable_baselines3.SAC, steps: int) -> None:
    """Takes so many steps, and goes on where the last call ended."""
    model.learn(steps, log_interval=None, reset_num_timesteps=False)


def find_losses(
    workload: sac_workload.Workload,
    params: Mapping[str, Any],
    target: Mapping[str, Any],
    noise: np.ndarray,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Losses and gradients that the library's own update finds.

    Args:
      workload: the sizes; its batch is the one that counts.
      params: of actor and critics, as m3jax has them, NumPy.
      target: of the target critics.
      noise: ``[2, B, A]``: of the actor's actions, and of those for the target.

    Returns:
      ``critic_loss`` and ``actor_loss``, and gradients: ``actor``, ``critic`` in the
      form of ``params``, and ``log_alpha``.
    """
    model = make_model(workload, learning_rate=0.0)
    model.set_logger(logger.configure(None, []))
    actor, critic, critic_target = (
        _layers(module) for module in (model.actor, model.critic, model.critic_target)
    )
    _load(actor, _actor_weights(params["actor"]))
    _load(critic, _critic_weights(params["critic"]))
    _load(critic_target, _critic_weights(target))
    grads = {}

    def keep(name, optimizer, layers):
        # A later loss adds to the same gradients, so they are kept when they are used.
        def step(*args, **kwargs):
            grads[name] = [p.grad.clone().numpy() for p in layers]

        optimizer.step = step

    keep("actor", model.actor.optimizer, _tensors(actor))
    keep("critic", model.critic.optimizer, _tensors(critic))
    keep("log_alpha", model.ent_coef_optimizer, [model.log_ent_coef])
    draws = iter(torch.tensor(noise))

    def rsample(normal, sample_shape=None):
        return normal.loc + normal.scale * next(draws)

    model.replay_buffer.sample = lambda *args, **kwargs: _samples(workload)
    with mock.patch.object(torch.distributions.Normal, "rsample", rsample):
        model.train(1, workload.batch)
    found = model.logger.name_to_value
    values = {name: found[f"train/{name}"] for name in ("critic_loss", "actor_loss")}
    return values, grads


def counterpart(name: str, tree: Any) -> list[np.ndarray]:
    """m3jax's parameters, or gradients of them, in the order of the peer's tensors."""
    if name == "log_alpha":
        return [np.reshape(tree, 1)]
    weights = _actor_weights if name == "actor" else _critic_weights
    return [part for layer in weights(tree) for part in layer]


def _samples(workload: sac_workload.Workload) -> type_aliases.ReplayBufferSamples:
    batch = {k: torch.tensor(v) for k, v in workload.transitions().items()}
    return type_aliases.ReplayBufferSamples(
        observations=batch["obs"],
        actions=batch["action"],
        next_observations=batch["next_obs"],
        dones=batch["terminated"].float()[:, None],
        rewards=batch["reward"][:, None],
    )


def _layers(module: torch.nn.Module) -> list[torch.nn.Linear]:
    return [part for part in module.modules() if isinstance(part, torch.nn.Linear)]


def _tensors(layers: Iterable[torch.nn.Linear]) -> list[torch.nn.Parameter]:
    return [p for layer in layers for p in (layer.weight, layer.bias)]


def _actor_weights(tree: Mapping[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Hidden layers, then means and deviations, which are one layer in m3jax."""
    *hidden, out = _mlp_weights(tree)
    parts = (np.split(part, 2) for part in out)
    return [*hidden, *zip(*parts, strict=True)]


def _critic_weights(tree: Mapping[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The layers of one critic after those of the other."""
    num_critics = len(tree["out"]["bias"])
    return [
        layer
        for i in range(num_critics)
        for layer in _mlp_weights(
            {k: {name: leaf[i] for name, leaf in v.items()} for k, v in tree.items()}
        )
    ]


def _mlp_weights(tree: Mapping[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    names = sorted(name for name in tree if name != "out")
    return [
        (np.asarray(tree[name]["kernel"]).T, np.asarray(tree[name]["bias"]))
        for name in [*names, "out"]
    ]


def _load(layers: list, weights: list[tuple[np.ndarray, np.ndarray]]) -> None:
    with torch.no_grad():
        for layer, (kernel, bias) in zip(layers, weights, strict=True):
            layer.weight.copy_(torch.tensor(kernel))
            layer.bias.copy_(torch.tensor(bias))
