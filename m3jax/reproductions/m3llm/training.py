"""Trains one variant of M3LLM's router at one seed."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from m3jax import base, routing
from m3jax.reproductions.m3llm import variants
from m3jax.systems.m3llm import ce_sac, end_to_end, playing, routing_env

_LOOK = 1_000_000


class Trained(NamedTuple):
    """A trained router.

    Attributes:
      env: its environment.
      params: of that, with the bank of the test.
      act: its policy without noise.
      play: plays episodes of the test with it.
      actor: parameters of both.
      curves: "env_steps" and "reward" of the looks, and "gradient_cosine" by step of
        the learner.
    """

    env: routing_env.RoutingEnv
    params: routing_env.Params
    act: playing.Act
    play: playing.Player
    actor: base.Params
    curves: dict[str, list[float]]


class _Programs(NamedTuple):
    """What is compiled once for all seeds of a variant."""

    init: Callable[..., base.TrainState]
    step: Callable[..., tuple[base.TrainState, base.Metrics]]
    act: playing.Act
    play: playing.Player


def train(
    settings: variants.Settings,
    variant: variants.Variant,
    seed: int,
    world: routing.World,
) -> Trained:
    """Trains a router.

    At a seed all variants meet the same links, tasks and examples in looks and tests.

    Args:
      settings: of the study.
      variant: what to train.
      seed: of parameters, episodes and noise.
      world: of ``routing.make_world``.

    Returns:
      What came of it.
    """
    env, filtered = routing.make_env(
        settings.world_of(variant), variant.uses_asem, variant.uses_mcp, seed
    )
    params = routing_env.Params(world.params, world.train_bank, filtered)
    programs = _programs(settings, variant, env, world)
    root = jax.random.key(seed)
    look_key = jax.random.fold_in(root, _LOOK)
    given = params, world.train_said if variant.is_end_to_end else None
    state = programs.init(given, root)

    def look() -> float:
        played = programs.play(state.params["actor"], params, look_key)
        return float(played.reward.mean())

    first, each = _env_steps(settings, variant)
    curves: dict[str, list[float]] = {"env_steps": [float(first)], "reward": [look()]}
    curves["gradient_cosine"] = []
    for number in range(1, settings.looks[-1] + 1):
        state, metrics = programs.step(given, state, jax.random.fold_in(root, number))
        if "gradient_cosine" in metrics:
            curves["gradient_cosine"].append(float(metrics["gradient_cosine"]))
        if number in settings.looks:
            curves["env_steps"].append(float(first + number * each))
            curves["reward"].append(look())
    if not np.isfinite(curves["reward"]).all():
        raise FloatingPointError(f"the reward is not finite at seed {seed}")
    tested = params._replace(bank=world.test_bank)
    actor = state.params["actor"]
    return Trained(env, tested, programs.act, programs.play, actor, curves)


_made: dict[str, _Programs] = {}


def _programs(
    settings: variants.Settings,
    variant: variants.Variant,
    env: routing_env.RoutingEnv,
    world: routing.World,
) -> _Programs:
    key = repr((settings, variant))
    if key not in _made:
        _made[key] = _compile(settings, variant, env, world)
    return _made[key]


def _compile(settings, variant, env, world) -> _Programs:
    sac = settings.ce_sac.sac
    if variant.discount is not None:
        sac = dataclasses.replace(sac, discount=variant.discount)
    config = dataclasses.replace(
        settings.ce_sac,
        sac=sac,
        is_decoupled=variant.is_decoupled,
        projects=variant.projects,
        is_split=variant.is_split,
    )
    through = dataclasses.replace(settings.end_to_end, heads=config)
    task_model = world.pool.task_model

    def make(params, said) -> base.Learner:
        if said is None:
            return ce_sac.make_learner(config, env, params)
        system = world.pool.system
        return end_to_end.make_learner(through, env, params, system, task_model, said)

    act = playing.make_act(config, world.params.tasks.num_experts)
    sizes = settings.test_envs, settings.world.num_steps
    return _Programs(
        init=jax.jit(lambda given, key: make(*given).init(key, ())),
        step=jax.jit(
            lambda given, state, key: make(*given).step(state, (), key),
            donate_argnums=1,
        ),
        act=act,
        play=playing.make_player(env, act, *sizes),
    )


def _env_steps(
    settings: variants.Settings, variant: variants.Variant
) -> tuple[int, int]:
    """Environment steps before the first step of the learner, and in each."""
    sac = settings.ce_sac.sac
    if variant.is_end_to_end:
        through: Any = settings.end_to_end
        return 0, through.chunk * through.collect_steps * sac.num_envs
    return sac.warmup, sac.chunk * sac.collect_steps * sac.num_envs
