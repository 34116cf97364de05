"""What M3LLM's reliability weights learn from: histories whose next window is known.

A history of 2 T steps is a present window of T steps and the next one. A stream's error
e is the mean of the next minus that of the present, and the weights descend

    L = E[w_llm^2 e_llm^2 + w_channel^2 e_channel^2],   w_llm + w_channel = 1

At the least L given the features f, ``w_i`` is proportional to ``1 / E[e_i^2 | f]``:
inverse expected squared errors, whatever the correlation of the two. So the optimum is
known wherever the errors' variances are, as in `reliability_streams`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from m3jax import base
from m3jax.systems.m3llm import reliability

_STDS = np.array(
    [reliability.FEATURES.index(f"{s}_std") for s in ("semantic", "channel")]
)


class Trained(NamedTuple):
    """What a training gives.

    Attributes:
      params: of the network.
      losses: ``[steps]``, each of its own batch.
    """

    params: base.Params
    losses: base.Array


def inverse_error_weights(error: base.Array) -> base.Array:
    """The best weights where expected squared errors v are known.

        w_i = (1 / v_i) / (1 / v_1 + 1 / v_2)

    Args:
      error: v, at least 0, ``[..., 2]``.

    Returns:
      ``[..., 2]``, sum 1; 1/2 each if both errors are 0.

    Example:
      >>> inverse_error_weights(jnp.array([1.0, 3.0])).tolist()
      [0.75, 0.25]
    """
    total = jnp.sum(error, axis=-1, keepdims=True)
    known = total > 0.0
    return jnp.where(known, error[..., ::-1] / jnp.where(known, total, 1.0), 0.5)


def squared_errors(histories: reliability.History) -> base.Array:
    """Squared errors of both streams of histories ``[H, 2 T, ...]``, ``[H, 2]``."""
    streams = jnp.stack([histories.semantic, histories.channel], axis=-1)
    present, following = jnp.split(streams, 2, axis=1)
    return (following.mean(axis=1) - present.mean(axis=1)) ** 2


def loss(weights: base.Array, features: base.Array, error: base.Array) -> base.Array:
    """What the weights descend, each history relative to its present variances.

    The division keeps noisy histories from drowning the others. It does not move the
    optimum, since the features tell the variances.

    Args:
      weights: ``[B, 2]``.
      features: ``[B, 9]``.
      error: squared errors, or expected ones, ``[B, 2]``.

    Returns:
      Scalar.
    """
    stds = jnp.asarray(features)[:, _STDS]
    scale = jnp.sum(stds**2, axis=-1) + reliability.FLOOR**2
    return jnp.mean(jnp.sum(weights**2 * error, axis=-1) / scale)


def train(
    key: base.Array,
    histories: reliability.History,
    steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 1e-2,
    model: reliability.Reliability = reliability.MODEL,
) -> Trained:
    """Trains the network by Adam, the rate falling to 0 by a cosine.

    Args:
      key: PRNG key, consumed.
      histories: recorded or simulated, ``[H, 2 T, ...]`` with T of 3 or more.
      steps: number of updates.
      batch_size: histories in an update, drawn with replacement.
      learning_rate: at the start.
      model: the network.

    Returns:
      Its parameters and losses.

    Raises:
      ValueError: the histories' length is odd or too short, or shapes disagree.
    """
    length = jnp.shape(histories.semantic)[1]
    if length % 2:
        raise ValueError(
            "histories must have an even number of steps, half of them for the next"
            f" window; got {length}"
        )
    present = jax.tree.map(lambda leaf: leaf[:, : length // 2], histories)
    inputs = jax.vmap(reliability.features)(present)
    error = squared_errors(histories)
    return _descend(key, inputs, error, steps, batch_size, learning_rate, model)


@functools.partial(jax.jit, static_argnames=("steps", "batch_size", "model"))
def _descend(
    key: base.Array,
    inputs: base.Array,
    error: base.Array,
    steps: int,
    batch_size: int,
    learning_rate: base.Array,
    model: reliability.Reliability,
) -> Trained:
    """All updates as one program; takes features ``[H, 9]`` and errors ``[H, 2]``."""
    init_key, steps_key = jax.random.split(key)
    params = model.init(init_key, inputs[:1])
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def update(carry, key):
        params, opt_state = carry
        rows = jax.random.randint(key, (batch_size,), 0, len(inputs))

        def loss_fn(params):
            return loss(model.apply(params, inputs[rows]), inputs[rows], error[rows])

        value, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), value

    start = params, optimizer.init(params)
    keys = jax.random.split(steps_key, steps)
    (params, _), losses = lax.scan(update, start, keys)
    return Trained(params, losses)


def windows(history: reliability.History, window: int) -> reliability.History:
    """Cuts a recorded run ``[L, ...]`` into histories, each half over the one before.

    Args:
      history: of L steps, at least 2 T.
      window: T.

    Returns:
      ``[L // T - 1, 2 T, ...]``; what is left at the end is dropped.

    Raises:
      ValueError: the run is shorter than one history.
    """
    num = len(history.semantic) // window - 1
    if num < 1:
        raise ValueError(
            f"a run of {len(history.semantic)} steps is shorter than two windows of"
            f" {window}"
        )
    steps = window * jnp.arange(num)[:, None] + jnp.arange(2 * window)
    return jax.tree.map(lambda leaf: leaf[steps], history)
