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
