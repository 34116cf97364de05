"""What a pool's experts say of a set of examples: all that is measured starts here."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.systems.moe2 import baselines
from m3jax.systems.moe2 import pool as pool_lib

_BATCH = 250


class Table(NamedTuple):
    """M examples, and what N experts say of them, as host arrays.

    Attributes:
      question: int32 [M, Q].
      answer: int32 [M, A], padded.
      domain: int32 [M].
      embedding: float32 [M, D], of the prompts.
      log_probs: float16 [M, N, A, V], what each expert says given the words before.
      said: int32 [M, N, A], what each answers when it is asked alone.
    """

    question: np.ndarray
    answer: np.ndarray
    domain: np.ndarray
    embedding: np.ndarray
    log_probs: np.ndarray
    said: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Which expert answers what correctly alone, bool [M, N]."""
        return np.asarray(baselines.is_right(self.said, self.answer[:, None]))

    @property
    def num_experts(self) -> int:
        """N."""
        return self.said.shape[1]

    def take(self, rows: np.ndarray) -> "Table":
        """Some of the examples, by index or mask."""
        return Table(*(array[rows] for array in self))

    def token_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """What experts give to each right word, and of which example it is.

        Returns:
          ``(log_probs [I, N], example int [I])`` of the I words that there are.
        """
        index = self.answer[:, None, :, None]
        given = np.take_along_axis(self.log_probs, index, axis=-1)[..., 0]
        example, word = np.nonzero(self.answer)
        return given[example, :, word].astype(np.float32), example


def tabulate(
    pool: pool_lib.Pool,
    params: base.Params,
    arrays: Mapping[str, Any],
    tell: base.Tell = lambda share: None,
) -> Table:
    """Asks every expert about every example.

    Args:
      pool: the experts.
      params: of the pool.
      arrays: question, answer and domain, with a leading axis M.
      tell: takes the share of the work that is done.
    """
    ask, params = _asker(pool), jax.device_put(params)
    names = ("question", "answer", "domain")
    # One shape, one program: the last batch is filled up.
    count = len(arrays["question"])
    padded = {
        n: np.concatenate([arrays[n], arrays[n][: (-count) % _BATCH]]) for n in names
    }
    if count < _BATCH:
        padded = {n: arrays[n] for n in names}
    parts = []
    for part in pipeline.split_batches(padded, _BATCH):
        tell(len(parts) * _BATCH / count)
        parts.append(jax.device_get(ask(params, part["question"], part["answer"])))
    told = [np.concatenate(column)[:count] for column in zip(*parts, strict=True)]
    return Table(*(np.asarray(arrays[n]) for n in names), *told)


@functools.lru_cache(maxsize=2)
def _asker(pool: pool_lib.Pool):
    """Asks a batch; compiled once for all tables of a pool."""

    @jax.jit
    def ask(params, question, answer):
        return (
            pool.embed(params, question),
            pool.log_probs(params, question, answer).astype(jnp.float16),
            baselines.own_answers(pool, params, question, answer.shape[1]),
        )

    return ask
