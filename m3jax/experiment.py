"""The composition root: an experiment's config becomes a system, data and a run.

Launchers and notebooks start here; no other module of the package imports it.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from m3jax import base, features
from m3jax.data import edgescenes, pipeline, scenes
from m3jax.ops import paths
from m3jax.systems import foundation, tokcom
from m3jax.systems.m3llm import specialist
from m3jax.train import (
    checkpoints,
    learner,
    loop,
    metrics,
    pretrained,
    typed_json,
    workdir,
)
from m3jax.train import config as train_config

FEATURES = ("image", "audio", "question", "answer", "skill")
PATCH_FEATURES = ("patch_kind", "patch_colour")
NAMING_FEATURES = (*PATCH_FEATURES, "sound")
CAPTION_FEATURES = ("image_caption", "audio_caption")
BEST = "validation_accuracy"
SystemConfig = tokcom.Config | foundation.Config | specialist.Config


@dataclasses.dataclass
class Experiment:
    """All that decides a run.

    Attributes:
      system: the config of one of the systems.
      data: which set.
      train: lengths, seed and optimizer.
      start: what to start from: the name of a pretrained model, or the workdir of a
        run, such as that of an earlier stage; "" starts from scratch.
      fresh_scenes: train on scenes drawn as they are needed, never twice the same, in
        place of the stored training split.
      curriculum: of fresh scenes: (steps, skills asked about) of each stage, a skill as
        often as it is named; the last stage lasts to the end. () asks about all alike.
      num_validation: examples of the validation split looked at while training.
      cache_features: run the encoders, which must be frozen, once over the training
        split and keep their tokens on disk.
    """

    system: SystemConfig
    data: pipeline.DataConfig = dataclasses.field(default_factory=pipeline.DataConfig)
    train: train_config.TrainConfig = dataclasses.field(
        default_factory=train_config.TrainConfig
    )
    start: str = ""
    fresh_scenes: bool = False
    curriculum: tuple[tuple[int, tuple[str, ...]], ...] = ()
    num_validation: int = 480
    cache_features: bool = False

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        self.data.validate()
        self.train.validate()
        for steps, skills in self.curriculum:
            scenes.SceneSettings(skills=tuple(skills))
            if steps < 0:
                raise ValueError(f"curriculum has a stage of {steps} steps")
        if self.curriculum and not self.fresh_scenes:
            raise ValueError("curriculum needs fresh scenes: set fresh_scenes=True")
        if self.cache_features and not isinstance(self.system, tokcom.Config):
            raise ValueError(
                "cache_features is for systems whose encoders can stay frozen, such as"
                " TokCom; set cache_features=False"
            )
        if self.cache_features and (self.fresh_scenes or not self.start):
            raise ValueError(
                "cache_features needs encoders to start from and a stored training"
                " split: set start, and fresh_scenes=False"
            )
        if self.num_validation < 1:
            raise ValueError(f"num_validation must be positive: {self.num_validation}")


class Restored(NamedTuple):
    """A trained system, ready to predict.

    Attributes:
      experiment: the config it was trained by.
      system: its pure functions.
      params: its parameters.
    """

    experiment: Experiment
    system: base.System
    params: base.Params


def make_system(config: SystemConfig) -> base.System:
    """The system that a config describes.

    Raises:
      TypeError: the config is of no system known here.
    """
    for module in (tokcom, foundation, specialist):
        if isinstance(config, module.Config):
            return module.make_system(config)
    raise TypeError(f"no system is described by a {type(config).__name__}")


def restore(directory: str | os.PathLike[str], step: int | None = None) -> Restored:
    """Restores a run for prediction.

    Args:
      directory: the workdir of a run.
      step: a saved step; None takes the newest whole one.

    Returns:
      Config, system and parameters.

    Raises:
      FileNotFoundError: no run, or no whole checkpoint, is there.

    Example:
      ``run = experiment.restore("runs/tokcom")``
    """
    config = workdir.load_config(directory)
    params = checkpoints.restore_params(directory, step)
    return Restored(config, make_system(config.system), jax.device_put(params))


def load(name: str) -> Restored:
    """Loads a shipped model, ready to predict.

    Args:
      name: one of ``m3jax.train.pretrained.names()``, such as "tokcom".

    Returns:
      Config, system and parameters.

    Raises:
      FileNotFoundError: no such name; the message lists those there are.
    """
    params, card = pretrained.load(name)
    config = typed_json.from_json(card["config"])
    return Restored(config, make_system(config.system), jax.device_put(params))


def export(
    directory: str | os.PathLike[str], name: str, figures: Mapping[str, float]
) -> pathlib.Path:
    """Puts a run's newest parameters where the package ships them from, with a card.

    Args:
      directory: the workdir of the run.
      name: what to load it by.
      figures: what was measured of it, name -> value.

    Returns:
      The folder, below ``m3jax/pretrained``.
    """
    run, ran = restore(directory), workdir.load_run(directory)
    card = {
        "name": name,
        "command": ran["command"],
        "commit": ran["commit"],
        "data": f"edge_scenes {edgescenes.EdgeScenes.VERSION}",
        "fresh_scenes": run.experiment.fresh_scenes,
        "wall_seconds": ran["wall_seconds"],
        "device": ran["device"],
        "figures": dict(figures),
        "config": typed_json.to_json(run.experiment),
    }
    shipped = getattr(run.experiment.system, "shipped", lambda params: params)
    pretrained.save(pretrained.ROOT / name, shipped(run.params), card)
    return pretrained.ROOT / name


def train(
    config: Experiment,
    directory: str | os.PathLike[str],
    *,
    resume: bool = False,
    show_progress: bool = True,
) -> base.TrainState:
    """Trains an experiment into a workdir.

    Args:
      config: what to run.
      directory: the workdir: checkpoints, metrics and config go there.
      resume: go on with the run that is there.
      show_progress: show a progress bar.

    Returns:
      The final train state.

    Raises:
      ValueError, OSError: of ``workdir.prepare``, ``pipeline.load`` and ``loop.fit``.
    """
    config.validate()
    system = make_system(config.system)
    warm_start = _warm_start(config)
    folder = workdir.prepare(directory, config, resume)
    trainable = paths.expand(config.train.trainable, config.system.PARTS)
    batches = _training_batches(config, warm_start, trainable)
    trainer = learner.make_learner(
        system,
        config.train.optimizer,
        config.train.steps,
        warm_start,
        trainable,
    )
    try:
        with checkpoints.Checkpointer(
            folder / workdir.CHECKPOINTS,
            keep=config.train.keep,
            best_metric=BEST if config.train.evaluate_every else None,
            config=typed_json.to_json(config),
        ) as checkpointer:
            return loop.fit(
                trainer,
                batches,
                config.train,
                key=jax.random.key(config.train.seed),
                checkpointer=checkpointer,
                writer=metrics.MetricWriter(folder),
                evaluate=_validation(config, system),
                resume=resume,
                show_progress=show_progress,
                report=lambda timings: workdir.update_run(folder, **timings),
            )
    finally:
        workdir.update_run(folder)
        getattr(batches, "close", lambda: None)()


def _warm_start(config: Experiment) -> base.Params | None:
    """Parameters that the system takes over from what was trained before."""
    if not config.start:
        return None
    if workdir.has_checkpoints(config.start):
        params = checkpoints.restore_params(config.start)
    else:
        params, _ = pretrained.load(config.start)
    return config.system.warm_start(params)


def _training_batches(
    config: Experiment, warm_start: base.Params | None, trainable: str
):
    names = (*FEATURES, *_more_features(config.system))
    if config.cache_features:
        _check_frozen(warm_start, trainable, config.system.lora)
        names = tuple(n for n in names if n not in ("image", "audio", "video"))
        system = make_system(config.system.without_adapters())
        arrays = features.load(system, warm_start, config.data, "train", names)
        source = features.Source(arrays)
        names = (*names, "tokens")
    elif config.fresh_scenes:
        source = _fresh_scenes(config)
    else:
        source = pipeline.load(config.data, "train")
    return pipeline.batches(
        source,
        batch_size=config.train.batch_size,
        seed=(config.data.seed + config.train.seed) % 2**32,
        shuffle=not config.fresh_scenes,
        features=names,
        num_workers=1 if config.fresh_scenes else 0,
    )


def _check_frozen(
    params: base.Params, trainable: str, adapters: tokcom.LoraConfig
) -> None:
    """Refuses to cache what an encoder makes that is going to change."""
    encoders = {n: part for n, part in params.items() if n.endswith("_encoder")}
    patterns = [trainable] + [adapters.pattern] * bool(adapters.rank)
    for path in paths.flatten(encoders):
        if any(re.fullmatch(pattern, path) for pattern in patterns):
            raise ValueError(
                f"cache_features keeps what frozen encoders make, but {path!r} trains;"
                ' set train.trainable, such as "transceiver|lora", or'
                " cache_features=False"
            )


def _more_features(system: SystemConfig) -> tuple[str, ...]:
    """What the loss reads beyond what prediction does."""
    if isinstance(system, foundation.Config):
        return NAMING_FEATURES
    if isinstance(system, specialist.Config):
        return PATCH_FEATURES
    more = ("video",) if "video" in system.modalities else ()
    return (*more, *CAPTION_FEATURES) if system.stage == "alignment" else more


def _fresh_scenes(config: Experiment) -> pipeline.Source:
    stages = config.curriculum or ((0, scenes.SceneSettings().skills),)
    seed = 1 + config.train.seed  # that of the stored sets is 0
    return pipeline.Staged(
        [
            (
                steps * config.train.batch_size,
                pipeline.FreshScenes(scenes.SceneSettings(skills=tuple(skills)), seed),
            )
            for steps, skills in stages
        ]
    )


def _validation(
    config: Experiment, system: base.System
) -> Callable[[base.TrainState], Mapping[str, float]] | None:
    """Accuracy on some of the validation split, with the same noise every time."""
    if not config.train.evaluate_every:
        return None
    arrays = load_arrays(config.data, "validation", config.num_validation)
    arrays |= _validation_snrs(config.system, len(arrays["skill"]))
    batches = [jax.device_put(part) for part in split_batches(arrays, 120)]
    predict = jax.jit(system.predict["answer"])

    def evaluate(state: base.TrainState) -> Mapping[str, float]:
        key = jax.random.key(0)
        outputs = [
            predict(state.params, batch, jax.random.fold_in(key, i))
            for i, batch in enumerate(batches)
        ]
        right = np.concatenate(
            [jax.device_get(output["answer_accuracy"]) for output in outputs]
        )
        return {BEST: float(right.mean())}

    return evaluate


def _validation_snrs(system: SystemConfig, count: int) -> dict[str, np.ndarray]:
    """SNRs all over the range that training draws from, for a system with a link."""
    if not hasattr(system, "train_snr_db"):
        return {}
    snrs_db = np.full(count, np.inf)
    if system.channel_in_training:
        snrs_db = np.linspace(*system.train_snr_db, count)
    return {"snr_db": snrs_db.astype(np.float32)}


def load_arrays(
    data: pipeline.DataConfig, split: str, limit: int | None = None
) -> dict[str, np.ndarray]:
    """A split's model inputs, or its first ``limit``, as arrays [n, ...]."""
    source = pipeline.load(data, split)
    clip = ("video",) if "video" in source[0] else ()
    return pipeline.as_arrays(source, limit, (*FEATURES, *clip))


def split_batches(
    arrays: Mapping[str, np.ndarray], size: int
) -> list[dict[str, np.ndarray]]:
    """Cuts arrays [n, ...], nested or not, into batches; the last may be shorter."""
    count = len(jax.tree.leaves(arrays)[0])
    return [
        jax.tree.map(lambda array, at=at: np.asarray(array[at : at + size]), arrays)
        for at in range(0, count, size)
    ]
