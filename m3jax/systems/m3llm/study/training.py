"""Trains one variant of M3LLM's router at one seed."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from m3jax import base
from m3jax.systems.m3llm import playing, router, routing_env
from m3jax.systems.m3llm import world as world_lib
from m3jax.systems.m3llm.study import variants

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


class _Compiled(NamedTuple):
    """What is compiled once for all seeds of a variant."""

    init: Callable[..., base.TrainState]
    step: Callable[..., tuple[base.TrainState, base.Metrics]]
    act: playing.Act
    play: playing.Player


class Programs:
    """The worlds and compiled programs of a study.

    Args:
      settings: of the study.
    """

    def __init__(self, settings: variants.Settings):
        self.settings = settings
        self.world = functools.cache(self._make_world)
        self.player = functools.cache(self._make_player)
        self._made: dict[str, _Compiled] = {}
        self._inits: dict[str, Callable[..., base.TrainState]] = {}

    def _make_world(self, copies: int) -> world_lib.World:
        config = dataclasses.replace(self.settings.world, copies=copies)
        return world_lib.make_world(config)

    def of(self, variant: variants.Variant, config: router.Router, around) -> _Compiled:
        """Those of a variant; a discount is data, which the state carries."""
        key = repr(variant)
        if key not in self._inits:
            self._inits[key] = jax.jit(router.make_programs(config, around).init)
        init = self._inits[key]
        key = variant.program
        if key not in self._made:
            programs = router.make_programs(config, around)
            act = playing.make_act(config.agent.heads, config.world.num_links)
            sizes = self.settings.test_envs, self.settings.world.num_steps
            self._made[key] = _Compiled(
                init=init,
                step=jax.jit(programs.step, donate_argnums=1),
                act=act,
                play=playing.make_player(around.env, act, *sizes),
            )
        return self._made[key]._replace(init=init)

    def _make_player(
        self,
        env: routing_env.RoutingEnv,
        act: playing.Act | None,
        num_envs: int,
        num_steps: int,
    ) -> playing.Player:
        """Compiled once for all seeds; None plays the policies that do not learn."""
        act = playing.reference(env) if act is None else act
        return playing.make_player(env, act, num_envs, num_steps)


def train(programs: Programs, variant: variants.Variant, seed: int) -> Trained:
    """Trains a router.

    At a seed all variants meet the same links, tasks and examples in looks and tests.

    Args:
      programs: of the study.
      variant: what to train.
      seed: of parameters, episodes and noise.

    Returns:
      What came of it.
    """
    settings = programs.settings
    config = settings.router(variant, seed)
    made = programs.world(config.world.copies)
    around = router.place(made, config.uses_asem, config.uses_mcp, seed)
    compiled = programs.of(variant, config, around)
    given = router.Given(around.params, made.train_said)
    root = jax.random.key(seed)
    look_key = jax.random.fold_in(root, _LOOK)
    state = compiled.init(given, root)

    def look() -> float:
        played = compiled.play(state.params["actor"], around.params, look_key)
        return float(played.reward.mean())

    first, each = _env_steps(settings, variant)
    curves: dict[str, list[float]] = {"env_steps": [float(first)], "reward": [look()]}
    curves["gradient_cosine"] = []
    for number in range(1, settings.looks[-1] + 1):
        state, metrics = compiled.step(given, state, jax.random.fold_in(root, number))
        if "gradient_cosine" in metrics:
            curves["gradient_cosine"].append(float(metrics["gradient_cosine"]))
        if number in settings.looks:
            curves["env_steps"].append(float(first + number * each))
            curves["reward"].append(look())
    if not np.isfinite(curves["reward"]).all():
        raise FloatingPointError(f"the reward is not finite at seed {seed}")
    return Trained(
        around.env,
        around.params._replace(bank=made.test_bank),
        compiled.act,
        compiled.play,
        state.params["actor"],
        curves,
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
