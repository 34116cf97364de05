"""Contrastive losses: what belongs together attracts, the rest of the batch repels.

The batch is the algorithm here, so the arrays are those of a whole batch: ``B``
examples, and logits ``[B, B]`` whose diagonal holds the pairs that belong together.

    logits = contrastive.scale(log_scale) * contrastive.similarity(a, b)
    loss = contrastive.symmetric_info_nce(logits, valid, same)

``valid``, bool ``[B]``, is False for padding examples, which count neither as queries
nor as negatives. ``same``, bool ``[B, B]``, is True where two examples say the same
(`same_rows`): such false negatives are left out of the sums.
"""

import functools
import math

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import masks, numbers

# CLIP: a temperature of 0.07 at first, and a scale of at most 100.
INITIAL_LOG_SCALE = math.log(1.0 / 0.07)
_SHORTEST = 1e-6


def unit(x: base.Array) -> base.Array:
    """Vectors of length one, ``x / max(|x|, 1e-6)``, in float32 or wider.

    Args:
      x: ``[..., D]``, any float type.

    Returns:
      ``[..., D]``; zero for a zero vector, with a finite gradient there.
    """
    x = numbers.as_float(x, least=jnp.float32)
    # Long ones are made short first, that their squares do not overflow.
    x = x * jnp.minimum(numbers.unit_scale(numbers.peak(x, axis=-1)), 1.0)[..., None]
    square = jnp.sum(x**2, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, _SHORTEST**2))


def similarity(
    a: base.Array, b: base.Array, valid: base.Array | None = None
) -> base.Array:
    """Cosine of the angle between every two embeddings.

    Args:
      a: ``[B, D]``, queries.
      b: ``[B, D]``, keys; ``b[i]`` belongs to ``a[i]``.
      valid: bool ``[B]``; give it if padding may hold NaN.

    Returns:
      ``[B, B]`` in [-1, 1], rows for ``a``; zero where padding is concerned.
    """
    if valid is not None:
        a, b = masks.keep(a, valid), masks.keep(b, valid)
    # A scale of 100 would make the rounding of fast products visible.
    return jnp.matmul(unit(a), unit(b).T, precision=jax.lax.Precision.HIGHEST)


