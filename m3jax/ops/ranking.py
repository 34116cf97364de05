"""How well scores rank what is true above what is not."""

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import numbers


def roc_auc(scores: base.Array, labels: base.Array) -> base.Array:
    """Area under the receiver operating characteristic (Mann and Whitney 1947).

        AUC = P(s+ > s-) + P(s+ = s-) / 2

    over all pairs of a true and a false entry; exact, ties included, in n log n.

    Args:
      scores: real, any shape; higher means more likely true.
      labels: bool, of the same shape.

    Returns:
      float32 scalar, 0.5 for scores that say nothing; NaN if all labels are the same,
      or a score is NaN.

    Raises:
      ValueError: shapes differ.

    Example:
      >>> float(roc_auc(jnp.array([0.1, 0.4, 0.4, 0.9]), jnp.array([0, 1, 0, 1])))
      0.875
    """
    scores, labels = numbers.as_float(scores), jnp.asarray(labels)
    if scores.shape != labels.shape:
        raise ValueError(
            f"scores {list(scores.shape)} and labels {list(labels.shape)} must be one"
            " for each entry."
        )
    scores, labels = scores.ravel(), labels.ravel().astype(bool)
    order = jnp.argsort(scores)
    scores, labels = scores[order], labels[order]
    # How many false entries lie below each place, so that counts stay whole numbers.
    falses = jnp.concatenate([jnp.zeros(1, int), jnp.cumsum(~labels)])
    below = falses[jnp.searchsorted(scores, scores, side="left")]
    up_to = falses[jnp.searchsorted(scores, scores, side="right")]
    wins = jnp.where(labels, (below + up_to) / 2, 0.0)
    area = jnp.sum(wins) / jnp.sum(labels) / jnp.sum(~labels)
    # Sorted, NaN would rank above all others.
    return jnp.where(jnp.any(jnp.isnan(scores)), jnp.nan, area)
