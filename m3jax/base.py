"""The contract: every type that crosses a package boundary, and nothing else.

A *system* (one per paper) is three pure functions. A *learner* turns a system into
``init`` and one jitted ``step``. A *channel* splits the drawing of randomness from its
use. Whatever is measured leaves as a flat dict of scalars (``Metrics``) or as tidy
``Record`` rows with units.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
Params = Any
"""A pytree of arrays (nested dicts, as Flax makes them)."""
Batch = Mapping[str, Array]
"""Named arrays, each with a leading batch axis."""
Metrics = dict[str, Array]
"""Name -> scalar, still on the device."""


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
      loss: ``(params, batch, key) -> (scalar loss, metrics)``.
      predict: name -> ``(params, batch, key) -> outputs``.
    """

    init: Callable[[Array, Batch], Params]
    loss: Callable[[Params, Batch, Array], tuple[Array, Metrics]]
    predict: Mapping[str, Callable[[Params, Batch, Array], Any]]


@dataclasses.dataclass(frozen=True)
class Learner:
    """Something the one host loop can train.

    Attributes:
      init: ``(key, batch) -> TrainState``.
      step: ``(state, batch, key) -> (state, metrics)``, pure; the loop jits it.
    """

    init: Callable[[Array, Batch], TrainState]
    step: Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]


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
