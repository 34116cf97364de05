"""Sweeps: one run for each point of a grid of config fields.

Each point is an ordinary run in a folder of its own, so a sweep that was stopped goes
on where it was. Points that differ in seeds and float settings alone are trained by one
program where that can be (`together`).
"""

import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from m3jax import base
from m3jax.evals import records
from m3jax.experiments import contract, fields, running, together
from m3jax.files import disk, locks
from m3jax.train import interrupts, progress, workdir

_TOGETHER = "together"


class Point(NamedTuple):
    """A point of the grid.

    Attributes:
      fields: what is set, by path.
      config: the experiment.
      folder: its workdir.
    """

    fields: Mapping[str, Any]
    config: contract.Experiment
    folder: pathlib.Path


class Stopped(interrupts.Interrupted):
    """A sweep that was asked to stop; what is trained is kept."""

    def __init__(self, stop: interrupts.Interrupted, directory: pathlib.Path):
        super().__init__(stop.received, stop.step, str(directory))
        self.args = (
            f"stopped by {stop.received.name}: what has been trained is kept in"
            f" {directory}; the same command goes on",
        )


def run(
    config: contract.Experiment,
    axes: Mapping[str, Sequence[Any]],
    directory: str | os.PathLike[str],
    grid: base.Grid,
    *,
    shared: bool | None = None,
    show_progress: bool = True,
) -> list[base.Record]:
    """Trains and measures every point of a grid.

    Points that differ only in ``train.seed`` are one variant, and a record's seed is
    the training seed: intervals then tell how much training varies.

    Args:
      config: what all points share.
      axes: from ``fields.parse_over``.
      directory: gets one workdir for each point.
      grid: what each is measured over.
      shared: train points that differ in seeds and floats alone by one program; None:
        on accelerators, and for learners that make their own data.
      show_progress: show one bar over all of it.

    Returns:
      The records of all variants, averaged over draws of noise, and those of what they
      are compared with.

    Raises:
      TypeError, ValueError: a field does not exist or does not fit, of any point.
      Stopped: SIGTERM or Ctrl-C came.
    """
    running.check_grid(grid)
    directory = disk.local(directory, "--workdir")
    points = make_points(config, axes, directory)
    with locks.owned(directory, "take another --workdir"):
        return _run(points, list(axes), directory, grid, shared, show_progress)


def _run(
    points: Sequence[Point],
    paths: list[str],
    directory: pathlib.Path,
    grid: base.Grid,
    shared: bool | None,
    show_progress: bool,
) -> list[base.Record]:
    missing = [p for p in points if not _is_done(p)]
    groups = _groups(missing, paths, shared)
    steps = sum(p.config.train.steps for p in points)
    done = steps - sum(p.config.train.steps for p in missing)
    rows: list[base.Record] = []
    try:
        with progress.Bar(
            "training", steps, "step", start=done, shown=show_progress
        ) as bar:
            for group in groups:
                tell = functools.partial(_tell_steps, bar, done, len(group))
                _train(group, paths, directory, tell)
                done += group[0].config.train.steps * len(group)
    except interrupts.Interrupted as stop:
        raise Stopped(stop, directory) from stop
    with progress.Bar("evaluating", len(points), "run", shown=show_progress) as bar:
        for number, point in enumerate(points):
            tell = functools.partial(_tell_share, bar, number)
            _add(rows, _measure(point, grid, tell), _variant(point.fields))
    return rows


def _tell_steps(bar: progress.Bar, before: int, together: int, step: int) -> None:
    bar.to(before + together * step)


def _tell_share(bar: progress.Bar, before: int, share: float) -> None:
    bar.to(before + share)


