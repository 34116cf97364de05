"""The one host loop that drives every learner.

Data, step, log, evaluate, checkpoint: nothing else happens here, and none of it happens
anywhere else. Per step there is one host-to-device copy (the next batch, while the step
runs), per log one device-to-host copy (the averaged metrics).
"""

import math
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from m3jax import base
from m3jax.ops import paths
from m3jax.train import (
    checkpoints,
    interrupts,
    metrics,
    progress,
    sharding,
    sources,
    steppers,
)
from m3jax.train import config as train_config

Evaluate = Callable[[base.TrainState], Mapping[str, float]]
"""Measures a state between two steps; the next step donates it, so never keep it."""


class NonFiniteError(FloatingPointError):
    """The loss or its gradient became NaN or infinite."""


def fit(
    learner: base.Learner,
    batches: Iterable[base.Batch],
    config: train_config.TrainConfig,
    *,
    key: base.Array,
    checkpointer: checkpoints.Checkpointer | None = None,
    writer: metrics.MetricWriter | None = None,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    show_progress: bool = True,
    tell: Callable[[int], None] = lambda step: None,
    report: Callable[[Mapping[str, float]], None] = lambda timings: None,
) -> base.TrainState:
    """Trains a learner for ``config.steps`` updates.

    The key of a step is folded in from its number, and the position of the data is
    saved with the state, so a resumed run repeats the batches and the noise of an
    unbroken one, bit for bit.

    Args:
      learner: what to train.
      batches: host batches without end. If the iterator has ``get_state`` and
        ``set_state``, as grain's have, checkpoints keep its position.
      config: lengths and intervals.
      key: root of all randomness of the run.
      checkpointer: where checkpoints go; None keeps none.
      writer: where metrics go; None writes none.
      evaluate: called every ``config.evaluate_every`` steps and after the last; what
        it returns is written, and saved with the checkpoint of that step.
      resume: go on from the newest whole checkpoint, if there is any.
      show_progress: show a bar, or a line now and then where there is no terminal.
      tell: called with the number of finished updates after each.
      report: called once with ``seconds_to_compile`` and ``seconds_to_first_step``.

    Returns:
      The final train state.

    Raises:
      ValueError: the config makes no sense, or the checkpoint is of something else.
      FileExistsError: there are checkpoints already and ``resume`` is False.
      NonFiniteError: the loss or its gradient is NaN or infinite.
      sources.DataEndedError: the batches ran out.
      interrupts.Interrupted: SIGTERM or Ctrl-C came; the state has been saved.
      disk.DiskFullError: no room for a checkpoint.
    """
    began = time.perf_counter()
    config.validate()
    mesh = sharding.make_mesh()
    _check_fresh(checkpointer, resume)
    source = sources.Source(batches, mesh)
    shapes = source.shapes()
    keys = jax.device_put(tuple(jax.random.split(key)), sharding.replicated(mesh))
    state, unlogged = _first_state(
        learner, source, shapes, keys[0], checkpointer, resume, mesh
    )
    start = int(jax.device_get(state.step))
    if writer is not None:
        writer.truncate(start)
    if start >= config.steps:
        logging.info("the run has all of its %d steps; nothing to do", start)
        return state

    stepper = steppers.Stepper(learner, state, shapes, keys[1], mesh)
    stepper.recall(unlogged)
    del state  # The stepper donates it.
    seconds_to_compile = time.perf_counter() - began
    record = _Record(start, checkpointer, writer)
    batch, text = source.pull(), ""
    with (
        interrupts.Watch() as watch,
        progress.Bar("training", config.steps, "step", start, show_progress) as bar,
    ):
        for step in range(start + 1, config.steps + 1):
            stepper.run(batch)
            if step == start + 1:
                stepper.wait()
                report(
                    {
                        "seconds_to_compile": seconds_to_compile,
                        "seconds_to_first_step": time.perf_counter() - began,
                    }
                )
            # Read before the next batch is pulled, so that it is the position of the
            # batches that were consumed.
            position = source.position()
            if step < config.steps and not watch.received:
                batch = _pull(source, watch)
            stop = watch.received
            due = _what_is_due(step, config, stop is not None)
            if due.log or due.save:
                # What is saved is checked, so no state with a NaN behind it is saved.
                record.check(step, stepper.means())
            if due.log:
                means = record.write_means(step)
                text = f"loss {means['loss']:.4g}" if "loss" in means else ""
                stepper.forget()
            bar.to(step, text)
            tell(step)
            if due.evaluate and evaluate is not None:
                record.add(step, evaluate(stepper.state))
            if due.save and checkpointer is not None:
                record.check_state(step, stepper.state)
                checkpointer.save(
                    step, stepper.state, position, record.latest, stepper.totals()
                )
            if stop:
                raise _interrupted(stop, step, checkpointer)
    if checkpointer is not None:
        checkpointer.wait()
    return stepper.state


class _Due(NamedTuple):
    log: bool
    evaluate: bool
    save: bool


