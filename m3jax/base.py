"""The contract: every type that crosses a package boundary, and nothing else.

A *system* (one per paper) is a few pure functions. A *learner* turns a system into
``init`` and one jitted ``step``. A *run* is all that the commands know of a config. A
*channel* splits the drawing of randomness from its use. Whatever is measured leaves as
a flat dict of scalars (``Metrics``) or as tidy ``Record`` rows with units.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
Params = Any
"""A pytree of arrays (nested dicts, as Flax makes them)."""
Batch = Mapping[str, Array]
"""Named arrays, each with a leading batch axis."""
Metrics = dict[str, Array]
"""Name -> scalar, still on the device."""
Predict = Callable[[Params, Batch, Array], Any]
"""``(params, batch, key) -> outputs``, arrays with a leading batch axis."""
Tell = Callable[[float], None]
"""Takes the share of some work that is done, for whoever is waiting."""


class TrainState(NamedTuple):
    """All that a learner carries from step to step and a checkpoint must hold.

    Attributes:
      step: int32 scalar, number of finished updates.
      params: the parameters.
      opt_state: the optimizer's state (only for what trains).
      extra: anything else a learner carries (RL: environment, replay, temperatures).
    """

    step: Array
    params: Params
    opt_state: Any
    extra: Any = ()


@dataclasses.dataclass(frozen=True)
class System:
    """A paper's method as pure functions.

    Attributes:
      init: ``(key, batch) -> params``.
      loss: ``(params, batch, key) -> (scalar loss, metrics)``, of a batch with what
        ``draw`` adds.
      predict: name -> ``(params, batch, key) -> outputs``.
      reads: features that the loss takes of a batch.
      metrics: what ``predict["answer"]`` gives of each example: name -> unit, "1" for a
        fraction; the first one is watched while training.
      draw: ``(batch, key) ->`` what training draws for each example and a batch may
        hold itself, such as ``snr_db`` [B]; None: nothing.
      prepare: ``(params, batch) -> batch`` with what neither SNR nor noise touches put
        in its place, such as the tokens of encoders; the rest of a batch goes through.
        Evaluation runs it once for a whole grid. None: there is nothing.
    """

    init: Callable[[Array, Batch], Params]
    loss: Callable[[Params, Batch, Array], tuple[Array, Metrics]]
    predict: Mapping[str, Predict]
    reads: tuple[str, ...] = ()
    metrics: Mapping[str, str] = dataclasses.field(default_factory=dict)
    draw: Callable[[Batch, Array], Batch] | None = None
    prepare: Callable[[Params, Batch], Batch] | None = None


@dataclasses.dataclass(frozen=True)
class Learner:
    """Something the one host loop can train.

    Attributes:
      init: ``(key, batch) -> TrainState``.
      step: ``(state, batch, key) -> (state, metrics)``, pure; the loop jits it.
    """

    init: Callable[[Array, Batch], TrainState]
    step: Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]


class Grid(NamedTuple):
    """What a run is measured over.

    Attributes:
      variant: what to call the run in its records.
      snrs_db: SNRs in dB; None for those that suit the run.
      num_seeds: draws of noise, fading, episodes.
      num_examples: look at the first that many; None for all.
      split: "validation" or "test".
    """

    variant: str = "run"
    snrs_db: tuple[float, ...] | None = None
    num_seeds: int = 5
    num_examples: int | None = None
    split: str = "test"


@dataclasses.dataclass(frozen=True)
class Run:
    """All that commands know of a config, which builds it.

    Building is cheap: what is loaded, drawn or measured first waits until a function is
    called that needs it.

    Attributes:
      make_learner: makes what trains, its starting point loaded.
      predict: name -> what the parameters are there for.
      evaluate: ``(params, grid, tell) -> records``.
      batches: makes the stream of host batches, without end; None for learners that
        make their own data.
      watch: measures parameters while training: ``params -> {name: value}``.
      best: the metric of ``watch`` whose best step is kept.
      shown: metrics of the records that have a table and a plot; () for the first.
      pack: ``params ->`` what is worth shipping of them.
      unpack: puts back what ``pack`` left out.
      about: JSON values for the card of what is shipped, such as the data's version.
    """

    make_learner: Callable[[], Learner]
    predict: Mapping[str, Predict]
    evaluate: Callable[[Params, Grid, Tell], list["Record"]]
    batches: Callable[[], Iterable[Batch]] | None = None
    watch: Callable[[Params], Mapping[str, float]] | None = None
    best: str = ""
    shown: tuple[str, ...] = ()
    pack: Callable[[Params], Params] = lambda params: params
    unpack: Callable[[Params], Params] = lambda params: params
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Channel(Protocol):
    """A channel for one example; ``vmap`` gives batches.

    The randomness of the medium is drawn by ``generate`` and used by ``apply``, so a
    test can set a gain of one and gradients flow through ``x``, ``state`` and ``snr``.
    """

    def generate(self, key: Array, shape: tuple[int, ...]) -> Any:
        """Draws the state (for fading: the gains) for symbols of this shape."""

    def apply(self, key: Array, x: Array, state: Any, snr: Array) -> Array:
        """Sends complex symbols ``x``; ``snr`` is linear Es/N0, a traced scalar."""


At = tuple[tuple[str, float | str], ...]
"""Coordinates by name, in the order of the names; see ``Record.at``."""


class Record(NamedTuple):
    """One measured value, a row of ``evaluation.json``.

    Attributes:
      system: name of the system, such as ``"tokcom"``.
      variant: what was varied, such as ``"snr-trained"``.
      at: where it was measured: coordinates by name, such as ``(("skill", "count"),
        ("snr_db", 10.0))``; numbers or names, () where nothing varies. The end of a
        numeric axis' name is its unit: ``snr_db``, ``tau_s``, ``energy_j``. An SNR of
        ``inf`` means no noise.
      seed: the seed the value belongs to.
      metric: name of the metric, such as ``"answer_accuracy"``.
      value: the value.
      unit: its unit; ``"1"`` for a fraction.
    """

    system: str
    variant: str
    at: At
    seed: int
    metric: str
    value: float
    unit: str
