"""A supervised system over a grid of SNRs, and what guessing gives beside it."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.evals import axes, baselines, snr_grid, snr_sweep
from m3jax.experiments import cached, contract
from m3jax.train import config as train_config

ANSWER = "answer"
DEFAULT_SNRS_DB = snr_grid.parse_range("-10:25:2.5,inf")
_GUESSED_FROM = ("question", "answer")
"""What a guesser sees of an example."""


@dataclasses.dataclass
class OverSnr:
    """Measures ``predict["answer"]`` by SNR, seed of noise and group of examples.

    A system that draws no SNR has no link: it is measured once, and its records stand
    on no SNR.

    Attributes:
      batch_size: examples measured at once.
      num_watched: examples of the validation split looked at while training.
    """

    batch_size: int = 100
    num_watched: int = 480

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for field in ("batch_size", "num_watched"):
            train_config.check_count(f"evaluator.{field}", getattr(self, field), 1)

    def evaluate(
        self,
        config: contract.SystemConfig,
        data: contract.DataConfig,
        params: base.Params,
        grid: base.Grid,
        tell: base.Tell,
    ) -> list[base.Record]:
        """Measures a trained system with common random numbers.

        Args:
          config: of the system.
          data: which set.
          params: the parameters.
          grid: what to measure over.
          tell: takes the share of the work that is done.

        Returns:
          Rows for each SNR, seed, metric of ``system.metrics`` and group, and of what
          guessing gives.

        Raises:
          ValueError: SNRs are given for a system without a link.
        """
        system = config.make_system()
        has_link = draws_snr(system, data)
        if grid.snrs_db is not None and not has_link:
            raise ValueError(
                f"{config.NAME} sends nothing over a link, so there is no SNR to"
                " choose; leave --snr_db out"
            )
        arrays = self._arrays(system, data, grid.split, grid.num_examples)
        batches = pipeline.split_batches(arrays, self.batch_size)
        measured = snr_sweep.sweep(
            system.predict[ANSWER],
            params,
            _told(batches, tell),
            snrs_db=(grid.snrs_db or DEFAULT_SNRS_DB) if has_link else (math.inf,),
            num_seeds=grid.num_seeds if has_link else 1,
            key=jax.random.key(0),
            metrics_fn=functools.partial(_pick, names=tuple(system.metrics)),
            prepare=system.prepare,
            groups=data.groups,
            group_key=data.group_key,
        )
        rows = snr_sweep.to_records(
            measured,
            system=config.NAME,
            variant=grid.variant,
            units=system.metrics,
            group_key=data.group_key,
        )
        if not has_link:
            rows = [axes.with_at(row, snr_db=None) for row in rows]
        return rows + self._guesses(config, data, arrays)

    def watch(
        self, config: contract.SystemConfig, data: contract.DataConfig
    ) -> tuple[str, Callable[[base.Params], Mapping[str, float]]]:
        """The first metric on some of the validation split, at the same noise always.

        SNRs, if there are any, are drawn as in training.
        """
        system = config.make_system()
        metric = next(iter(system.metrics))
        name = f"validation_{metric.removeprefix('answer_')}"

        @functools.cache
        def prepare():
            arrays = self._arrays(system, data, "validation", self.num_watched)
            if system.draw is not None:
                arrays |= jax.device_get(system.draw(arrays, jax.random.key(0)))
            batches = pipeline.split_batches(arrays, self.batch_size)
            return jax.jit(system.predict[ANSWER]), jax.device_put(batches)

        def measure(params: base.Params) -> Mapping[str, float]:
            predict, batches = prepare()
            key = jax.random.key(0)
            found = [
                predict(params, batch, jax.random.fold_in(key, i))[metric]
                for i, batch in enumerate(batches)
            ]
            return {name: float(np.concatenate(jax.device_get(found)).mean())}

        return name, measure

    def _arrays(
        self, system: base.System, data: contract.DataConfig, split: str, limit
    ) -> dict[str, Any]:
        names = dict.fromkeys((*system.reads, *_GUESSED_FROM))
        if data.groups:
            names[data.group_key] = None
        known = [name for name in names if name in data.features]
        return pipeline.as_arrays(data.source(split), limit, known)

    def _guesses(self, config, data, test) -> list[base.Record]:
        """Chance and question-only accuracy on the same examples, at no SNR."""
        wanted = (*_GUESSED_FROM, data.group_key)
        if not data.groups or not all(name in data.features for name in wanted):
            return []
        train = pipeline.as_arrays(data.source("train"), None, wanted)
        guesses = {
            "question only": baselines.question_only(train, test),
            "chance": baselines.chance(train, test, data.group_key),
        }
        rows = []
        for variant, guess in guesses.items():
            rows += baselines.to_records(
                guess,
                test,
                system=config.NAME,
                variant=variant,
                groups=data.groups,
                group_key=data.group_key,
            )
        return rows


def draws_snr(system: base.System, data: contract.DataConfig) -> bool:
    """Whether training draws an SNR, so that there is a link to measure over."""
    if system.draw is None:
        return False
    drawn = jax.eval_shape(system.draw, cached.batch_of(data), jax.random.key(0))
    return "snr_db" in drawn


def _pick(outputs, batch, names):
    del batch
    return {name: outputs[name] for name in names}


def _told(batches, tell: base.Tell):
    """Batches, telling how many have been taken."""
    for number, batch in enumerate(batches):
        tell(number / len(batches))
        yield batch
    tell(1.0)
