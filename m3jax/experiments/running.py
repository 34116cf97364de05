"""What can be done with any experiment: train, restore, load, evaluate, export.

Launchers and notebooks start here. Nothing below knows a system: it asks the config to
build a ``base.Run``.
"""

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

from m3jax import base
from m3jax.experiments import contract
from m3jax.train import (
    checkpoints,
    loop,
    metrics,
    pretrained,
    progress,
    sources,
    typed_json,
    workdir,
)


class Trained(NamedTuple):
    """Something trained, ready to predict.

    Attributes:
      config: what it was trained by.
      run: its functions.
      params: its parameters.
    """

    config: contract.Experiment
    run: base.Run
    params: base.Params

    @property
    def predict(self) -> Mapping[str, base.Predict]:
        """Name -> ``(params, batch, key) -> outputs``."""
        return self.run.predict


def train(
    config: contract.Experiment,
    directory: str | os.PathLike[str],
    *,
    resume: bool = False,
    show_progress: bool = True,
    tell: Callable[[int], None] = lambda step: None,
) -> base.TrainState:
    """Trains an experiment into a workdir.

    Args:
      config: what to run.
      directory: the workdir: checkpoints, metrics and config go there.
      resume: go on with the run that is there, bit for bit.
      show_progress: show a progress bar.
      tell: called with the number of finished updates after each.

    Returns:
      The final train state.

    Raises:
      TypeError, ValueError, OSError: of ``contract.check``, ``workdir.owned``, the
        data and ``loop.fit``.
    """
    goes_on = resume and workdir.has_checkpoints(directory)
    contract.check(config, starts_anew=not goes_on)
    workdir.check(directory, config, resume)
    own = functools.partial(checkpoints.restore_params, directory)
    run = config.build(own if goes_on else None)
    learner = run.make_learner()
    watch = run.watch if config.train.evaluate_every else None
    with workdir.owned(directory, config, resume) as folder, _batches(run) as batches:
        try:
            with checkpoints.Checkpointer(
                folder / workdir.CHECKPOINTS,
                keep=config.train.keep,
                best_metric=run.best if watch else None,
                config=typed_json.to_json(config),
            ) as checkpointer:
                return loop.fit(
                    learner,
                    batches,
                    config.train,
                    key=jax.random.key(config.train.seed),
                    checkpointer=checkpointer,
                    writer=metrics.MetricWriter(folder),
                    evaluate=watch and (lambda state: watch(state.params)),
                    resume=resume,
                    show_progress=show_progress,
                    tell=tell,
                    report=lambda timings: workdir.started(folder, config, timings),
                )
        finally:
            workdir.update_run(folder)


@contextlib.contextmanager
def _batches(run: base.Run) -> Iterator[Iterable[base.Batch]]:
    """The batches of a run, whose loader ends with the body."""
    batches = run.batches() if run.batches else sources.NoBatches()
    try:
        yield batches
    finally:
        getattr(batches, "close", lambda: None)()


def train_here(
    config: contract.Experiment,
) -> tuple[base.TrainState, list[float]]:
    """Trains an experiment in memory, as studies do: nothing is kept or shown.

    Args:
      config: what to run.

    Returns:
      The final train state, and the loss at each ``train.log_every``.
    """
    contract.check(config)
    run = config.build()
    losses: list[float] = []
    state = loop.fit(
        run.make_learner(),
        run.batches() if run.batches else sources.NoBatches(),
        config.train,
        key=jax.random.key(config.train.seed),
        writer=metrics.Collected(losses),
        show_progress=False,
    )
    return state, losses


def restore(directory: str | os.PathLike[str], step: int | None = None) -> Trained:
    """Restores a run, ready to predict.

    Args:
      directory: the workdir of a run.
      step: a saved step; None takes the newest whole one.

    Returns:
      Config, functions and parameters.

    Raises:
      FileNotFoundError: no run, or no whole checkpoint, is there.

    Example:
      ``trained = running.restore("runs/tokcom")``
    """
    config = workdir.load_config(directory)
    params = checkpoints.restore_params(directory, step)
    return Trained(config, config.build(), jax.device_put(params))


def load(name: str) -> Trained:
    """Loads a model by name, shipped or exported, ready to predict.

    Args:
      name: one of ``m3jax.train.pretrained.names()``, such as "tokcom".

    Returns:
      Config, functions and parameters.

    Raises:
      FileNotFoundError: no such name; the message lists those there are.
    """
    params, card = pretrained.load(name)
    config = typed_json.from_json(card["config"])
    run = config.build()
    return Trained(config, run, jax.device_put(run.unpack(params)))


def evaluate(
    trained: Trained, grid: base.Grid, *, show_progress: bool = True
) -> list[base.Record]:
    """Measures a run over a grid.

    Args:
      trained: of `restore` or `load`.
      grid: what to measure over.
      show_progress: show a bar, or a line now and then where there is no terminal.

    Returns:
      Its records, and those of what it is compared with.

    Raises:
      ValueError: the grid makes no sense, in itself or for this run.
    """
    check_grid(grid)
    with progress.Bar("evaluating", shown=show_progress) as bar:
        return trained.run.evaluate(trained.params, grid, bar.to)


def check_grid(grid: base.Grid) -> None:
    """Raises ValueError naming what of a grid makes no sense, before any work."""
    for name, value in (
        ("num_seeds", grid.num_seeds),
        ("num_examples", grid.num_examples),
    ):
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be 1 or more, got {value}")


def as_exported(trained: Trained) -> Trained:
    """What `load` gives after an `export`: the same run, its parameters rounded."""
    packed = pretrained.as_exported(trained.run.pack(trained.params))
    return trained._replace(params=trained.run.unpack(packed))


def export(
    directory: str | os.PathLike[str],
    name: str,
    figures: Mapping[str, float],
    step: int | None = None,
    root: str | os.PathLike[str] | None = None,
) -> pathlib.Path:
    """Puts a run's parameters where `load` finds them by name, with a card.

    Args:
      directory: the workdir of the run.
      name: what to load it by.
      figures: what was measured of it, name -> value.
      step: a saved step; None takes the newest whole one.
      root: folder of exported models; None for the user's own.

    Returns:
      The folder.

    Raises:
      ValueError: the name is none, or that of another model.
    """
    trained, ran = restore(directory, step), workdir.load_run(directory)
    card: dict[str, Any] = {
        "name": name,
        "command": ran["command"],
        "commit": ran["commit"],
        **trained.run.about,
        "wall_seconds": ran["wall_seconds"],
        "device": ran["device"],
        "figures": dict(figures),
        "config": typed_json.to_json(trained.config),
    }
    return pretrained.export(name, trained.run.pack(trained.params), card, root)
