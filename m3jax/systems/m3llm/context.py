"""The context that MCP gives a task: its tag, and which experts may matter.

Stage 1 of M3LLM (section III-A, equation 18): the question is compared with the
descriptors of the experts, and those that lie near enough pass to stage 2. Texts are
compared by the mean of their words' embeddings, words that every expert's questions
share counting little.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.foundation import answering
from m3jax.ops import retrieval


class Index(NamedTuple):
    """Experts as retrieval sees them.

    Attributes:
      words: float32 ``[V, D]``, embeddings of words, weighted.
      experts: float32 ``[N, D]``, embeddings of their descriptors.
    """

    words: base.Array
    experts: base.Array


def make_index(table: base.Array, questions: base.Array) -> Index:
    """Embeds the experts by the questions in their descriptors.

    A word that E of N experts mention weighs ``log((1 + N) / E)``, and one that nobody
    mentions nothing.

    Args:
      table: float32 ``[V, D]``, the decoder's embeddings of words.
      questions: int32 ``[N, E, Q]``, padded ids of E questions of each expert.

    Returns:
      The index.

    Raises:
      ValueError: an expert has no word, or shapes are wrong.
    """
    table, questions = np.asarray(table, np.float32), np.asarray(questions)
    if table.ndim != 2 or questions.ndim != 3:
        raise ValueError(
            "an index needs a table [V, D] and questions [N, E, Q], got shapes"
            f" {table.shape} and {questions.shape}"
        )
    num_experts = questions.shape[0]
    said = np.zeros((num_experts, table.shape[0]), bool)
    for expert, ids in enumerate(questions.reshape(num_experts, -1)):
        said[expert, ids[ids > answering.EOS]] = True
    if not said.any(axis=1).all():
        raise ValueError(f"expert {int(np.argmin(said.any(axis=1)))} has no questions")
    mentions = said.sum(axis=0)
    weight = np.log((1 + num_experts) / np.maximum(mentions, 1)) * (mentions > 0)
    words = jnp.asarray(table * weight[:, None])
    return Index(words, jnp.mean(embed(words, questions), axis=1))


def embed(words: base.Array, ids: base.Array) -> base.Array:
    """Mean of the embeddings of a text's words.

    Args:
      words: float32 ``[V, D]``.
      ids: int32 ``[*B, Q]``; PAD, BOS and EOS do not count.

    Returns:
      float32 ``[*B, D]``; zero for a text without words.
    """
    counts = (jnp.asarray(ids) > answering.EOS)[..., None]
    total = jnp.sum(jnp.asarray(words)[ids] * counts, axis=-2)
    return total / jnp.maximum(jnp.sum(counts, axis=-2), 1)


def coarse_mask(
    index: Index,
    questions: base.Array,
    num_experts: int | None = 4,
    threshold: float | None = None,
) -> base.Array:
    """Which experts pass to stage 2 (equation 18), never none.

    Args:
      index: of `make_index`.
      questions: int32 ``[Q, W]``, padded.
      num_experts: k, of the nearest; None with a threshold.
      threshold: least cosine, in place of k.

    Returns:
      bool ``[Q, N]``.

    Raises:
      ValueError: both or neither of k and threshold are given.
    """
    if (num_experts is None) == (threshold is None):
        raise ValueError("give num_experts or threshold, and None for the other")
    found = embed(index.words, questions)
    if threshold is not None:
        return retrieval.above(found, index.experts, threshold)
    return retrieval.top_k_mask(found, index.experts, num_experts)


def tag(index: Index, questions: base.Array) -> base.Array:
    """The task's category: the expert whose descriptor lies nearest, one-hot.

    Args:
      index: of `make_index`.
      questions: int32 ``[Q, W]``, padded.

    Returns:
      float32 ``[Q, N]``.
    """
    mask = coarse_mask(index, questions, num_experts=1)
    return mask.astype(jnp.float32)
