"""From records to what a person looks at: tables, and a plot for each numeric axis."""

import itertools
import os
import pathlib
from collections.abc import Sequence

from m3jax import base
from m3jax.evals import axes, heat_maps, plots, tables
from m3jax.evals import records as records_lib
from m3jax.files import disk
from m3jax.train import metrics as metric_files

RECORDS = "evaluation.json"
_TABLE, _PLOTS = "table.md", "plots"
_SHOWN_DB = (0.0, 20.0)


def write(
    rows: Sequence[base.Record],
    directory: str | os.PathLike[str],
    metrics: Sequence[str] = (),
) -> list[pathlib.Path]:
    """Writes records, tables and plots.

    Args:
      rows: of one or more variants, baselines included.
      directory: gets ``evaluation.json``, ``table.md`` and ``plots/``; those of an
        earlier evaluation with other results move to ``evaluation-1/``, and so on.
      metrics: those with a table and a plot over each axis; () for the first.

    Returns:
      The paths of the plots.

    Raises:
      OSError: the directory can't be written to.
    """
    folder = pathlib.Path(directory)
    _keep_earlier(folder, rows)
    records_lib.write(folder / RECORDS, rows)
    disk.write_text(folder / _TABLE, markdown(rows, metrics) + "\n")
    figures = _draw(rows, metrics)
    if (folder / "metrics.jsonl").exists():
        found = metric_files.read(folder)
        if any("loss" in row for row in found):
            figures["loss"] = plots.training_curves({folder.name: found}).figure
    return [
        plots.save(figure, folder / _PLOTS / f"{name}.png")
        for name, figure in figures.items()
    ]


def _keep_earlier(folder: pathlib.Path, rows: Sequence[base.Record]) -> None:
    """Moves what an earlier evaluation wrote, if this one found something else."""
    path = folder / RECORDS
    if not path.exists() or path.read_bytes() == records_lib.to_text(rows).encode():
        return
    kept = disk.first_free(folder / "evaluation")
    kept.mkdir()
    for name in (RECORDS, _TABLE, _PLOTS):
        if (folder / name).exists():
            (folder / name).rename(kept / name)


def markdown(rows: Sequence[base.Record], metrics: Sequence[str] = ()) -> str:
    """Tables: each metric over each numeric axis, and the first one by each name.

    What stands on two numeric axes has a table for each variant. Names, such as skills,
    are shown at 0 dB, 20 dB and the last place of the axis.
    """
    metrics = metrics or (rows[0].metric,)
    numeric, named = _axes_of(rows)
    parts = []
    for metric in metrics:
        single = [a for a in numeric if any(r.at for r in _on(rows, metric, a))]
        for axis in single or (None,):
            shown = _on(rows, metric, axis)
            if shown:
                title = f"### {metric.replace('_', ' ')}\n\n" * (len(metrics) > 1)
                layout = {"rows": axis} if axis else {"rows": "metric"}
                summaries = records_lib.aggregate(shown)
                parts.append(title + tables.markdown(summaries, **layout))
        parts += [_by_pair(rows, metric, pair) for pair in _pairs(rows, metric)]
    parts += [_by_name(rows, metrics[0], name, numeric) for name in named]
    return "\n\n".join(part for part in parts if part)


def figures(
    rows: Sequence[base.Record], metrics: Sequence[str] = (), split: str = "test"
) -> dict[str, float]:
    """What a card tells of a model: metrics by their axes, means over seeds.

    Args:
      rows: of the model alone.
      metrics: those that are told; () for the first.
      split: what they were measured on.

    Returns:
      Such as ``{"test answer_accuracy, 10 dB": 0.9169}``.
    """
    metrics = metrics or (rows[0].metric,)
    numeric, named = _axes_of(rows)
    told = [*numeric] if numeric else named
    out = {}
    for row in records_lib.aggregate(
        row for row in rows if row.metric in metrics and axes.names(row) <= set(told)
    ):
        where = [_where(axis, place) for axis, place in row.at]
        name = ", ".join([f"{split} {row.metric}", *where])
        out[name] = round(row.mean, 4)
    return out


def _where(axis: str, place: float | str) -> str:
    if isinstance(place, str):
        return place
    return f"{place:g} {_unit(axis)}" if _unit(axis) else f"{axis} {place:g}"


