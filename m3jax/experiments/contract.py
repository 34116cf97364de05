"""What a config owes to the commands, and what its parts owe to it.

Any dataclass that is an `Experiment` trains, is evaluated, swept, described, exported
and loaded by the same commands, wherever its module lies. Most systems need no
`Experiment` of their own: ``supervised.Supervised`` is one for any `SystemConfig` on
any `DataConfig`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax

from m3jax import base
from m3jax.data import pipeline
from m3jax.experiments import starts
from m3jax.train import config as train_config


@runtime_checkable
class Experiment(Protocol):
    """A typed, mutable dataclass that decides a run; config files return one.

    Attributes:
      train: lengths, intervals, seed.
      name: of the system, as records and cards have it.
      start: what a first start takes parameters from, see ``starts``; "" for nothing.
    """

    train: train_config.TrainConfig
    start: str

    @property
    def name(self) -> str:
        """Name of the system."""

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense.

        All of it, the system too; nothing is compiled, loaded or drawn.
        """

    def build(self, own: Callable[[], base.Params] | None = None) -> base.Run:
        """Makes the run; cheap, see ``base.Run``.

        Args:
          own: gives the parameters of a run that goes on, which stand for those of its
            start: that may have gone since.
        """


class SystemConfig(Protocol):
    """A paper's settings: a typed, mutable dataclass.

    Attributes:
      NAME: of the system.
      PARTS: names of parts of the parameters -> patterns of their paths, for
        ``learner.trainable``.
    """

    NAME: ClassVar[str]
    PARTS: ClassVar[Mapping[str, str]]

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""

    def make_system(self) -> base.System:
        """The system; raises ValueError for sizes that do not fit each other."""

    def warm_start(self, trained: base.Params) -> base.Params:
        """What parameters that were trained before give, by path."""


class DataConfig(Protocol):
    """A data set: a typed, mutable dataclass.

    Attributes:
      groups: names of groups of examples that are reported apart; () for none.
      group_key: the feature that holds indices into ``groups``.
      version: name and version, for cards and caches.
      features: name -> shape and dtype of all that an example may be asked for.
      data_dir: where sets and caches live; None for the default.
    """

    groups: ClassVar[Sequence[str]]
    group_key: ClassVar[str]
    data_dir: str | None

    @property
    def version(self) -> str:
        """Name and version."""

    @property
    def features(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example's features."""

    def validate(self) -> None:
        """Raises ValueError naming the first field that can't be used."""

    def source(self, split: str) -> pipeline.Source:
        """A split: "train", "validation" or "test"."""

    def batches(
        self, features: Sequence[str], batch_size: int, seed: int
    ) -> Iterable[base.Batch]:
        """Training batches without end; resumable as ``pipeline.batches`` are."""


class Evaluator(Protocol):
    """How a supervised system is measured: a typed, mutable dataclass."""

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""

    def evaluate(
        self,
        config: SystemConfig,
        data: DataConfig,
        params: base.Params,
        grid: base.Grid,
        tell: base.Tell,
    ) -> list[base.Record]:
        """Measures trained parameters over a grid."""

    def watch(
        self, config: SystemConfig, data: DataConfig
    ) -> tuple[str, Callable[[base.Params], Mapping[str, float]]]:
        """What is watched while training: its name, and what measures it."""


def check(config: Any, starts_anew: bool = True) -> Experiment:
    """Returns an experiment's config, validated.

    Args:
      config: of an experiment.
      starts_anew: whether what it starts from will be read.

    Raises:
      TypeError: it is none; says what is missing.
      ValueError: as ``Experiment.validate``.
      FileNotFoundError: there is nothing to start from.
    """
    if not dataclasses.is_dataclass(config) or not isinstance(config, Experiment):
        owed = ("train", "name", "start", "validate", "build")
        missing = [name for name in owed if not hasattr(config, name)]
        raise TypeError(
            f"{type(config).__name__} is no experiment: it lacks "
            + (", ".join(missing) or "being a dataclass")
            + "; let get_config return one, such as"
            " m3jax.experiments.supervised.Supervised"
        )
    config.validate()
    if starts_anew:
        starts.check(config.start)
    return config
