"""Tidy records of measurements: on disk, selected, and averaged over seeds."""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from m3jax import base
from m3jax.evals import axes
from m3jax.files import disk
from m3jax.ops import intervals
from m3jax.train import typed_json

ALL = "every place on the axis"
"""In place of coordinates: all there are, averaged."""
_FIELDS = base.Record._fields
_NOT_JSON = ("inf", "-inf", "nan")


class Summary(NamedTuple):
    """Records that differ in nothing but the seed, as one.

    Attributes:
      system: as in the records.
      variant: as in the records.
      at: as in the records.
      metric: as in the records.
      mean: mean over the seeds.
      low: lower end of the confidence interval; NaN with one seed.
      high: upper end of the confidence interval; NaN with one seed.
      num_seeds: how many seeds there are.
      unit: unit of ``mean``, ``low`` and ``high``.
    """

    system: str
    variant: str
    at: base.At
    metric: str
    mean: float
    low: float
    high: float
    num_seeds: int
    unit: str


def make(
    system: str,
    variant: str,
    seed: int,
    values: Mapping[str, float],
    units: Mapping[str, str],
    **at: float | str,
) -> list[base.Record]:
    """Records of several metrics in one place.

    Args:
      system: its name.
      variant: what was varied.
      seed: of all values.
      values: metric -> value.
      units: metric -> unit.
      **at: axis -> coordinate.

    Example:
      >>> make("s", "a", 0, {"delay_s": 2}, {"delay_s": "s"}, snr_db=10)[0].at
      (('snr_db', 10.0),)
    """
    return [
        base.Record(
            system, variant, axes.at(**at), seed, metric, float(value), units[metric]
        )
        for metric, value in values.items()
    ]


def write(path: str | os.PathLike[str], records: Iterable[base.Record]) -> None:
    """Writes records as a JSON list, one object a line; all of them or none.

    JSON has no infinity, so ``inf``, ``-inf`` and ``nan`` are written as these strings.
    The file appears by a rename: a full disk or a kill leaves what was there before.

    Args:
      path: the file, such as ``runs/tokcom/evaluation.json``; replaced if it exists.
      records: the rows, in the order in which they shall stand.

    Raises:
      OSError: no room, or no place that can be written to; the old file is untouched.
    """
    disk.write_text(path, to_text(records))


def to_text(records: Iterable[base.Record]) -> str:
    """What ``write`` writes."""
    rows = [json.dumps(_encode(record), allow_nan=False) for record in records]
    return "[\n" + ",\n".join(rows) + "\n]\n"


def read(path: str | os.PathLike[str]) -> list[base.Record]:
    """Reads what ``write`` wrote.

    Args:
      path: the file, or the workdir with ``evaluation.json`` in it.

    Returns:
      The records, in the order of the file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not a list of records; names the row and the field.
    """
    path = pathlib.Path(path)
    path = path / "evaluation.json" if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(f"no {path}; evaluate the run first")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); evaluate again") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path} is not a list of records; evaluate again")
    return [_decode(row, number, path) for number, row in enumerate(rows, start=1)]


def select(records: Iterable[base.Record], **wanted: Any) -> list[base.Record]:
    """Keeps the records whose fields and coordinates have the wanted values.

    Args:
      records: rows.
      **wanted: field or axis -> its value, or a tuple, list or set of the values it may
        have; None for an axis that rows shall not stand on.

    Returns:
      The rows that match, in their order.

    Raises:
      ValueError: records have no such field, and none stands on such an axis.

    Example:
      ``select(records, metric="answer_accuracy", skill=None, snr_db=(0.0, 20.0))``
    """
    records = list(records)
    known = frozenset(_FIELDS).union(*map(axes.names, records))
    for name, value in wanted.items():
        if name not in known and value is not None and records:
            raise ValueError(
                f"records have no field {name!r} and stand on no such axis; they have "
                f"{_FIELDS} and {tuple(sorted(known - set(_FIELDS)))}"
            )
    allowed = {
        name: value if isinstance(value, (tuple, list, set, frozenset)) else (value,)
        for name, value in wanted.items()
    }
    return [
        record
        for record in records
        if all(_value(record, name) in values for name, values in allowed.items())
    ]


def _value(record: base.Record, name: str) -> Any:
    return getattr(record, name) if name in _FIELDS else axes.coordinate(record, name)


