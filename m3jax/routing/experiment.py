"""A run of M3LLM's router: trained by the one host loop, kept in a workdir."""

import dataclasses
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.envs import tasks, world
from m3jax.nn import state_space
from m3jax.rl import no_batches
from m3jax.routing import world as world_lib
from m3jax.systems.m3llm import asem, ce_sac, playing, routing_env
from m3jax.train import checkpoints, loop, metrics, typed_json, workdir
from m3jax.train import config as train_config


@dataclasses.dataclass
class DrawnFeatures:
    """Widths of features that are drawn in place of real ones.

    For sizes whose encoders are not shipped: everything runs, and nothing can be
    learned of pictures.

    Attributes:
      image, text, tag: d_img, d_text and d_tag of equation 22.
    """

    image: int = 1024
    text: int = 768
    tag: int = 5


@dataclasses.dataclass
class Experiment:
    """All that decides a run.

    Attributes:
      router: CE-SAC.
      world: what it learns in.
      uses_asem, uses_mcp: see ``routing.make_env``.
      drawn_features: None: the features of the shipped experts' examples.
      train: ``steps`` are those of the learner, each of ``router.sac.chunk``
        collections; ``batch_size`` and ``optimizer`` have no meaning here.
    """

    router: ce_sac.CeSacConfig = dataclasses.field(default_factory=ce_sac.CeSacConfig)
    world: world_lib.WorldConfig = dataclasses.field(
        default_factory=world_lib.WorldConfig
    )
    uses_asem: bool = True
    uses_mcp: bool = True
    drawn_features: DrawnFeatures | None = None
    train: train_config.TrainConfig = dataclasses.field(
        default_factory=train_config.TrainConfig
    )

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        self.router.validate()
        self.train.validate()


class Router(NamedTuple):
    """A router and where it routes.

    Attributes:
      env: the environment.
      params: its parameters, with the bank that routers train on.
      act: the policy without noise.
      actor: parameters of that.
    """

    env: routing_env.RoutingEnv
    params: routing_env.Params
    act: playing.Act
    actor: base.Params


def make_routing(
    config: Experiment,
) -> tuple[routing_env.RoutingEnv, routing_env.Params]:
    """The environment of a run, and its parameters."""
    if config.drawn_features is not None:
        return _drawn(config)
    made = world_lib.make_world(config.world)
    env, filtered = world_lib.make_env(
        config.world, config.uses_asem, config.uses_mcp, config.train.seed
    )
    return env, routing_env.Params(made.params, made.train_bank, filtered)


def train(
    config: Experiment,
    directory: str | os.PathLike[str],
    *,
    resume: bool = False,
    show_progress: bool = True,
) -> base.TrainState:
    """Trains a router into a workdir; environments and replay are in its checkpoints.

    Args:
      config: what to run.
      directory: the workdir.
      resume: go on with the run that is there, bit for bit.
      show_progress: show a progress bar.

    Returns:
      The final train state.

    Raises:
      ValueError, OSError: of ``workdir.prepare`` and ``loop.fit``.
    """
    config.validate()
    folder = workdir.prepare(directory, config, resume)
    env, params = make_routing(config)
    trainer = ce_sac.make_learner(config.router, env, params)
    try:
        with checkpoints.Checkpointer(
            folder / workdir.CHECKPOINTS,
            keep=config.train.keep,
            config=typed_json.to_json(config),
        ) as checkpointer:
            return loop.fit(
                trainer,
                no_batches.NoBatches(),
                config.train,
                key=jax.random.key(config.train.seed),
                checkpointer=checkpointer,
                writer=metrics.MetricWriter(folder),
                resume=resume,
                show_progress=show_progress,
                report=lambda timings: workdir.update_run(folder, **timings),
            )
    finally:
        workdir.update_run(folder)


def restore(directory: str | os.PathLike[str], step: int | None = None) -> Router:
    """Restores a router to play with.

    Args:
      directory: the workdir of a run.
      step: a saved step; None takes the newest whole one.

    Returns:
      The router and its environment.

    Raises:
      FileNotFoundError: no run, or no whole checkpoint, is there.
    """
    config = workdir.load_config(directory)
    saved = checkpoints.restore_params(directory, step)
    env, params = make_routing(config)
    act = playing.make_act(config.router, params.wireless.tasks.num_experts)
    return Router(env, params, act, jax.device_put(saved["actor"]))


def _drawn(
    config: Experiment,
) -> tuple[routing_env.RoutingEnv, routing_env.Params]:
    """Features, masks and an untrained ASEM, drawn from the seed."""
    keys = jax.random.split(jax.random.key(config.train.seed), 5)
    params = world.make_params(tasks.specialists())
    shape = params.tasks.num_tasks, config.world.num_examples
    widths = dataclasses.astuple(config.drawn_features)
    features = [
        jax.random.normal(k, (*shape, width))
        for k, width in zip(keys[:3], widths, strict=True)
    ]
    passing = jax.random.uniform(keys[3], (*shape, params.tasks.num_experts)) < 0.5
    mask = passing | params.tasks.core[:, None]
    params = params._replace(max_steps=config.world.num_steps)
    if not config.uses_asem:
        env = routing_env.RoutingEnv(world_lib.ENV, None, config.uses_mcp)
        return env, routing_env.Params(params, routing_env.Bank(*features, mask))
    model: state_space.StateSpace = asem.make_model(config.world.asem, params, 1.0)
    drawn = model.init(keys[4], jnp.zeros((1, 1, model.num_observed)))
    filtered = routing_env.Filter(drawn, jnp.float32(0.0), jnp.float32(1.0))
    env = routing_env.RoutingEnv(world_lib.ENV, model, config.uses_mcp)
    return env, routing_env.Params(params, routing_env.Bank(*features, mask), filtered)
