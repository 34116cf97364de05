"""The compiled step: state and running totals stay on the device and are donated."""

import collections
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from m3jax import base
from m3jax.train import sharding

STEPS_IN_FLIGHT = 2
"""How far Python may run ahead: bounds the batches alive on the device."""


class Stepper:
    """Runs a learner's step, compiled once, ahead of the device by a step or two.

    The key of a step is ``fold_in(key, state.step)``. The only implicit transfer would
    be a bug, so the step runs under a transfer guard.

    Args:
      learner: gives the step.
      state: the first train state; the stepper owns it from here on.
      batch: the abstract batch that every batch must look like.
      key: root of the keys of all steps, replicated.
      mesh: the devices.

    Attributes:
      state: the newest train state. It is donated by the next ``run``.

    Raises:
      ValueError: a metric is not a scalar.
    """

    def __init__(
        self,
        learner: base.Learner,
        state: base.TrainState,
        batch: base.Batch,
        key: base.Array,
        mesh: Mesh,
    ):
        self.state = state
        self._key = key
        self._everywhere = sharding.replicated(mesh)
        # Being jitted, the learner's step is traced once for its metrics and its use.
        learner_step = jax.jit(learner.step)
        _, metrics = jax.eval_shape(learner_step, state, batch, key)
        _check_scalars(metrics)
        self._names = tuple(metrics)
        self.forget()
        self._in_flight: collections.deque[base.Array] = collections.deque()
        step = _accumulating(learner_step, self._names)
        jitted = jax.jit(step, donate_argnums=(0, 1), out_shardings=self._everywhere)
        self._step = jitted.lower(state, self._totals, batch, key).compile()

    def run(self, batch: base.Batch) -> None:
        """Dispatches one step; returns before it has finished."""
        with jax.transfer_guard("disallow"):
            self.state, self._totals, latest = self._step(
                self.state, self._totals, batch, self._key
            )
        self._count += 1
        self._in_flight.append(latest)
        if len(self._in_flight) > STEPS_IN_FLIGHT:
            jax.block_until_ready(self._in_flight.popleft())

    def wait(self) -> None:
        """Waits for the steps dispatched so far."""
        jax.block_until_ready(self._totals)

    def means(self) -> dict[str, float]:
        """Fetches the metrics averaged since ``forget``: one device-to-host copy."""
        means = jax.device_get(self._totals) / max(self._count, 1)
        return dict(zip(self._names, means.tolist(), strict=True))

    def forget(self) -> None:
        """Begins a new average."""
        self._totals, self._count = self._fresh_totals(), 0

    def totals(self) -> dict[str, Any]:
        """The average under way, as JSON values, for a run that goes on."""
        totals = jax.device_get(self._totals).tolist()
        return {
            "count": self._count,
            "totals": dict(zip(self._names, totals, strict=True)),
        }

    def recall(self, before: Mapping[str, Any]) -> None:
        """Goes on with the average that `totals` gave, if it is of these metrics."""
        totals = before.get("totals", {})
        if set(totals) == set(self._names):
            values = np.array([float(totals[n]) for n in self._names], np.float32)
            self._totals = jax.device_put(values, self._everywhere)
            self._count = int(before["count"])

    def _fresh_totals(self) -> base.Array:
        zeros = np.zeros(len(self._names), np.float32)
        return jax.device_put(zeros, self._everywhere)


def _accumulating(
    learner_step: Callable[..., Any], names: tuple[str, ...]
) -> Callable[..., Any]:
    """Adds to the learner's step its key and the totals of its metrics, as a vector."""

    def step(
        state: base.TrainState, totals: base.Array, batch: base.Batch, key: base.Array
    ) -> tuple[base.TrainState, base.Array, base.Array]:
        key = jax.random.fold_in(key, state.step)
        state, metrics = learner_step(state, batch, key)
        latest = jnp.array([metrics[name] for name in names], jnp.float32)
        return state, totals + latest, latest

    return step


def _check_scalars(metrics: base.Metrics) -> None:
    for name, value in metrics.items():
        if value.shape:
            raise ValueError(
                f"metric {name!r} has shape {value.shape}; a learner's metrics are"
                " scalars, so average it"
            )