def make_points(
    config: contract.Experiment,
    axes: Mapping[str, Sequence[Any]],
    directory: str | os.PathLike[str],
) -> list[Point]:
    """All points of a grid, each validated, before anything is trained.

    Raises:
      TypeError, ValueError: of a field, or of ``contract.check``; names the point.
    """
    points = []
    for values in itertools.product(*axes.values()):
        set_fields = dict(zip(axes, values, strict=True))
        made = fields.replace(config, set_fields)
        name = ",".join(f"{path.split('.')[-1]}={v}" for path, v in set_fields.items())
        try:
            contract.check(made)
        except ValueError as error:
            raise ValueError(f"the point {name} can't be: {error}") from error
        folder = pathlib.Path(directory) / name.replace("/", "_")
        workdir.check(folder, made, resume=workdir.has_checkpoints(folder))
        points.append(Point(set_fields, made, folder))
    return points


def _is_done(point: Point) -> bool:
    newest = workdir.newest_step(point.folder)
    return newest is not None and newest >= point.config.train.steps


def _groups(
    points: Sequence[Point], paths: list[str], shared: bool | None
) -> list[list[Point]]:
    """Points that one program trains; a point that has begun alone ends alone."""
    if not points or not _pays(points[0].config, shared):
        return [[point] for point in points]
    first = points[0].config
    data = [path for path in paths if together.can_share(first, [path])]
    groups: dict[Any, list[Point]] = {}
    for number, point in enumerate(points):
        rest = {path: v for path, v in point.fields.items() if path not in data}
        alone = workdir.has_checkpoints(point.folder) or not data
        groups.setdefault(number if alone else repr(rest), []).append(point)
    devices = jax.device_count()
    return [
        part
        for group in groups.values()
        for part in ([group] if len(group) % devices == 0 else [[p] for p in group])
    ]


def _pays(config: contract.Experiment, shared: bool | None) -> bool:
    """Whether to share: by default not on a CPU, which one run of batches fills."""
    if shared is not None:
        return shared
    return jax.default_backend() != "cpu" or config.build().batches is None


def _train(
    group: Sequence[Point],
    paths: list[str],
    directory: pathlib.Path,
    tell: Callable[[int], None],
) -> None:
    if len(group) == 1:
        (point,) = group
        resume = workdir.has_checkpoints(point.folder)
        running.train(
            point.config, point.folder, resume=resume, show_progress=False, tell=tell
        )
        return
    configs = [point.config for point in group]
    names = "+".join(point.folder.name for point in group)
    together.train(
        configs,
        together.varying(configs, paths),
        [point.folder for point in group],
        directory / f".{_TOGETHER}" / workdir.short_name(names),
        tell,
    )


def _measure(point: Point, grid: base.Grid, tell: base.Tell) -> list[base.Record]:
    """Records of a run, averaged over noise; its seed is that of the training."""
    variant = _variant(point.fields)
    trained = running.restore(point.folder)
    measured = trained.run.evaluate(
        trained.params, grid._replace(variant=variant), tell
    )
    records.write(point.folder / "evaluation.json", measured)
    ours = records.select(measured, variant=variant)
    others = [row for row in measured if row.variant != variant]
    seed = point.config.train.seed
    means = [
        base.Record(s.system, s.variant, s.at, seed, s.metric, s.mean, s.unit)
        for s in records.aggregate(ours)
    ]
    return means + others


def _add(rows: list[base.Record], more: Sequence[base.Record], name: str) -> None:
    """Adds a point's rows; what runs are compared with counts once where it is one.

    Where it depends on the point, as a reference policy in another world does, its name
    tells the point.
    """
    known = {row._replace(value=0.0): row.value for row in rows}
    for row in more:
        value = known.get(row._replace(value=0.0), row.value)
        if value != row.value:
            row = row._replace(variant=f"{row.variant} ({name})")
        if row._replace(value=0.0) not in known:
            rows.append(row)


def _variant(point: Mapping[str, Any]) -> str:
    """Name of a point without its seed."""
    parts = [
        f"{path.split('.')[-1]}={v}"
        for path, v in point.items()
        if path != together.SEED
    ]
    return ", ".join(parts) or "tuned"
