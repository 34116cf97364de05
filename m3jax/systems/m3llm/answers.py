"""Whether the task model answers right, from what truly crosses the links."""

import functools

import jax
import numpy as np

from m3jax import base
from m3jax.systems.m3llm import end_to_end, experts

_BATCHES = (32, 100)
"""Situations that are answered at once: few, or many."""


def say(pool: experts.Pool, drawn: experts.Examples) -> end_to_end.Said:
    """What experts say of examples, on the device."""
    tokens = experts.encode_examples(pool, drawn)
    return jax.device_put(end_to_end.Said(tokens, drawn.question, drawn.answer))


def measure_experts(
    pool: experts.Pool, said: end_to_end.Said, snrs_db: tuple[float, ...]
) -> np.ndarray:
    """Accuracy of one expert alone over its link.

    Args:
      pool: the experts.
      said: what they say of examples.
      snrs_db: SNRs of the link.

    Returns:
      float64 ``[K, N, S]`` by task, expert and SNR.
    """
    num_experts = said.tokens.shape[2]
    found = [
        [
            answer(pool, said, np.eye(num_experts)[i], snr_db).mean(axis=1)
            for snr_db in snrs_db
        ]
        for i in range(num_experts)
    ]
    return np.moveaxis(np.array(found), (0, 1, 2), (1, 2, 0))


def answer(
    pool: experts.Pool,
    said: end_to_end.Said,
    weights: np.ndarray,
    snr_db: np.ndarray | float,
) -> np.ndarray:
    """Whether the task model answers every example right, ``[K, M]``."""
    shape = said.question.shape[:2]
    task, example = np.indices(shape)
    flat = task.ravel(), example.ravel()
    num = len(flat[0])
    weights = np.broadcast_to(np.asarray(weights, np.float32), (num, weights.shape[-1]))
    snr_db = np.broadcast_to(np.asarray(snr_db, np.float32), weights.shape)
    return answer_rows(pool, said, *flat, weights, snr_db).reshape(shape)


def answer_rows(
    pool: experts.Pool,
    said: end_to_end.Said,
    task: np.ndarray,
    example: np.ndarray,
    weights: np.ndarray,
    snr_db: np.ndarray,
) -> np.ndarray:
    """Whether the task model answers right in some situations.

    Args:
      pool: the experts.
      said: what they say of the bank's examples.
      task: int ``[B]``, of K.
      example: int ``[B]``, of the task's M.
      weights: float32 ``[B, N]``; for N above E, see ``end_to_end.make_batch``.
      snr_db: float32 ``[B, N]``.

    Returns:
      float32 ``[B]``, 1 where every word is right; B may be 0.
    """
    run = _answerer(pool.system.predict["answer"])
    count = len(task)
    if not count:
        return np.zeros(0, np.float32)
    size = next((size for size in _BATCHES if count <= size), _BATCHES[-1])
    padding = -count % size
    arrays = [
        np.pad(np.asarray(a), [(0, padding)] + [(0, 0)] * (np.ndim(a) - 1), mode="edge")
        for a in (task, example, weights, snr_db)
    ]
    right = [
        np.asarray(
            run(
                *(pool.task_model, said, jax.random.fold_in(jax.random.key(0), at)),
                *(a[at : at + size] for a in arrays),
            )
        )
        for at in range(0, count + padding, size)
    ]
    return np.concatenate(right)[:count]


@functools.cache
def _answerer(predict: base.Predict):
    """One program for all situations and parameters; who speaks has spoken already."""

    @jax.jit
    def run(task_model, said, key, *situations):
        batch = end_to_end.make_batch(said, *situations)
        return predict(task_model, batch, key)["answer_accuracy"]

    return run
