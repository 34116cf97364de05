"""Training on examples that stay on the device: many steps in one compiled program.

For small models, where the host loop's batches would cost more than the steps. The loop
of ``train/loop.py`` is for long runs: it reads from disk, saves and resumes.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from m3jax import base

Stretch = Callable[..., tuple[base.TrainState, base.Metrics]]


def make_stretch(learner: base.Learner) -> Stretch:
    """Compiles a stretch of steps.

    Args:
      learner: what trains.

    Returns:
      ``(state, examples, rows, key) -> (state, metrics)``: a step for each row of int32
      ``rows [K, B]``, which picks the batch out of ``examples``, a pytree of arrays
      [n, ...]. Metrics are [K]. As in the loop, the key of a step is folded in from its
      number. The state is donated; one program serves all states and rows of a shape.

    Example:
      ``state, metrics = stretch(state, examples, draw_rows(640, 64, 100, 0), key)``
    """

    def stretch(state, examples: Any, rows: base.Array, key: base.Array):
        def step(state, row):
            batch = jax.tree.map(lambda array: array[row], examples)
            return learner.step(state, batch, jax.random.fold_in(key, state.step))

        return jax.lax.scan(step, state, rows)

    return jax.jit(stretch, donate_argnums=0)


def fit(
    stretch: Stretch,
    state: base.TrainState,
    examples: Any,
    rows: np.ndarray,
    key: base.Array,
    *,
    every: int | None = None,
    look: Callable[[base.TrainState], None] = lambda state: None,
) -> tuple[base.TrainState, dict[str, np.ndarray]]:
    """Takes a step for each row, with a look at the state every few.

    Args:
      stretch: of `make_stretch`, for all states and rows of a shape.
      state: the first one; donated.
      examples: a pytree of arrays [n, ...].
      rows: int32 [S, B] of `draw_rows`.
      key: root of the keys of all steps.
      every: steps between two looks; None looks once, at the end.
      look: must keep nothing of the state, which is donated.

    Returns:
      The last state, and the metrics of all steps, [S] each.

    Raises:
      FloatingPointError: the loss is not finite in the end.
    """
    told = []
    for at in range(0, len(rows), every or len(rows)):
        some = rows[at : at + (every or len(rows))]
        state, metrics = stretch(state, examples, some, key)
        told.append(jax.device_get(metrics))
        look(state)
    metrics = {name: np.concatenate([t[name] for t in told]) for name in told[0]}
    if "loss" in metrics and not np.isfinite(metrics["loss"][-1]):
        raise FloatingPointError(f"the loss became {metrics['loss'][-1]}")
    return state, metrics


def draw_rows(num_examples: int, batch_size: int, steps: int, seed: int) -> np.ndarray:
    """Draws which examples each step sees: every one once, then all again.

    Args:
      num_examples: n.
      batch_size: B.
      steps: S.
      seed: of the order.

    Returns:
      int32 [S, B].

    Raises:
      ValueError: a number is less than 1.

    Example:
      >>> sorted(draw_rows(4, 2, 2, seed=0).ravel().tolist())
      [0, 1, 2, 3]
    """
    if min(num_examples, batch_size, steps) < 1:
        raise ValueError(
            "num_examples, batch_size and steps must be at least 1, got "
            f"{num_examples}, {batch_size} and {steps}"
        )
    rng = np.random.default_rng(seed)
    epochs = -(-steps * batch_size // num_examples)
    rows = np.concatenate([rng.permutation(num_examples) for _ in range(epochs)])
    return rows[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)
