"""Axes that records stand on: coordinates made, read, and named for people."""

import math
from typing import Any

from m3jax import base

_UNITS = {
    **{"db": "dB", "s": "s", "ms": "ms", "j": "J", "w": "W", "hz": "Hz"},
    **{"mhz": "MHz", "mbps": "Mbit/s"},
    **{"bps": "bit/s", "bits": "bit", "m": "m"},
}
_NAMES = {"snr": "SNR"}


def at(**coordinates: float | str) -> base.At:
    """Coordinates as ``base.Record.at`` has them.

    Example:
      >>> at(snr_db=10, skill="count")
      (('skill', 'count'), ('snr_db', 10.0))
    """
    return tuple((name, _plain(coordinates[name])) for name in sorted(coordinates))


def coordinate(row: Any, axis: str) -> float | str | None:
    """Where a record, or a summary of some, stands on an axis; None if nowhere."""
    return dict(row.at).get(axis)


def names(row: Any) -> frozenset[str]:
    """The axes that a record stands on."""
    return frozenset(name for name, _ in row.at)


def with_at(row: Any, **coordinates: float | str | None) -> Any:
    """The same at other coordinates; None takes one away."""
    changed = dict(row.at) | coordinates
    kept = {name: place for name, place in changed.items() if place is not None}
    return row._replace(at=at(**kept))


def label(axis: str) -> str:
    """The name of an axis for people, with its unit.

    Example:
      >>> label("snr_db"), label("energy_j"), label("skill")
      ('SNR (dB)', 'energy (J)', 'skill')
    """
    name, _, unit = axis.rpartition("_")
    if not name or unit not in _UNITS:
        return axis.replace("_", " ")
    return f"{_NAMES.get(name, name.replace('_', ' '))} ({_UNITS[unit]})"


def is_numeric(place: float | str | None) -> bool:
    """Whether a coordinate is a number, infinity too."""
    return isinstance(place, float) and not math.isnan(place)


def _plain(place: float | str) -> float | str:
    return place if isinstance(place, str) else float(place)
