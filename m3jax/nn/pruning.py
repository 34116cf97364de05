"""Tokens left out for real: static shapes, whole windows, and masks with a gradient.

Tokens are kept in windows of neighbours (one token, or all that a pooled token is made
of), so that a window left out is neither encoded, nor sent, nor attended to. While
training nothing is cut away: a gate of 0 hides a window from attention just as cutting
does, and its gradient tells what the window would have done.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import compressors
from m3jax.ops import masks, numbers


class Kept(NamedTuple):
    """Which windows or tokens are kept.

    Attributes:
      places: int32 [B, K], rising; past the end where nothing is kept.
      mask: bool [B, K], True where something is.
    """

    places: base.Array
    mask: base.Array


def num_kept(total: int, retention: float) -> int:
    """How many of ``total`` a retention keeps, at least one.

    Args:
      total: windows there are, n.
      retention: share that is kept, above 0 up to 1.

    Raises:
      ValueError: the retention is no such share.

    Example:
      >>> num_kept(16, 0.3)
      5
    """
    if not 0.0 < retention <= 1.0:
        raise ValueError(f"retention is {retention}; it must lie in (0, 1]")
    return max(1, numbers.ceil_ratio(retention * total, 1.0))


def window_scores(scores: base.Array, num_windows: int) -> base.Array:
    """The score of a window is that of its best token.

    Args:
      scores: [B, L] or [B, L, ...].
      num_windows: n, divides L.

    Returns:
      [B, n] or [B, n, ...].
    """
    batch, length, *rest = scores.shape
    if length % num_windows:
        raise ValueError(
            f"{num_windows} windows do not divide {length} tokens; choose a divisor."
        )
    return scores.reshape(batch, num_windows, -1, *rest).max(axis=2)


def keep_best(scores: base.Array, most: int, counts: base.Array | None = None) -> Kept:
    """Keeps the windows of the highest scores, in their own order.

    Of equal scores the earlier window wins. The choice is hard: no gradient flows.

    Args:
      scores: [B, n].
      most: windows kept at most, K; fixes the shapes.
      counts: int [B], how many of them each example keeps, may be traced; None: all.

    Example:
      >>> kept = keep_best(jnp.array([[0.1, 0.9, 0.4, 0.8]]), 3, jnp.array([2]))
      >>> kept.places.tolist(), kept.mask.tolist()
      ([[1, 3, 4]], [[True, True, False]])
    """
    valid = jnp.ones(scores.shape, bool)
    return Kept(*compressors.best_places(valid, scores, most, counts=counts))


def members(kept: Kept, window: int) -> Kept:
    """The tokens of kept windows.

    Args:
      kept: windows, [B, K].
      window: tokens of each, w.

    Returns:
      Tokens, [B, K w].

    Example:
      >>> windows = Kept(jnp.array([[1, 3]]), jnp.array([[True, True]]))
      >>> members(windows, 2).places.tolist()
      [[2, 3, 6, 7]]
    """
    batch = kept.places.shape[0]
    places = kept.places[..., None] * window + jnp.arange(window)
    mask = jnp.repeat(kept.mask, window, axis=1)
    return Kept(places.reshape(batch, -1), mask)


def gather(tokens: base.Array, kept: Kept) -> base.Array:
    """The kept of ``tokens [B, L, D]``: [B, K, D], zero where nothing is kept."""
    taken = jnp.take_along_axis(tokens, kept.places[..., None], axis=1, mode="clip")
    return masks.keep(taken, kept.mask)


def straight_through(logits: base.Array, key: base.Array | None = None) -> base.Array:
    """Gates that are 0 or 1, with the gradient of a sigmoid.

        g = 1[a > 0]            d g / d a := d sigmoid(a) / d a

    With a key gates are drawn: 1 with probability ``sigmoid(a)`` (Bengio et al. 2013),
    so that what is mostly left out is seen now and then.

    Args:
      logits: float, any shape, a.
      key: random key; None: without chance.

    Returns:
      Exactly 0 or 1, of the shape and type of ``logits``.

    Example:
      >>> straight_through(jnp.array([-2.0, 3.0])).tolist()
      [0.0, 1.0]
      >>> jax.grad(straight_through)(0.0).item()  # sigmoid'(0)
      0.25
    """
    logits = numbers.as_float(logits)
    soft = jax.nn.sigmoid(logits)
    noise = 0.0 if key is None else jax.random.logistic(key, jnp.shape(logits))
    return _as_soft((logits + noise > 0).astype(soft.dtype), soft)


@jax.custom_jvp
def _as_soft(hard: base.Array, soft: base.Array) -> base.Array:
    """``hard``, to the bit, that changes as ``soft`` does."""
    del soft
    return hard


@_as_soft.defjvp
def _as_soft_jvp(primals, tangents):
    return primals[0], tangents[1]