def by_seed(
    records: Iterable[base.Record], variant: str, metric: str, **places: Any
) -> np.ndarray:
    """A metric of a variant for each seed.

    Args:
      records: rows.
      variant: name of the variant.
      metric: name of the metric.
      **places: axis -> a coordinate, several to average over, or ``ALL``. Rows that
        stand on other axes besides, or not on all of these, do not count.

    Returns:
      float64 [seeds], by rising seed.

    Raises:
      ValueError: nothing was measured, or not at all of these places.

    Example:
      ``by_seed(rows, "tuned", "answer_accuracy", snr_db=(0, 5, 10))``
    """
    found = [
        row
        for row in select(records, variant=variant, metric=metric)
        if axes.names(row) == frozenset(places)
    ]
    if not found:
        where = f" over {', '.join(places)}" if places else ""
        raise ValueError(f"no {metric} of {variant!r} was measured{where}")
    for axis, wanted in places.items():
        if wanted is ALL:
            continue
        wanted = wanted if isinstance(wanted, (tuple, list, set)) else (wanted,)
        missing = set(wanted) - {axes.coordinate(row, axis) for row in found}
        if missing:
            raise ValueError(
                f"no {metric} of {variant!r} was measured at {axes.label(axis)} "
                f"{sorted(missing)}"
            )
        found = select(found, **{axis: wanted})
    seeds = sorted({row.seed for row in found})
    return np.array(
        [np.mean([row.value for row in found if row.seed == seed]) for seed in seeds]
    )


def only_at(records: Iterable[base.Record], **places: Any) -> list[base.Record]:
    """The records at some places, which they then stand on no more.

    Args:
      records: rows.
      **places: field or axis -> as in `select`; axes are taken away.

    Example:
      ``tables.side_by_side(only_at(records, rate_mbps=300.0), rows="variant")``
    """
    nowhere = dict.fromkeys(places)
    return [axes.with_at(row, **nowhere) for row in select(records, **places)]


def aggregate(
    records: Iterable[base.Record], confidence: float = 0.95
) -> list[Summary]:
    """Averages over seeds, with Student's t confidence interval.

    Args:
      records: rows.
      confidence: probability that an interval covers the true mean.

    Returns:
      One summary for each system, variant, place and metric, in order of appearance.

    Raises:
      ValueError: a seed comes twice, or rows to be averaged have different units.
    """
    groups: dict[tuple, dict[int, base.Record]] = {}
    for record in records:
        same = (record.system, record.variant, record.at, record.metric)
        by_seed = groups.setdefault(same, {})
        if record.seed in by_seed:
            raise ValueError(f"seed {record.seed} of {same} comes twice")
        by_seed[record.seed] = record
    return [_summarise(list(rows.values()), confidence) for rows in groups.values()]


def _summarise(rows: list[base.Record], confidence: float) -> Summary:
    units = sorted({row.unit for row in rows})
    if len(units) > 1:
        raise ValueError(f"{rows[0].metric} is measured in different units: {units}")
    found = intervals.student_t([row.value for row in rows], confidence=confidence)
    return Summary(
        system=rows[0].system,
        variant=rows[0].variant,
        at=rows[0].at,
        metric=rows[0].metric,
        mean=float(found.mean),
        low=float(found.low),
        high=float(found.high),
        num_seeds=len(rows),
        unit=units[0],
    )


def _encode(record: base.Record) -> dict[str, Any]:
    row = record._asdict()
    # Coordinates and values may be NumPy scalars.
    places = {n: p if isinstance(p, str) else float(p) for n, p in record.at}
    return typed_json.plain(
        row | {"at": places, "seed": int(record.seed), "value": float(record.value)}
    )


def _decode(row: Any, number: int, path: pathlib.Path) -> base.Record:
    place = f"{path}, record {number}"
    if not isinstance(row, Mapping) or set(row) != set(_FIELDS):
        raise ValueError(f"{place} has not the fields {_FIELDS}; evaluate again")
    if not isinstance(row["at"], Mapping):
        raise ValueError(f"{place}: at is {row['at']!r}, no coordinates by name")
    coordinates = {name: _number(at) for name, at in row["at"].items()}
    for name, at in {**coordinates, "value": _number(row["value"])}.items():
        is_number = isinstance(at, float)
        if not is_number and (name == "value" or not isinstance(at, str)):
            raise ValueError(f"{place}: {name} is {at!r}, no number")
    fields = {"at": axes.at(**coordinates), "value": _number(row["value"])}
    return base.Record(**row | fields)


def _number(value: Any) -> Any:
    """Numbers as floats, infinities and NaN too; the rest as it is."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number or value in _NOT_JSON else value
