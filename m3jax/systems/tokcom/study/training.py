"""Trains one variant of TokCom at one seed, from cached features."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.channels import links
from m3jax.data.edgescenes import dataset
from m3jax.evals import curves as curves_lib
from m3jax.experiments import cached
from m3jax.foundation import answering
from m3jax.nn import lora
from m3jax.ops import paths
from m3jax.systems import tokcom
from m3jax.systems.tokcom.study import sweeping
from m3jax.systems.tokcom.study import variants as variants_lib
from m3jax.train import learner, optimizers, pretrained, scanned

QUESTIONS = ("question", "answer", "skill")
CAPTIONS = ("image_caption", "audio_caption")
LOOK_SNR_DB = 10.0
DIGITAL_BITS = 2
_MOST_PROGRAMS = 12  # as compiled programs are large


class Trained(NamedTuple):
    """A trained variant.

    Attributes:
      config: its settings.
      system: its pure functions.
      over: fading -> the same system over another channel.
      answer: ``predict["answer"]``, compiled once for all seeds.
      params: its parameters.
      curves: "step" and "accuracy" of the looks, "loss" and "alignment_loss" by step.
      before, after: means of received tokens and of captions before and after stage 1,
        {name: [n, D]}; empty without that stage.
    """

    config: tokcom.Config
    system: base.System
    over: Callable[[str], base.System]
    answer: base.Predict
    params: base.Params
    curves: dict[str, list[float]]
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]


class Data(NamedTuple):
    """The splits, with tokens in place of pictures and sounds.

    Training is fastest with ``train`` on the device.
    """

    train: dict[str, Any]
    validation: dict[str, Any]
    test: dict[str, Any]


def make_config(
    settings: variants_lib.Settings, variant: variants_lib.Variant, stage: str = "task"
) -> tokcom.Config:
    """The system that a variant trains."""
    reals = settings.num_reals
    link = links.LinkConfig()
    if variant.bits is not None:
        link = links.LinkConfig(
            "digital", "awgn", bits=DIGITAL_BITS, qam_order=2**DIGITAL_BITS
        )
        reals = variant.bits // DIGITAL_BITS
    audio = variant.num_audio_tokens or variants_lib.audio_tokens(variant.length)
    adapts = variant.is_cotrained and stage == "task"
    return tokcom.Config(
        sizes=settings.sizes,
        compressor=variant.compressor,
        num_image_tokens=variant.length,
        num_audio_tokens=audio,
        num_reals=settings.sizes.dim if variant.is_raw else reals,
        receiver_dim=2 * settings.sizes.dim,
        link=link,
        train_snr_db=settings.train_snr_db,
        channel_in_training=variant.bits is None,
        stage=stage,
        lora=settings.lora if adapts else lora.LoraConfig(),
    )


def load_data(settings: variants_lib.Settings, show_progress: bool = False) -> Data:
    """Loads the splits; the first time, makes data set and cache.

    Scores of attention are cached too, so that one cache serves all compressors.
    """
    config = tokcom.Config(sizes=settings.sizes, compressor="top_k_attention")
    load = functools.partial(
        cached.load,
        tokcom.make_system(config),
        foundation(settings),
        dataset.Config(config=settings.data),
        show_progress=show_progress,
    )
    return Data(
        load("train", (*QUESTIONS, *CAPTIONS)),
        load("validation", (*QUESTIONS, *CAPTIONS), limit=settings.num_validation),
        load("test", QUESTIONS, limit=settings.num_test),
    )


def foundation(settings: variants_lib.Settings) -> base.Params:
    """Encoders and decoder that all variants start from, without a projector."""
    if settings.start:
        drawn, _ = pretrained.load(settings.start)
    else:
        system = tokcom.make_system(tokcom.Config(sizes=settings.sizes))
        drawn = jax.jit(system.init)(jax.random.key(0), {})
    names = ("image_encoder", "audio_encoder", "decoder")
    return {name: drawn[name] for name in names}


def train(
    settings: variants_lib.Settings,
    variant: variants_lib.Variant,
    seed: int,
    data: Data,
    start: base.Params,
    programs: "Programs",
    looks_inside: bool = False,
) -> Trained:
    """Trains a variant: alignment if it has that stage, then the task.

    At a seed all variants draw the same parameters where they have the same, and see
    the same examples and noise.

    Args:
      settings: of the study.
      variant: what to train.
      seed: of parameters, order and noise.
      data: from `load_data`.
      start: from `foundation`.
      programs: of the study.
      looks_inside: also keep what arrives before and after stage 1.

    Returns:
      What came of it.
    """
    curves, before, after = {}, {}, {}
    if variant.is_aligned:
        program = programs.of(variant, "alignment")
        state = program.start(start, seed)
        if looks_inside:
            before = received(program.system, state.params, data.validation)
        state, curves["alignment_loss"] = program.fit(state, data, seed)
        if looks_inside:
            after = received(program.system, state.params, data.validation)
        start = {**start, **state.params}
    if variant.answers_first:
        program = programs.of(variant, "task", settings.stage_1)
        state, _ = program.fit(program.start(start, seed), data, seed)
        start = {**start, **state.params}
    program = programs.of(variant, "task")
    state = program.start(start, seed)
    looks = [look(program.system, state.params, data.validation)]
    state, curves["loss"] = program.fit(
        state,
        data,
        seed,
        lambda params: looks.append(look(program.system, params, data.validation)),
    )
    curves["accuracy"] = looks
    last = len(curves["loss"])
    curves["step"] = [min(i * settings.look_every, last) for i in range(len(looks))]
    return Trained(
        *(program.config, program.system, program.over, program.answer),
        *(state.params, curves, before, after),
    )


def look(system: base.System, params: base.Params, examples: dict[str, Any]) -> float:
    """Accuracy on examples at one SNR."""
    swept = sweeping.sweep(system, params, examples, (LOOK_SNR_DB,))
    return float(swept.values["answer_accuracy"][0, 0])


def received(
    system: base.System, params: base.Params, examples: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Means of what arrives at one SNR, and of the captions' words, by modality."""
    names = ("tokens", "question", "answer")
    snr_db = np.full(len(examples["question"]), LOOK_SNR_DB, np.float32)
    batch = {**{name: examples[name] for name in names}, "snr_db": snr_db}
    arrived = jax.jit(system.predict["received"])(params, batch, jax.random.key(0))
    table = np.asarray(params["decoder"]["embedder"]["embedding"])
    out = {m: np.asarray(pooled) for m, pooled in arrived.items()}
    for m in arrived:
        words = examples[f"{m}_caption"]
        said = words > answering.EOS
        total = np.sum(table[words] * said[..., None], axis=1)
        out[f"{m}_caption"] = total / np.maximum(said.sum(1, keepdims=True), 1)
    return out


