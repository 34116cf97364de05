"""Several points of a sweep trained by one compiled program.

Runs that differ in their seed and in float settings alone do the same computation on
other numbers. Their states are stacked and one step is vmapped over them; what comes
out is each run's own, as if it had been trained alone, but for rounding.
"""

import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from m3jax import base
from m3jax.experiments import contract, fields
from m3jax.train import checkpoints, loop, metrics, sources, typed_json, workdir

SEED = "train.seed"
"""The field in which runs of one variant differ."""
_AXES = base.TrainState(step=None, params=0, opt_state=0, extra=0)


def varying(configs: Sequence[contract.Experiment], paths: Sequence[str]) -> list[str]:
    """Which of these fields the configs differ in."""
    return [
        path
        for path in paths
        if len({repr(fields.get(config, path)) for config in configs}) > 1
    ]


def can_share(config: contract.Experiment, paths: Sequence[str]) -> bool:
    """Whether runs that differ in these fields can be one program.

    Seeds can. Other fields must be floats that the step takes as data, which is found
    by tracing it.

    Args:
      config: one of the runs.
      paths: of the fields.
    """
    if config.train.evaluate_every:
        return False  # the best step of each is another one
    floats = [path for path in paths if path != SEED]
    if not all(type(fields.get(config, path)) is float for path in floats):
        return False
    if not floats:
        return True
    run, batch = config.build(), ()
    if run.batches:
        stream = iter(run.batches())
        batch = next(stream)
        getattr(stream, "close", lambda: None)()
    state = jax.eval_shape(run.make_learner().init, jax.random.key(0), batch)
    values = {path: jax.ShapeDtypeStruct((), np.float32) for path in floats}
    try:
        jax.eval_shape(_step(config), state, batch, jax.random.key(0), values)
    except (jax.errors.JAXTypeError, TypeError, ValueError):
        return False
    return True


def train(
    configs: Sequence[contract.Experiment],
    paths: Sequence[str],
    directories: Sequence[str | os.PathLike[str]],
    together: str | os.PathLike[str],
    tell: Callable[[int], None],
) -> None:
    """Trains runs side by side, each into a workdir of its own.

    Until all are done they share a folder, from which an interrupted training goes on.

    Args:
      configs: that `can_share`.
      paths: of the fields that they differ in.
      directories: of the runs.
      together: the folder that they share.
      tell: called with the number of finished updates after each.
    """
    first = configs[0]
    runs = [config.build() for config in configs]
    folder = pathlib.Path(together).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    floats = [path for path in paths if path != SEED]
    values = {
        path: np.array([fields.get(config, path) for config in configs], np.float32)
        for path in floats
    }
    roots = [jax.random.key(config.train.seed) for config in configs]
    init_keys, step_keys = jax.vmap(jax.random.split, out_axes=1)(
        jax.numpy.stack(roots)
    )
    learners = [run.make_learner() for run in runs]
    step = jax.vmap(_step(first), in_axes=(_AXES, 0, 0, 0), out_axes=(_AXES, 0))

    def init(key: base.Array, batch: base.Batch) -> base.TrainState:
        del key  # each has its own
        states = [
            learner.init(init_keys[i], jax.tree.map(lambda leaf, i=i: leaf[i], batch))
            for i, learner in enumerate(learners)
        ]
        stacked = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *states)
        return stacked._replace(step=states[0].step)

    def step_all(state: base.TrainState, batch: base.Batch, key: base.Array):
        del key
        keys = jax.vmap(jax.random.fold_in, (0, None))(step_keys, state.step)
        state, each = step(state, batch, keys, values)
        means = {name: jax.numpy.mean(rows) for name, rows in each.items()}
        apart = {
            f"{name}/{i}": rows[i]
            for name, rows in each.items()
            for i in range(len(configs))
        }
        return state, means | apart

    with checkpoints.Checkpointer(folder / workdir.CHECKPOINTS, keep=1) as saved:
        state = loop.fit(
            base.Learner(init, step_all),
            _Stacked([run.batches() for run in runs])
            if runs[0].batches
            else sources.NoBatches(),
            first.train,
            key=roots[0],
            checkpointer=saved,
            writer=metrics.MetricWriter(folder, tensorboard=False),
            resume=True,
            show_progress=False,
            tell=tell,
        )
    state, told = jax.device_get(state), metrics.read(folder)
    for number, (config, directory) in enumerate(
        zip(configs, directories, strict=True)
    ):
        _write_run(config, directory, _member(state, number), _of(told, number))
    shutil.rmtree(folder)


def _step(config: contract.Experiment):
    """The step of a run with some float fields as data."""
    learner = config.build().make_learner()

    def step(state, batch, key, values: Mapping[str, base.Array]):
        if not values:
            return learner.step(state, batch, key)
        traced = fields.substitute(config, values).build().make_learner()
        return traced.step(state, batch, key)

    return step


def _member(state: base.TrainState, number: int) -> base.TrainState:
    alone = jax.tree.map(lambda leaf: leaf[number], state._replace(step=()))
    return alone._replace(step=state.step)


def _of(rows: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """A run's own rows of the metrics that were written for all."""
    ending = f"/{number}"
    return [
        {"step": row["step"]}
        | {n.removesuffix(ending): v for n, v in row.items() if n.endswith(ending)}
        for row in rows
    ]


def _write_run(config, directory, state: base.TrainState, rows) -> None:
    """Leaves what a run that was trained alone leaves."""
    with workdir.owned(directory, config) as folder:
        writer = metrics.MetricWriter(folder)
        writer.truncate(0)
        for row in rows:
            writer.write(row.pop("step"), row)
        with checkpoints.Checkpointer(
            folder / workdir.CHECKPOINTS,
            keep=config.train.keep,
            config=typed_json.to_json(config),
        ) as saved:
            saved.save(int(state.step), state, None, rows[-1] if rows else None)
        workdir.started(folder, config, {})


class _Stacked:
    """Batches of several runs, stacked; a position is that of each."""

    def __init__(self, streams: Sequence[Any]):
        self._streams = [iter(stream) for stream in streams]

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        rows = [next(stream) for stream in self._streams]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    def get_state(self) -> dict[str, Any]:
        """The positions."""
        return {str(i): stream.get_state() for i, stream in enumerate(self._streams)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to the positions."""
        for i, stream in enumerate(self._streams):
            stream.set_state(state[str(i)])

    def close(self) -> None:
        """Ends processes of the streams, if there are any."""
        for stream in self._streams:
            getattr(stream, "close", lambda: None)()