def _axes_of(rows: Sequence[base.Record]) -> tuple[list[str], list[str]]:
    """Numeric axes and axes of names, in order of appearance."""
    found: dict[str, bool] = {}
    for row in rows:
        for axis, place in row.at:
            found.setdefault(axis, axes.is_numeric(place))
    numeric = [axis for axis, is_numeric in found.items() if is_numeric]
    return numeric, [axis for axis in found if axis not in numeric]


def _on(
    rows: Sequence[base.Record], metric: str, axis: str | None
) -> list[base.Record]:
    """Rows of a metric that stand on this axis alone, or nowhere."""
    wanted = {axis} - {None}
    return [r for r in rows if r.metric == metric and axes.names(r) <= wanted]


def _pairs(rows: Sequence[base.Record], metric: str) -> list[tuple[str, str]]:
    """Pairs of numeric axes that rows of a metric stand on; the shorter one first."""
    numeric, _ = _axes_of(rows)
    found = []
    for pair in itertools.combinations(numeric, 2):
        there = [r for r in rows if r.metric == metric and axes.names(r) == set(pair)]
        if there:
            places = {a: len({axes.coordinate(r, a) for r in there}) for a in pair}
            found.append(tuple(sorted(pair, key=places.get)))
    return found


def _by_pair(rows: Sequence[base.Record], metric: str, pair: tuple[str, str]) -> str:
    """A table for each variant over two numeric axes."""
    chosen = [r for r in rows if r.metric == metric and axes.names(r) == set(pair)]
    parts = []
    for variant in dict.fromkeys(row.variant for row in chosen):
        own = [row for row in chosen if row.variant == variant]
        own.sort(key=lambda row: [axes.coordinate(row, axis) for axis in pair])
        made = tables.markdown(
            records_lib.aggregate(own), rows=pair[0], columns=pair[1]
        )
        across = axes.label(pair[1])
        parts.append(f"{variant}: {metric.replace('_', ' ')} by {across}\n\n{made}")
    return "\n\n".join(parts)


def _by_name(
    rows: Sequence[base.Record], metric: str, name: str, numeric: Sequence[str]
) -> str:
    """A metric by the names on an axis, at some places of each numeric axis."""
    known = {name, *numeric[:1]}
    chosen = [
        row for row in rows if row.metric == metric and name in axes.names(row) <= known
    ]
    if not chosen:
        return ""
    places = sorted(
        {p for row in chosen for axis, p in row.at if axis != name} - {None}
    )
    shown = {p for p in places if p in _SHOWN_DB} | set(places[-1:])
    summaries = []
    for summary in records_lib.aggregate(chosen):
        where = [(a, p) for a, p in summary.at if a != name]
        if all(place in shown for _, place in where):
            told = [f"at {_where(axis, place)}" for axis, place in where]
            variant = " ".join([summary.variant, *told])
            summaries.append(summary._replace(variant=variant))
    return tables.markdown(summaries, rows=name, columns="variant")


def _unit(axis: str) -> str:
    return axes.label(axis).partition("(")[2].rstrip(")")


def _draw(rows: Sequence[base.Record], metrics: Sequence[str]) -> dict:
    """One figure for each metric and numeric axis; one of the first by each name."""
    metrics = metrics or (rows[0].metric,)
    numeric, named = _axes_of(rows)
    figures = {}
    for metric in metrics:
        for axis in numeric:
            if any(row.at for row in _on(rows, metric, axis)):
                drawn = plots.metric_over(rows, metric, axis)
                figures[f"{metric}_over_{axis}"] = drawn.figure
        for pair in _pairs(rows, metric):
            name = f"{metric}_over_{pair[0]}_and_{pair[1]}"
            figures[name] = heat_maps.metric_over_pair(rows, metric, pair)
    for name in named:
        over = [a for a in numeric if any(axes.names(r) == {name, a} for r in rows)]
        for axis in over:
            panels = plots.metric_over_by_group(rows, metrics[0], axis, name)
            figures[f"{metrics[0]}_by_{name}"] = panels[0].figure
        if not over:
            figures[f"{metrics[0]}_by_{name}"] = plots.dots(
                rows, metrics[0], name
            ).figure
    return figures