def _what_is_due(step: int, config: train_config.TrainConfig, stopping: bool) -> _Due:
    last = step == config.steps
    save = stopping or last or step % config.checkpoint_every == 0
    every = config.evaluate_every
    return _Due(
        log=last or step % config.log_every == 0,
        evaluate=every > 0 and not stopping and (last or step % every == 0),
        save=save,
    )


class _Record:
    """Takes down what was measured, and stops the run when it is not finite.

    Attributes:
      latest: the newest values, for the checkpoint.
    """

    def __init__(
        self,
        start: int,
        checkpointer: checkpoints.Checkpointer | None,
        writer: metrics.MetricWriter | None,
    ):
        self.latest: dict[str, float] = {}
        self._checkpointer, self._writer = checkpointer, writer
        self._checked = self._logged = start
        self._logged_at = time.perf_counter()

    def check(self, step: int, means: Mapping[str, float]) -> None:
        for name, value in means.items():
            if name.endswith(("loss", "grad_norm")) and not math.isfinite(value):
                raise self._not_finite(name, value, self._checked + 1, step)
        self._checked = step
        self.latest = dict(means)

    def check_state(self, step: int, state: base.TrainState) -> None:
        """Looks at what the last update made, which no loss has seen yet."""
        updated = {"params": state.params, "opt_state": state.opt_state}
        for path, leaf in paths.flatten(updated).items():
            if not _is_finite(leaf):
                raise self._not_finite(path, math.nan, self._logged + 1, step)

    def write_means(self, step: int) -> Mapping[str, float]:
        now = time.perf_counter()
        rate = (step - self._logged) / max(now - self._logged_at, 1e-9)
        self._logged, self._logged_at = step, now
        self.add(step, {**self.latest, "steps_per_second": rate})
        return self.latest

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self.latest |= {name: float(value) for name, value in values.items()}
        if self._writer is not None:
            self._writer.write(step, values)

    def _not_finite(
        self, name: str, value: float, first: int, last: int
    ) -> NonFiniteError:
        good = "no checkpoint was saved before"
        if self._checkpointer is not None:
            self._checkpointer.wait()
            if steps := self._checkpointer.steps():
                place = self._checkpointer.directory
                good = f"the last good checkpoint is step {steps[-1]} in {place}"
        return NonFiniteError(
            f"{name} became {value:g} between steps {first} and {last}; {good}. Lower"
            " optimizer.learning_rate or optimizer.clip_norm, or look at the data"
        )


def _check_fresh(checkpointer: checkpoints.Checkpointer | None, resume: bool) -> None:
    if checkpointer is not None and not resume and checkpointer.steps():
        raise FileExistsError(
            f"{checkpointer.directory} holds checkpoints up to step"
            f" {checkpointer.steps()[-1]}; go on with --resume, or take another"
            " --workdir"
        )


def _first_state(
    learner: base.Learner,
    source: sources.Source,
    shapes: base.Batch,
    key: base.Array,
    checkpointer: checkpoints.Checkpointer | None,
    resume: bool,
    mesh: Mesh,
) -> tuple[base.TrainState, Mapping[str, Any]]:
    """Restores the newest whole checkpoint, or draws fresh parameters.

    Returns:
      The state, and averages that were under way.
    """
    everywhere = sharding.replicated(mesh)
    if not (resume and checkpointer is not None and checkpointer.steps()):
        # Batch values must not matter to the parameters, so zeros stand for them.
        init = jax.jit(
            lambda key: learner.init(key, _zeros_like(shapes)), out_shardings=everywhere
        )
        return init(key), {}
    abstract = jax.eval_shape(learner.init, key, shapes)
    restored = checkpointer.restore(
        sharding.with_sharding(abstract, everywhere), rewind=source.rewind
    )
    if not source.keeps(restored.position):
        logging.warning(
            "the data iterator keeps no position, so the resumed run does not repeat"
            " the batches of an unbroken one"
        )
    logging.info("resumed from the checkpoint of step %d", restored.step)
    return restored.state, restored.unlogged


def _is_finite(leaf: base.Array) -> bool:
    """Whether all numbers of an array are; as fast as it can be read."""
    if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
        return True
    if not leaf.is_fully_addressable:
        return bool(jax.numpy.isfinite(leaf).all())
    with np.errstate(all="ignore"):
        values = np.asarray(leaf)
        # A sum is finite only if all is; that of huge numbers may not be.
        total = np.sum(values, dtype=np.float32 if values.itemsize < 4 else None)
        return bool(np.isfinite(total) or np.isfinite(values).all())


def _pull(source: sources.Source, watch: interrupts.Watch) -> base.Batch | None:
    """Pulls a batch; None where a loader's process died of the signal that came."""
    try:
        return source.pull()
    except Exception:  # raised again unless a signal killed the loader
        if watch.received is None:
            raise
        return None


def _zeros_like(shapes: base.Batch) -> base.Batch:
    return jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), shapes)


def _interrupted(
    stop: signal.Signals,
    step: int,
    checkpointer: checkpoints.Checkpointer | None,
) -> interrupts.Interrupted:
    if checkpointer is not None:
        checkpointer.wait()
    saved_in = None if checkpointer is None else str(checkpointer.directory)
    return interrupts.Interrupted(stop, step, saved_in)
