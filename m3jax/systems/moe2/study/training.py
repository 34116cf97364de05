"""What all units share, and how gates and whole systems are trained."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.data.edgetext import dataset, domains
from m3jax.experiments import running
from m3jax.systems.moe2 import baselines, clusters, config, pool, tables
from m3jax.systems.moe2.study import variants
from m3jax.train import kept, learner, scanned

_READS = ("question", "answer", "domain")
HELD_OUT = domains.DOMAINS.index(domains.HELD_OUT)


class Split(NamedTuple):
    """What a seed trains and measures on.

    Attributes:
      train: 80 % of the prompts of tuned domains.
      test: the other 20 %.
      held_out: the domain that nothing was tuned on.
      train_rows, test_rows, held_out_rows: their places in the whole table.
    """

    train: tables.Table
    test: tables.Table
    held_out: tables.Table
    train_rows: np.ndarray
    test_rows: np.ndarray
    held_out_rows: np.ndarray


class Shared:
    """The experts, what they say, and compiled programs.

    Args:
      settings: of the study.
    """

    def __init__(self, settings: variants.Settings):
        self.settings = settings
        self._stretches: dict[tuple[str, ...] | None, scanned.Stretch] = {}

    @functools.cached_property
    def experts(self) -> tuple[base.Params, config.Config]:
        """Parameters of the pool, and the settings of a system on it."""
        loaded = running.load(self.settings.experts)
        made = self.settings.system()
        made.pool = loaded.config.system
        return loaded.params, made

    @functools.cached_property
    def _kept(self) -> dict[str, np.ndarray]:
        about = [self.settings.data_config, self.settings.num_examples]
        about += [self.settings.experts, self.settings.generalists]
        return kept.arrays("moe2", about, self._tabulate)

    @functools.cached_property
    def table(self) -> tables.Table:
        """What all experts say of all prompts, made once for all processes."""
        return tables.Table(*(self._kept[name] for name in tables.Table._fields))

    @functools.cached_property
    def agents(self) -> dict[str, np.ndarray]:
        """Which prompts each single agent answers correctly, bool [M]."""
        return {name: self._kept[name] for name in variants.SINGLE_AGENTS}

    @functools.cached_property
    def cluster(self) -> np.ndarray:
        """The cluster of each prompt, by the centres that experts were tuned on."""
        return self._kept["cluster"]

    def split(self, seed: int) -> Split:
        """80 % to train a gate on and 20 % to measure, drawn anew by each seed."""
        tuned = np.flatnonzero(self.table.domain != HELD_OUT)
        held_out = np.flatnonzero(self.table.domain == HELD_OUT)
        order = np.random.default_rng(seed).permutation(tuned)
        cut = int(0.8 * len(order))
        rows = order[:cut], order[cut:], held_out
        return Split(*(self.table.take(r) for r in rows), *rows)

    def train_gate(self, split: Split, seed: int) -> base.Params:
        """Trains the gate alone, on what the experts said."""
        settings = self.settings
        params, made = self.experts
        learns = learner.make_learner(
            made.make_system(),
            settings.gate_optimizer(),
            settings.gate_steps,
            made.warm_start(params),
            trainable=config.Config.PARTS["gate"],
        )
        if None not in self._stretches:
            self._stretches[None] = scanned.make_stretch(learns)
        examples = jax.device_put(
            {
                name: getattr(split.train, name)
                for name in ("question", "answer", "embedding", "log_probs")
            }
        )
        order = scanned.draw_rows(
            len(split.train.answer), settings.gate_batch, settings.gate_steps, seed
        )
        return self._fit(self._stretches[None], learns, examples, order, seed)

    def train_whole(
        self, split: Split, seed: int, stopped: tuple[str, ...]
    ) -> tuple[base.Params, config.Config]:
        """Trains gate, adapters and upload together, some gradients held at zero."""
        settings = self.settings
        params, plain = self.experts
        made = settings.joint_system(stopped)
        made.pool = plain.pool
        parts = config.Config.PARTS
        learns = learner.make_learner(
            made.make_system(),
            settings.joint_optimizer(),
            settings.joint_steps,
            made.warm_start(params),
            trainable="|".join(parts[n] for n in ("gate", "adapters", "upload")),
        )
        if stopped not in self._stretches:
            self._stretches[stopped] = scanned.make_stretch(learns)
        examples = jax.device_put(
            {name: getattr(split.train, name) for name in ("question", "answer")}
        )
        order = scanned.draw_rows(
            len(split.train.answer), settings.joint_batch, settings.joint_steps, seed
        )
        trained = self._fit(self._stretches[stopped], learns, examples, order, seed)
        return trained, made

    def _fit(self, stretch, learns, examples, order, seed: int) -> base.Params:
        init_key, key = jax.random.split(jax.random.key(seed))
        first = jax.tree.map(lambda array: array[:1], examples)
        state = jax.jit(learns.init)(init_key, first)
        state, _ = scanned.fit(stretch, state, examples, order, key)
        return jax.device_get(state.params)

    def _tabulate(self) -> dict[str, np.ndarray]:
        settings = self.settings
        data = dataset.Config(config=settings.data_config)
        parts = [
            pipeline.as_arrays(data.source(split), None, _READS)
            for split in ("train", "test")
        ]
        arrays = {n: np.concatenate([part[n] for part in parts]) for n in _READS}
        if settings.num_examples is not None:
            arrays = {n: array[: settings.num_examples] for n, array in arrays.items()}
        params, made = self.experts
        experts = pool.Pool(made.pool)
        table = tables.tabulate(experts, params, arrays)
        agents = _agents(experts, params, variants.BASES, arrays, adapted=False)
        tuned = running.load(settings.generalists)
        agents |= _agents(
            pool.Pool(tuned.config.system),
            tuned.params,
            variants.GENERALISTS,
            arrays,
            adapted=True,
        )
        centres = running.load(settings.experts).config.data.centres()
        labels = clusters.nearest(table.embedding, centres)
        return {**table._asdict(), **agents, "cluster": labels}


def _agents(
    experts: pool.Pool, params, names: dict[str, str], arrays, *, adapted: bool
) -> dict[str, np.ndarray]:
    """Which prompts single language models answer correctly."""
    found = {}
    for size, name in names.items():
        decoder = experts.decoders[size]
        one = params[size]
        if adapted:
            one = experts.expert(params, experts.config.placement.index(size))

        @jax.jit
        def ask(one, question, answer, decoder=decoder):
            said = baselines.alone(decoder, one, question, answer.shape[1])
            return baselines.is_right(said, answer)

        right = [
            np.asarray(ask(one, part["question"], part["answer"]))
            for part in pipeline.split_batches(arrays, 500)
        ]
        found[name] = np.concatenate(right)
    return found
