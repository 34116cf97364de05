"""Markdown tables of summarised records."""

import math
from collections.abc import Iterable, Sequence

from m3jax import base
from m3jax.evals import axes
from m3jax.evals import records as records_lib


def markdown(
    summaries: Iterable[records_lib.Summary],
    *,
    rows: str = "snr_db",
    columns: str = "variant",
    digits: int = 1,
) -> str:
    """Lays summaries out as a Markdown table of ``mean ± half interval``.

    Fractions (unit ``"1"``) are shown in per cent. Where there is one seed, and so no
    interval, the mean stands alone; a missing cell is a dash.

    Args:
      summaries: what ``records.aggregate`` returned, of one unit.
      rows: the field or axis that makes the rows.
      columns: the field or axis that makes the columns.
      digits: digits after the point.

    Returns:
      The table, without a newline at its end.

    Raises:
      ValueError: there is nothing to show, a name is unknown, units differ, or two
        summaries fall into one cell.

    Example:
      >>> at = axes.at(snr_db=0)
      >>> row = records_lib.Summary("s", "a", at, "accuracy", 0.5, 0.4, 0.6, 5, "1")
      >>> print(markdown([row]))
      | SNR (dB) | a (%) |
      |---|---|
      | 0 | 50.0 ± 10.0 |
    """
    summaries = list(summaries)
    _check(summaries, (rows, columns))
    unit = summaries[0].unit
    cells: dict[tuple, str] = {}
    for summary in summaries:
        place = _place(summary, rows), _place(summary, columns)
        if place in cells:
            raise ValueError(
                f"two summaries have {rows} {place[0]!r} and {columns} {place[1]!r}; "
                "select fewer, or lay them out by another field."
            )
        cells[place] = _cell(summary, 100.0 if unit == "1" else 1.0, digits)
    row_keys = list(dict.fromkeys(row for row, _ in cells))
    column_keys = list(dict.fromkeys(column for _, column in cells))
    shown = "%" if unit == "1" else unit
    head = [axes.label(rows), *(f"{_key(key)} ({shown})" for key in column_keys)]
    lines = [_line(head), "|" + "---|" * len(head)]
    for row in row_keys:
        values = [cells.get((row, column), "-") for column in column_keys]
        lines.append(_line([_key(row), *values]))
    return "\n".join(lines)


def side_by_side(rows_given: Iterable[base.Record], *, rows: str) -> str:
    """A table with a column for each metric, whatever their units.

    Args:
      rows_given: records; a metric that was not measured somewhere is "-" there.
      rows: the field or axis that makes the rows.

    Returns:
      As `markdown`.
    """
    chosen = list(rows_given)
    made = []
    for metric in dict.fromkeys(row.metric for row in chosen):
        found = records_lib.aggregate(records_lib.select(chosen, metric=metric))
        table = markdown(found, rows=rows, columns="metric", digits=2)
        # "| name | value |": name -> " value |"
        made.append(dict(line.split("|", 2)[1:] for line in table.splitlines()))
    names = dict.fromkeys(name for table in made for name in table)
    return "\n".join(
        f"|{name}|" + "".join(table.get(name, " - |") for table in made)
        for name in names
    )


def _check(summaries: Sequence[records_lib.Summary], fields: Sequence[str]) -> None:
    if not summaries:
        raise ValueError("there is no summary to show.")
    known = set(records_lib.Summary._fields).union(*map(axes.names, summaries))
    for field in fields:
        if field not in known:
            raise ValueError(
                f"summaries have no field {field!r} and stand on no such axis; they "
                f"have {tuple(sorted(known - {'at'}))}."
            )
    units = sorted({summary.unit for summary in summaries})
    if len(units) > 1:
        raise ValueError(f"one table shows one unit, got {units}.")


def _cell(summary: records_lib.Summary, scale: float, digits: int) -> str:
    mean = f"{scale * summary.mean:.{digits}f}"
    if math.isnan(summary.low):
        return mean
    half = scale * (summary.high - summary.low) / 2.0
    return f"{mean} ± {half:.{digits}f}"


def _key(key: object) -> str:
    if key is None:
        return "any"
    return f"{key:g}" if isinstance(key, float) else str(key)


def _place(summary: records_lib.Summary, name: str) -> object:
    if name in records_lib.Summary._fields:
        return getattr(summary, name)
    return axes.coordinate(summary, name)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