def steps_to(share: float, steps: list[float], accuracy: list[float]) -> float:
    """The step at which a share of the final accuracy was first reached.

    Args:
      share: such as 0.9.
      steps: of the looks, rising.
      accuracy: at each.

    Returns:
      The step, interpolated between two looks.

    Example:
      >>> steps_to(0.9, [0, 10, 20], [0.0, 0.8, 1.0])
      15.0
    """
    return curves_lib.steps_to_level(share * accuracy[-1], steps, accuracy)


class _Program:
    """The compiled parts of a stage, for all seeds."""

    def __init__(self, settings, variant, stage, budget):
        self.config = make_config(settings, variant, stage)
        self.system = tokcom.make_system(self.config)
        self._is_aligning = stage == "alignment"
        self._budget = budget
        self._look_every = settings.look_every
        parts = ["receiver" if variant.is_raw else "transceiver"]
        parts += ["alignment"] if self._is_aligning else []
        parts += ["lora"] if self.config.lora.rank else []
        self._trainable = paths.expand("|".join(parts), self.config.PARTS)
        self._optimizer = settings.optimizer(budget)
        self._raw_width = settings.sizes.dim if variant.is_raw else None
        self._init = jax.jit(self._draw)
        self.answer = jax.jit(self.system.predict["answer"])
        self.over = functools.cache(self._over)
        self._stretch = scanned.make_stretch(
            learner.make_learner(
                self.system,
                self._optimizer,
                self._budget.steps,
                trainable=self._trainable,
            )
        )

    def _over(self, fading: str) -> base.System:
        link = dataclasses.replace(self.config.link, fading=fading)
        return tokcom.make_system(dataclasses.replace(self.config, link=link))

    def _draw(self, key: base.Array) -> base.Params:
        """Parameters but for the encoders, whose work is cached."""
        drawn = self.system.init(key, {})
        return {n: part for n, part in drawn.items() if not n.endswith("_encoder")}

    def start(self, trained: base.Params, seed: int) -> base.TrainState:
        """The first state of a seed, from what was trained before."""
        warm = self.config.warm_start(trained)
        if self._raw_width is not None:
            kernel = np.eye(self._raw_width, dtype=np.float32)
            for m in self.config.modalities:
                warm[f"{m}_transmitter"] = {"symbols": {"kernel": kernel}}
        drawn = self._init(jax.random.key(seed))
        warm = {name: part for name, part in warm.items() if name in drawn}
        params = jax.tree.map(jnp.array, paths.overlay(drawn, warm))
        optimizer = optimizers.make_optimizer(
            self._optimizer, self._budget.steps, params, self._trainable
        )
        return base.TrainState(jnp.int32(0), params, optimizer.init(params))

    def fit(self, state, data, seed, look=lambda params: None):
        """Takes all steps, with a look every few; returns the state and the losses."""
        steps, batch_size = self._budget.steps, self._budget.batch_size
        names = ("tokens", "question", "answer")
        names += CAPTIONS if self._is_aligning else ()
        examples = {name: data.train[name] for name in names}
        rows = scanned.draw_rows(len(examples["question"]), batch_size, steps, seed)
        key = jax.random.fold_in(jax.random.key(seed), self._is_aligning)
        state, metrics = scanned.fit(
            *(self._stretch, state, examples, rows, key),
            every=self._look_every,
            look=lambda state: look(state.params),
        )
        return state, metrics["loss"].tolist()


class Programs:
    """The compiled programs of a study, the newest few of them.

    Args:
      settings: of the study.
    """

    def __init__(self, settings: variants_lib.Settings):
        self._settings = settings
        self._made: dict[str, _Program] = {}

    def of(self, variant: variants_lib.Variant, stage: str, budget=None) -> _Program:
        """That of a stage: compiled once for all seeds and variants it serves."""
        config = make_config(self._settings, variant, stage)
        budget = budget or _budget(self._settings, variant, stage)
        key = repr((config, budget, variant.is_raw))
        if key not in self._made:
            if len(self._made) >= _MOST_PROGRAMS:
                del self._made[next(iter(self._made))]
            self._made[key] = _Program(self._settings, variant, stage, budget)
        return self._made[key]


def _budget(settings, variant, stage: str) -> variants_lib.Budget:
    if stage == "alignment":
        return settings.stage_1
    return {
        variants_lib.PAPER: settings.paper,
        variants_lib.LONG: settings.long,
        variants_lib.LONGEST: settings.longest,
    }[variant.budget]
