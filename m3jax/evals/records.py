"""Tidy records of measurements: on disk, selected, and averaged over seeds."""

import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from m3jax import base
from m3jax.ops import intervals

_FIELDS = base.Record._fields
_NOT_JSON = ("inf", "-inf", "nan")


class Summary(NamedTuple):
    """Records that differ in nothing but the seed, as one.

    Attributes:
      system: as in the records.
      variant: as in the records.
      snr_db: as in the records; None where SNR has no meaning.
      metric: as in the records.
      mean: mean over the seeds.
      low: lower end of the confidence interval; NaN with one seed.
      high: upper end of the confidence interval; NaN with one seed.
      num_seeds: how many seeds there are.
      unit: unit of ``mean``, ``low`` and ``high``.
    """

    system: str
    variant: str
    snr_db: float | None
    metric: str
    mean: float
    low: float
    high: float
    num_seeds: int
    unit: str


def write(path: str | os.PathLike[str], records: Iterable[base.Record]) -> None:
    """Writes records as a JSON list, one object a line; all of them or none.

    JSON has no infinity, so ``inf``, ``-inf`` and ``nan`` are written as these strings.
    The file appears by a rename: a full disk or a kill leaves what was there before.

    Args:
      path: the file, such as ``runs/tokcom/evaluation.json``; replaced if it exists.
      records: the rows, in the order in which they shall stand.
    """
    path = pathlib.Path(path)
    rows = [json.dumps(_encode(record), allow_nan=False) for record in records]
    text = "[\n" + ",\n".join(rows) + "\n]\n"
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"can't write the records ({error.strerror}); make room, or give a folder "
            "that exists and can be written to",
            str(path),
        ) from error


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
    """Keeps the records whose fields have the wanted values.

    Args:
      records: rows.
      **wanted: field -> its value, or a tuple, list or set of the values it may have.

    Returns:
      The rows that match, in their order.

    Raises:
      ValueError: records have no such field.

    Example:
      ``select(records, metric="answer_accuracy", snr_db=(0.0, 20.0))``
    """
    for field in wanted:
        if field not in _FIELDS:
            raise ValueError(f"records have no field {field!r}; they have {_FIELDS}")
    allowed = {
        field: value if isinstance(value, (tuple, list, set, frozenset)) else (value,)
        for field, value in wanted.items()
    }
    return [
        record
        for record in records
        if all(getattr(record, field) in values for field, values in allowed.items())
    ]


def by_seed(
    records: Iterable[base.Record],
    variant: str,
    metric: str,
    snrs_db: Sequence[float] | None = None,
) -> np.ndarray:
    """A metric of a variant for each seed, averaged over SNRs.

    Args:
      records: rows.
      variant: name of the variant.
      metric: name of the metric.
      snrs_db: SNRs to average over; None takes all.

    Returns:
      float64 [seeds], by rising seed.

    Raises:
      ValueError: nothing was measured, or not at all of these SNRs.
    """
    found = select(records, variant=variant, metric=metric)
    if snrs_db is not None:
        found = select(found, snr_db=tuple(snrs_db))
        missing = set(snrs_db) - {row.snr_db for row in found}
        if missing and found:
            raise ValueError(
                f"no {metric} of {variant!r} was measured at {sorted(missing)} dB"
            )
    seeds = sorted({row.seed for row in found})
    if not seeds:
        raise ValueError(f"no {metric} of {variant!r} was measured")
    return np.array(
        [np.mean([row.value for row in found if row.seed == seed]) for seed in seeds]
    )


def aggregate(
    records: Iterable[base.Record], confidence: float = 0.95
) -> list[Summary]:
    """Averages over seeds, with Student's t confidence interval.

    Args:
      records: rows.
      confidence: probability that an interval covers the true mean.

    Returns:
      One summary for each system, variant, SNR and metric, in order of appearance.

    Raises:
      ValueError: a seed comes twice, or rows to be averaged have different units.
    """
    groups: dict[tuple, dict[int, base.Record]] = {}
    for record in records:
        same = (record.system, record.variant, record.snr_db, record.metric)
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
        snr_db=rows[0].snr_db,
        metric=rows[0].metric,
        mean=float(found.mean),
        low=float(found.low),
        high=float(found.high),
        num_seeds=len(rows),
        unit=units[0],
    )


def _encode(record: base.Record) -> dict[str, Any]:
    row = record._asdict()
    for field in ("snr_db", "value"):
        if row[field] is not None:
            number = float(row[field])  # also of a NumPy scalar
            row[field] = number if math.isfinite(number) else str(number)
    return row | {"seed": int(record.seed)}


def _decode(row: Any, number: int, path: pathlib.Path) -> base.Record:
    place = f"{path}, record {number}"
    if not isinstance(row, Mapping) or set(row) != set(_FIELDS):
        raise ValueError(f"{place} has not the fields {_FIELDS}; evaluate again")
    row = dict(row)
    for field in ("snr_db", "value"):
        value = row[field]
        if value in _NOT_JSON:
            row[field] = float(value)
        elif not isinstance(value, (int, float)) and (field, value) != ("snr_db", None):
            raise ValueError(f"{place}: {field} is {value!r}, no number")
    return base.Record(**row)
