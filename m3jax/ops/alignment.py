"""How well two sets of embeddings are aligned: distances, spread and retrieval.

As in `m3jax.ops.contrastive`, ``a[i]`` belongs to ``b[i]``, ``valid`` is False for
padding, and ``same`` marks examples that say the same. Embeddings are brought to unit
length first.
"""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import contrastive, masks, roots


def alignment(
    a: base.Array,
    b: base.Array,
    valid: base.Array | None = None,
    alpha: float = 2.0,
) -> base.Array:
    """Mean distance of what belongs together: ``E |a - b|^alpha``, less is better.

    (Wang and Isola 2020, section 4.1.1.)

    Args:
      a: ``[B, D]``.
      b: ``[B, D]``.
      valid: bool ``[B]``; None: all.
      alpha: power of the distance, 1 or more.

    Returns:
      Scalar in ``[0, 2^alpha]``; about 2 for unrelated embeddings, at alpha = 2.

    Raises:
      ValueError: ``alpha`` is less than 1, where the gradient at 0 is infinite.

    Example:
      >>> x = jnp.eye(3)
      >>> print(f"{alignment(x, -x):.3f}")
      4.000
    """
    if alpha < 1:
        raise ValueError(f"alpha must be 1 or more, got {alpha}.")
    valid = jnp.ones(len(a), bool) if valid is None else valid
    a, b = masks.keep(a, valid), masks.keep(b, valid)
    gap = contrastive.unit(a) - contrastive.unit(b)
    distance = roots.sqrt(jnp.sum(gap**2, axis=-1))
    return masks.masked_mean(distance**alpha, valid)


def uniformity(
    x: base.Array, valid: base.Array | None = None, t: float = 2.0
) -> base.Array:
    """How evenly embeddings fill the sphere: less is better.

        log E_{i != j} exp(-t |x_i - x_j|^2)

    (Wang and Isola 2020, section 4.1.2.)

    Args:
      x: ``[B, D]``.
      valid: bool ``[B]``; None: all.
      t: sharpness of the potential.

    Returns:
      Scalar; 0 if all are equal, ``-2 t D / (D - 1)`` for the D vertices of a simplex,
      and 0 if fewer than two examples are valid.
    """
    valid = jnp.ones(len(x), bool) if valid is None else jnp.asarray(valid, bool)
    pairs = valid[:, None] & valid & ~jnp.eye(len(x), dtype=bool)
    count = jnp.sum(pairs)
    exponents = -2.0 * t * (1.0 - contrastive.similarity(x, x, valid))
    # With no pair at all everything stands in, for a finite gradient.
    exponents = jnp.where(pairs | (count == 0), exponents, -jnp.inf)
    spread = jax.nn.logsumexp(exponents) - jnp.log(jnp.maximum(count, 1))
    return jnp.where(count > 0, spread, 0.0)


def retrieval_at_k(
    cosines: base.Array,
    k: int,
    valid: base.Array | None = None,
    same: base.Array | None = None,
) -> base.Array:
    """Whether each query finds its own key among the ``k`` most similar.

    Ties are broken at random, in expectation: embeddings that have all collapsed to one
    point score chance, ``k / B``, and not 1. Those that are NaN find nothing.

    Args:
      cosines: ``[B, B]``, rows for the queries.
      k: keys looked at, static.
      valid: bool ``[B]``; None: all.
      same: bool ``[B, B]``: these keys are passed over, being right too.

    Returns:
      float32 ``[B]`` in [0, 1], 0 for padding; the mean over the valid is recall at k.

    Raises:
      ValueError: ``k`` is less than 1, or shapes disagree.

    Example:
      >>> retrieval_at_k(jnp.array([[0.9, 0.1], [0.8, 0.7]]), k=1).tolist()
      [1.0, 0.0]
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}.")
    cosines, valid, seen = contrastive.masked(cosines, valid, same)
    own = jnp.diagonal(cosines)[:, None]
    tied = jnp.sum(seen & (cosines == own), axis=1)
    # Not "greater", which is False for a NaN.
    better = jnp.sum(seen & ~(cosines < own), axis=1) - tied
    found = jnp.clip((k - better) / jnp.maximum(tied, 1), 0.0, 1.0)
    return masks.keep(found.astype(jnp.float32), valid)
