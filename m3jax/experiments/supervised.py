"""An experiment that trains a system on batches of a data set."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from m3jax import base
from m3jax.experiments import cached, contract, over_snr, starts
from m3jax.ops import paths
from m3jax.train import config as train_config
from m3jax.train import learner as learner_lib


@dataclasses.dataclass
class Supervised:
    """All that decides a run.

    Attributes:
      system: what is trained.
      data: on what.
      learner: batches, optimizer, and what trains.
      train: lengths, intervals and seed.
      evaluator: how it is measured.
      start: what to start from: the name of a pretrained model, or the workdir of a
        run, such as that of an earlier stage; "" starts from scratch.
      cache: run what neither SNR nor noise touches, which must be frozen, once over the
        training split and keep it on disk.
    """

    system: contract.SystemConfig
    data: contract.DataConfig
    learner: train_config.LearnerConfig = dataclasses.field(
        default_factory=train_config.LearnerConfig
    )
    train: train_config.TrainConfig = dataclasses.field(
        default_factory=train_config.TrainConfig
    )
    evaluator: contract.Evaluator = dataclasses.field(default_factory=over_snr.OverSnr)
    start: str = ""
    cache: bool = False

    @property
    def name(self) -> str:
        """That of the system."""
        return self.system.NAME

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for part in (self.system, self.data, self.learner, self.train, self.evaluator):
            part.validate()
        system = self.system.make_system()  # tells what does not fit together
        if not system.metrics:
            raise ValueError(
                f"{self.name} says nothing of what is measured: give its System"
                ' metrics, of predict["answer"]: name -> unit'
            )
        unknown = [name for name in system.reads if name not in self.data.features]
        if unknown:
            raise ValueError(
                f"{self.name} reads {', '.join(unknown)}, which {self.data.version}"
                f" does not have; it has {', '.join(self.data.features)}"
            )
        if self.cache and system.prepare is None:
            raise ValueError(
                f"cache keeps what is done once for all SNRs, and {self.name} prepares"
                " nothing; set cache=False"
            )
        if self.cache and not self.start:
            raise ValueError(
                "cache needs parameters to start from, which stay as they are: set"
                " start, or cache=False"
            )

    def build(self, own: Callable[[], base.Params] | None = None) -> base.Run:
        """Makes the run, from its ``own`` parameters if it goes on."""
        system = self.system.make_system()
        warm_start = functools.cache(functools.partial(self._warm_start, own))
        watched, watch = self.evaluator.watch(self.system, self.data)
        return base.Run(
            make_learner=lambda: learner_lib.make_learner(
                system,
                self.learner.optimizer,
                self.train.steps,
                warm_start(),
                self._trainable,
            ),
            batches=lambda: self._batches(system, warm_start()),
            predict=system.predict,
            evaluate=lambda params, grid, tell: self.evaluator.evaluate(
                self.system, self.data, params, grid, tell
            ),
            watch=watch,
            best=watched,
            shown=tuple(system.metrics)[:1],
            pack=lambda params: self._pack(params, warm_start),
            unpack=lambda params: self._unpack(system, params, warm_start),
            about={"data": self.data.version},
        )

    @property
    def _trainable(self) -> str:
        return paths.expand(self.learner.trainable, self.system.PARTS)

    def _warm_start(self, own: Callable[[], base.Params] | None) -> base.Params | None:
        """Parameters that the system takes over from what was trained before."""
        if own is not None and self.start:
            return own()
        return self.system.warm_start(starts.load(self.start)) if self.start else None

    def _batches(
        self, system: base.System, warm_start: base.Params | None
    ) -> Iterable[base.Batch]:
        size, seed = self.learner.batch_size, self.train.seed
        if not self.cache:
            return self.data.batches(system.reads, size, seed)
        self._check_frozen(system)
        arrays = cached.load(system, warm_start, self.data, "train")
        return cached.batches(arrays, size, seed)

    def _check_frozen(self, system: base.System) -> None:
        """Refuses to cache what is made by parameters that are going to change."""
        batch = cached.batch_of(self.data)
        params = jax.eval_shape(system.init, jax.random.key(0), batch)
        for path in cached.touched(system, params, self.data):
            if re.fullmatch(self._trainable, path):
                raise ValueError(
                    f"cache keeps what frozen parts make, but {path!r} trains; set"
                    ' learner.trainable, such as "transceiver|lora", or cache=False'
                )

    def _own(self, params: base.Params, warm_start) -> list[str]:
        """Parts that the start does not give just as they are."""
        if not starts.is_shipped(self.start):
            return list(params)
        given = warm_start()
        return [
            name
            for name, part in params.items()
            if name not in given
            or any(
                re.fullmatch(self._trainable, f"{name}/{path}".rstrip("/"))
                for path in paths.flatten(part)
            )
        ]

    def _pack(self, params: Mapping[str, Any], warm_start) -> base.Params:
        """Leaves out frozen parts of a shipped model, which `_unpack` loads again."""
        return {name: params[name] for name in self._own(params, warm_start)}

    def _unpack(
        self, system: base.System, params: base.Params, warm_start
    ) -> base.Params:
        """Puts back what is missing; a whole model may bear the name of its start."""
        batch = cached.batch_of(self.data)
        whole = jax.eval_shape(system.init, jax.random.key(0), batch)
        if set(whole) <= set(params):
            return params
        return {**(warm_start() or {}), **params}
