"""Losses and scores of one token sequence; ``vmap`` gives batches.

``T`` is the number of positions, ``V`` the size of the vocabulary. A position whose
mask is False counts nowhere, whatever its label holds.
"""

import jax
import jax.numpy as jnp
import optax

from m3jax import base
from m3jax.ops import masks, numbers

_NEVER = -1e4
"""Log-probability that stands for zero."""


def token_cross_entropy(
    logits: base.Array, labels: base.Array, mask: base.Array
) -> base.Array:
    """Mean negative log-likelihood of the valid tokens, in nats.

        -1/|M| sum_{t in M} log softmax(logits_t)[labels_t]

    Args:
      logits: ``[T, V]``, any float type; computed in float32 or wider.
      labels: int ``[T]``; values at masked positions may be out of range.
      mask: bool ``[T]``, True where the label counts.

    Returns:
      Scalar; 0 if no position is valid.

    Example:
      >>> logits, labels = jnp.zeros((2, 4)), jnp.array([3, -1])
      >>> print(f"{token_cross_entropy(logits, labels, labels >= 0):.4f}")
      1.3863
    """
    logits = masks.keep(logits, mask)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    labels = masks.keep(labels, mask)
    nats = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return masks.masked_mean(nats, mask)


def token_accuracy(
    predictions: base.Array, labels: base.Array, mask: base.Array
) -> base.Array:
    """Fraction of the valid tokens that are right.

    Args:
      predictions: int ``[T]``.
      labels: int ``[T]``.
      mask: bool ``[T]``, True where the label counts.

    Returns:
      Float scalar in [0, 1]; 0 if no position is valid.
    """
    return masks.masked_mean((predictions == labels).astype(jnp.float32), mask)


def exact_match(
    predictions: base.Array, labels: base.Array, mask: base.Array
) -> base.Array:
    """1 if every valid token is right, else 0.

    Args:
      predictions: int ``[T]``; what it holds at masked positions is ignored.
      labels: int ``[T]``.
      mask: bool ``[T]``, True where the label counts (the end token included).

    Returns:
      Float scalar, 0 or 1; 0 if no position is valid.
    """
    mask = jnp.asarray(mask).astype(bool)
    right = jnp.all((predictions == labels) | ~mask)
    return (right & jnp.any(mask)).astype(jnp.float32)


def score_answers(
    logits: base.Array, answer: base.Array, pad: int = 0
) -> dict[str, base.Array]:
    """Loss and accuracies of a batch of answers, teacher-forced.

    Every word right here means that greedy decoding says the same answer, since it then
    never leaves the path.

    Args:
      logits: ``[B, T, V]``.
      answer: int ``[B, T]``, its end token included, padded by ``pad``.
      pad: the label that counts nowhere.

    Returns:
      float32 ``[B]`` each: ``nll`` (nats a word), ``answer_accuracy`` (0 or 1) and
      ``word_accuracy``.
    """
    mask = answer != pad
    words = jnp.argmax(logits, axis=-1)
    return {
        "nll": jax.vmap(token_cross_entropy)(logits, answer, mask),
        "answer_accuracy": jax.vmap(exact_match)(words, answer, mask),
        "word_accuracy": jax.vmap(token_accuracy)(words, answer, mask),
    }


def answer_log_likelihood(
    logits: base.Array, answer: base.Array, pad: int = 0
) -> base.Array:
    """Log-likelihood of whole answers, not divided by their lengths.

        log p(answer) = sum_t log softmax(logits_t)[answer_t]

    It ranks the answers of a closed set. For captions, the ``nll`` of `score_answers`
    is the loss of text reconstruction.

    Args:
      logits: ``[B, T, V]``, teacher-forced.
      answer: int ``[B, T]``, its end token included, padded by ``pad``.
      pad: the label that counts nowhere.

    Returns:
      float32 ``[B]``, in nats, at most 0.
    """
    mask = answer != pad
    mean = jax.vmap(token_cross_entropy)(logits, answer, mask)
    return -mean * jnp.sum(mask, axis=1)


def score_first_words(
    logits: base.Array, answer: base.Array, pad: int = 0
) -> dict[str, base.Array]:
    """Loss and accuracy of the first word alone, as TokCom's public code scores.

    Answers that begin alike cannot be told apart, so this accuracy is at least that of
    `score_answers`.

    Args:
      logits: ``[B, T, V]``, teacher-forced.
      answer: int ``[B, T]``, padded by ``pad``.
      pad: the label that counts nowhere.

    Returns:
      float32 ``[B]`` each: ``first_word_nll`` (nats) and ``first_word_accuracy``
      (0 or 1).
    """
    scores = score_answers(logits[:, :1], answer[:, :1], pad)
    return {
        "first_word_nll": scores["nll"],
        "first_word_accuracy": scores["answer_accuracy"],
    }


def bag_of_words(
    logits: base.Array, mask: base.Array, words: base.Array, word_mask: base.Array
) -> base.Array:
    """How badly the words of a text are read off a bag of tokens, in nats a word.

        -1/|W| sum_{w in W} log( 1/|M| sum_{t in M} softmax(logits_t)[w] )

    Each valid token names one word; a word of the text may come from any of them, in no
    order. With as many kinds of tokens as words the least loss is about log |W|.

    Args:
      logits: ``[T, V]``.
      mask: bool ``[T]``, True for valid tokens.
      words: int ``[C]``.
      word_mask: bool ``[C]``, True where a word counts.

    Returns:
      Scalar; 0 if the text has no word. Without a valid token it is large and has no
      gradient.

    Example:
      >>> logits, all_three = 50.0 * jnp.eye(3), jnp.ones(3, bool)
      >>> loss = bag_of_words(logits, all_three, jnp.arange(3), all_three)
      >>> print(f"{loss:.4f}")
      1.0986
    """
    named = jax.nn.log_softmax(numbers.as_float(logits), axis=-1)[:, words * word_mask]
    named = jnp.where(mask[:, None], named, _NEVER)
    count = jnp.maximum(jnp.sum(mask), 1)
    log_share = jax.nn.logsumexp(named, axis=0) - jnp.log(count)
    return -masks.masked_mean(log_share, word_mask)
