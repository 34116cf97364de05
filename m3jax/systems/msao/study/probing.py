"""Probes against the truth, and probes that are trained anew from other seeds."""

import jax
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset
from m3jax.evals import records as records_lib
from m3jax.ops import paths
from m3jax.systems.msao import counts, evaluation
from m3jax.systems.msao.study import shared, variants
from m3jax.train import learner, optimizers, scanned

UNITS = {**dict.fromkeys(evaluation.METRICS.values(), "1"), "operations": "1"}
_LEARNT = ("image", "audio", "question", "answer")


def measure(made: shared.Shared, seed: int) -> list[base.Record]:
    """Trains probes for networks that stay as they are, and scores them.

    The shipped probes, from one long training with the networks, are told as well.

    Args:
      made: what all units share.
      seed: of probes, order of examples, and scenes that they are scored on.
    """
    config = made.target_config
    train = pipeline.as_arrays(
        dataset.Config(config=made.settings.data_config).source("train"),
        None,
        (*_LEARNT, "needs"),
    )
    test = made.scenes(variants.QUESTIONS, seed)
    rows = []
    for variant, params in {
        variants.MSAO: made.params["target"],
        variants.PROBES: _trained(made, train, seed),
    }.items():
        for metric, found in evaluation.scores(config, params, train, test).items():
            for who, value in found.items():
                name = variant if who == "probe" else who
                if name == variant or variant == variants.MSAO:
                    rows += _record(name, seed, evaluation.METRICS[metric], value)
    whole = counts.operations(
        config, config.num_image_tokens, question=test["question"].shape[1], answer=16
    )
    return rows + _record(variants.MSAO, seed, "operations", whole.probes / whole.total)


def _trained(made: shared.Shared, train, seed: int) -> base.Params:
    settings, config = made.settings, made.target_config
    warm = {
        name: part
        for name, part in made.params["target"].items()
        if name not in ("spatial", "relevance")
    }
    learns = learner.make_learner(
        config.make_system(),
        optimizers.OptimizerConfig(
            learning_rate=settings.probe_learning_rate, warmup_steps=20
        ),
        settings.probe_steps,
        warm,
        trainable=paths.expand("probes", config.PARTS),
    )
    examples = {name: train[name] for name in _LEARNT}
    order = scanned.draw_rows(
        len(train["answer"]), settings.probe_batch, settings.probe_steps, seed
    )
    init_key, key = jax.random.split(jax.random.key(seed))
    first = jax.tree.map(lambda array: array[:1], examples)
    state = jax.jit(learns.init)(init_key, first)
    stretch = made.compiled("probes", lambda: scanned.make_stretch(learns))
    state, _ = scanned.fit(stretch, state, jax.device_put(examples), order, key)
    return jax.device_get(state.params)


def _record(variant, seed, metric, value) -> list[base.Record]:
    return records_lib.make("msao", variant, seed, {metric: np.float64(value)}, UNITS)