def scale(log_scale: base.Array, low: float = 1.0, high: float = 100.0) -> base.Array:
    """Inverse temperature from its learnable logarithm: ``exp(log_scale)``, bounded.

    The upper bound is CLIP's (Radford et al. 2021, section 2.5). At a bound and beyond
    it, a gradient whose descent would lead further out is zero and one that leads back
    passes as if there were no bound. So the parameter neither runs away nor gets stuck,
    as it would behind the zero slope of a plain clip. Reverse mode only.

    Args:
      log_scale: scalar, natural logarithm.
      low: least scale, above 0.
      high: greatest scale.

    Returns:
      Scalar in ``[low, high]``, up to rounding.

    Raises:
      ValueError: the bounds are not ``0 < low < high``.

    Example:
      >>> [round(float(scale(jnp.float32(x))), 2) for x in (INITIAL_LOG_SCALE, 9.0)]
      [14.29, 100.0]
      >>> [round(float(jax.grad(f)(9.0)), 2) for f in (scale, lambda x: -scale(x))]
      [100.0, 0.0]
    """
    if not 0 < low < high:
        raise ValueError(
            f"the bounds of a scale must be 0 < low < high, got {low} and {high}."
        )
    return jnp.exp(_bound(log_scale, math.log(low), math.log(high)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _bound(x: base.Array, low: float, high: float) -> base.Array:
    return jnp.clip(x, low, high)


def _bound_fwd(x, low, high):
    return _bound(x, low, high), x


def _bound_bwd(low, high, x, cotangent):
    # Descent moves against the gradient.
    leads_out = ((x >= high) & (cotangent < 0)) | ((x <= low) & (cotangent > 0))
    return (jnp.where(leads_out, 0.0, cotangent),)


_bound.defvjp(_bound_fwd, _bound_bwd)


def info_nce(
    logits: base.Array, valid: base.Array | None = None, same: base.Array | None = None
) -> base.Array:
    """InfoNCE in one direction: each row finds its own column, in nats.

        mean_i [ log sum_j exp(l_ij) - l_ii ]

    (van den Oord et al. 2018, equation 4.) The sum is a log-sum-exp, so logits of any
    size are safe.

    Args:
      logits: ``[B, B]``, rows for the queries.
      valid: bool ``[B]``; None: all.
      same: bool ``[B, B]``; None: no false negatives.

    Returns:
      Scalar, at least 0; log B for equal logits, and 0 if no example is valid.

    Raises:
      ValueError: shapes disagree.

    Example:
      >>> print(f"{info_nce(jnp.zeros((4, 4))):.4f}")  # log 4
      1.3863
    """
    logits, valid, seen = masked(logits, valid, same)
    total = jax.nn.logsumexp(jnp.where(seen, logits, -jnp.inf), axis=1)
    return masks.masked_mean(total - jnp.diagonal(logits), valid)


def symmetric_info_nce(
    logits: base.Array, valid: base.Array | None = None, same: base.Array | None = None
) -> base.Array:
    """Mean of `info_nce` in both directions (CLIP, Radford et al. 2021, figure 3)."""
    other = None if same is None else same.T
    return (info_nce(logits, valid, same) + info_nce(logits.T, valid, other)) / 2


def sigmoid_loss(
    logits: base.Array, valid: base.Array | None = None, same: base.Array | None = None
) -> base.Array:
    """SigLIP: each pair by itself is told to belong together or not, in nats.

        -1/B sum_ij log sigmoid(z_ij l_ij),   z_ij = 1 if i = j, else -1

    (Zhai et al. 2023, section 3.2.) The logits are ``scale * similarity + bias``; a
    bias of -10 and a scale of 10 at first keep the many negatives from dominating.

    Args:
      logits: ``[B, B]``, the bias added.
      valid: bool ``[B]``; None: all.
      same: bool ``[B, B]``; None: no false negatives.

    Returns:
      Scalar, above 0; 0 if no example is valid.

    Raises:
      ValueError: shapes disagree.
    """
    logits, valid, seen = masked(logits, valid, same)
    signs = 1 - 2 * jnp.eye(len(logits), dtype=logits.dtype)
    nats = jnp.where(seen, jax.nn.softplus(signs * logits), 0.0)
    return masks.masked_mean(jnp.sum(nats, axis=1), valid)


def literal_info_nce(cosines: base.Array, temperature: float = 0.01) -> base.Array:
    """InfoNCE as TokCom's public code has it: to compare with, not to train by.

        -mean_i log( exp(c_ii / T) / sum_j exp(c_ij / T) )

    One direction, a fixed temperature and raw exponentials. In float32 these overflow,
    and the loss is NaN, once a cosine is above ``88.72 T``, which is 0.887; it is
    infinite once a pair's own cosine lies about as far below another one or below 0.

    Args:
      cosines: ``[B, B]``, from `similarity`.
      temperature: T.

    Returns:
      Scalar; equal to ``info_nce(cosines / T)`` while it is finite.
    """
    weights = jnp.exp(cosines / temperature)
    return -jnp.mean(jnp.log(jnp.diagonal(weights) / jnp.sum(weights, axis=1)))


def information_bound(
    logits: base.Array, valid: base.Array | None = None
) -> base.Array:
    """Estimate of mutual information that on average is a lower bound, in nats.

        I(a; b) >= log B - E[InfoNCE]

    (van den Oord et al. 2018, section 2.3.) It cannot exceed log B. False negatives
    must stay in: without them it is no bound.

    Args:
      logits: ``[B, B]``, rows for the queries.
      valid: bool ``[B]``; None: all.

    Returns:
      Scalar.
    """
    count = len(logits) if valid is None else jnp.maximum(jnp.sum(valid), 1)
    return jnp.log(count) - info_nce(logits, valid)


def same_rows(x: base.Array) -> base.Array:
    """Marks examples that say the same, such as captions or answers, word for word.

    Args:
      x: ``[B, ...]``, integers.

    Returns:
      bool ``[B, B]``.

    Example:
      >>> same_rows(jnp.array([[5, 2], [7, 2], [5, 2]]))[0].tolist()
      [True, False, True]
    """
    rows = x.reshape(len(x), -1)
    return jnp.all(rows[:, None] == rows[None], axis=-1)


def masked(
    logits: base.Array, valid: base.Array | None, same: base.Array | None
) -> tuple[base.Array, base.Array, base.Array]:
    """Checks the arguments that this module's functions share, and applies the masks.

    Args:
      logits: ``[B, B]``, rows for the queries.
      valid: bool ``[B]``; None: all.
      same: bool ``[B, B]``; None: no false negatives.

    Returns:
      ``(logits, valid, seen)``: logits in float32 or wider, zero where padding is
      concerned; bool ``[B]``; and bool ``[B, B]``, True for the columns that a row is
      held against, its own always among them.

    Raises:
      ValueError: shapes disagree.
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(f"logits must be [B, B], got {list(logits.shape)}.")
    size = len(logits)
    valid = jnp.ones(size, bool) if valid is None else jnp.asarray(valid, bool)
    same = jnp.zeros((size, size), bool) if same is None else jnp.asarray(same, bool)
    if valid.shape != (size,) or same.shape != (size, size):
        raise ValueError(
            f"for {size} examples, valid must be [{size}] and same [{size}, {size}],"
            f" got {list(valid.shape)} and {list(same.shape)}."
        )
    both = valid[:, None] & valid
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    seen = (both & ~same) | jnp.eye(size, dtype=bool)
    return jnp.where(both, logits, 0.0), valid, seen
