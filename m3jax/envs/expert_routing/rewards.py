"""The rewards of M3LLM, equations 8 to 17, one function each.

All are of one step and one environment: weights ``[N]`` of N experts, and the SNRs of
their links. Where the paper's form leaves [0, 1] or mixes units, ours is the default
and the printed one is ``literal=True``.
"""

import math

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import masks, roots, units

EPSILON = 1e-6
"""The stability constant of M3LLM."""
# A fifth of five equal weights must pass a threshold of 0.2 whatever it is rounded to.
_ROUNDING = 1e-6


def passes(weights: base.Array, threshold: base.Array) -> base.Array:
    """Which weights reach a threshold, bool ``[N]``, up to rounding; NaN does not."""
    return weights >= threshold - _ROUNDING


def activation(
    weights: base.Array, core: base.Array, threshold: base.Array
) -> base.Array:
    """R_1: share of the core experts that are active (equation 9).

    Args:
      weights: ``[N]``.
      core: bool ``[N]``.
      threshold: theta_act.

    Returns:
      Scalar in [0, 1]; 1 if no expert is core.

    Example:
      >>> core = jnp.array([True, True, False])
      >>> float(activation(jnp.array([0.9, 0.1, 0.0]), core, 0.2))
      0.5
    """
    share = masks.masked_mean(passes(weights, threshold).astype(jnp.float32), core)
    return jnp.where(jnp.any(core), share, 1.0)


def suppression(
    weights: base.Array, irrelevant: base.Array, threshold: base.Array
) -> base.Array:
    """R_2: share of the irrelevant experts that are silent (equation 10).

    Args:
      weights: ``[N]``.
      irrelevant: bool ``[N]``.
      threshold: theta_sup.

    Returns:
      Scalar in [0, 1]; 1 if no expert is irrelevant.
    """
    # Of a weight that is NaN nobody can say that it is silent.
    heard = passes(weights, threshold) | jnp.isnan(weights)
    return 1.0 - masks.masked_mean(heard.astype(jnp.float32), irrelevant)


def concentration(
    weights: base.Array, core: base.Array, literal: bool = False
) -> base.Array:
    """R_3: the core's share of the weight, less if the weight is spread (equation 11).

        R_3 = sum_core w / sum w  *  (1 - H(w) / log N)

    Args:
      weights: ``[N]``, non-negative.
      core: bool ``[N]``.
      literal: ``1 - H(w)``, which falls to -0.95 for seven equal weights.

    Returns:
      Scalar, in [0, 1] unless literal; 0 for weights of 0.
    """
    total = jnp.sum(weights)
    p = weights / jnp.where(total <= 0.0, 1.0, total)
    spread = entropy(p) / (1.0 if literal else _log_count(p))
    return jnp.sum(masks.keep(p, core)) * (1.0 - spread)


def quality(
    snr_db: base.Array,
    active: base.Array,
    bounds_db: tuple[base.Array, base.Array],
    literal: bool = False,
) -> base.Array:
    """Q: mean SNR of active links, from least to greatest (equation 14).

        Q = mean_A (SNR - SNR_min) / (SNR_max - SNR_min),   in dB

    Args:
      snr_db: ``[N]``.
      active: bool ``[N]``.
      bounds_db: SNR_min and SNR_max.
      literal: not clipped to [0, 1].

    Returns:
      Scalar; 0 if no link is active.
    """
    mean = masks.masked_mean(normalised(snr_db, bounds_db), active)
    return mean if literal else jnp.clip(mean, 0.0, 1.0)


def stability(
    snr_db: base.Array,
    active: base.Array,
    bounds_db: tuple[base.Array, base.Array],
    literal: bool = False,
) -> base.Array:
    """S: how alike the active links are (equation 15).

        S = 1 - std_A(normalised SNR) / (Q + eps),   clipped to [0, 1]

    Args:
      snr_db: ``[N]``.
      active: bool ``[N]``.
      bounds_db: SNR_min and SNR_max.
      literal: the deviation in dB over the normalised mean, not clipped: -15 for 8 dB
        and a mean of 0.5.

    Returns:
      Scalar; 1 if one link is active or all active ones are equal, 0 if none is.
    """
    low, high = bounds_db
    deviation = _deviation(snr_db, active) / (1.0 if literal else high - low)
    mean = quality(snr_db, active, bounds_db, literal)
    value = 1.0 - deviation / (mean + EPSILON)
    value = value if literal else jnp.clip(value, 0.0, 1.0)
    return jnp.where(jnp.any(active), value, 0.0)


def balance(
    weights: base.Array, active: base.Array, literal: bool = False
) -> base.Array:
    """D: how evenly the active links are used (equation 16).

        D = -sum_A p log p / log N,   p = w / sum_A w

    Args:
      weights: ``[N]``, non-negative.
      active: bool ``[N]``.
      literal: not divided by log N, so up to 1.95 for seven links.

    Returns:
      Scalar; 0 if at most one link is active.
    """
    used = masks.keep(weights, active)
    total = jnp.sum(used)
    p = used / jnp.where(total <= 0.0, 1.0, total)
    return entropy(p) / (1.0 if literal else _log_count(p))


def efficiency(
    snr_db: base.Array,
    active: base.Array,
    max_snr_db: base.Array,
    literal: bool = False,
) -> base.Array:
    """E: spectral efficiency of the active links over the best one's (equation 17).

        E = mean_A log2(1 + SNR) / log2(1 + SNR_max),   SNR linear

    Args:
      snr_db: ``[N]``.
      active: bool ``[N]``.
      max_snr_db: SNR_max.
      literal: SNRs in dB, as equation 14 has them (below 0 dB as 0), and not clipped.

    Returns:
      Scalar, in [0, 1] unless literal; 0 if no link is active.
    """
    if literal:
        snr, best = jnp.maximum(snr_db, 0.0), max_snr_db
    else:
        snr, best = units.db_to_lin(snr_db), units.db_to_lin(max_snr_db)
    value = masks.masked_mean(jnp.log1p(snr), active) / jnp.log1p(best)
    return value if literal else jnp.clip(value, 0.0, 1.0)


def normalised(
    snr_db: base.Array, bounds_db: tuple[base.Array, base.Array]
) -> base.Array:
    """SNRs with 0 at the least and 1 at the greatest of two bounds, not clipped."""
    low, high = bounds_db
    return (snr_db - low) / (high - low)


def weighted(
    parts: tuple[base.Array, ...], weights: tuple[base.Array, ...]
) -> base.Array:
    """The sum of equation 8 or 13.

    Raises:
      ValueError: there are not as many weights as parts.
    """
    return sum(w * part for w, part in zip(weights, parts, strict=True))


def entropy(p: base.Array) -> base.Array:
    """``-sum p log p`` in nats, with finite gradients where p is 0."""
    safe = jnp.where(p <= 0.0, 1.0, p)
    return -jnp.sum(safe * jnp.log(safe))


def _deviation(x: base.Array, active: base.Array) -> base.Array:
    """Standard deviation of the active numbers, exactly 0 where they are equal.

    The mean of equal numbers is not always that number, and a compiled program may
    round ``x`` differently in two places. A quotient by the stability constant shows
    such a rounding a million times larger.
    """
    # Counted from the greatest, so that the order of links changes nothing.
    origin = jnp.max(jnp.where(active, x, -jnp.inf))
    gaps = masks.keep(x - jax.lax.stop_gradient(origin), active)
    several = jnp.sum(active) > 1
    gaps = jnp.where(several, gaps, 0.0)
    mean = masks.masked_mean(gaps, active)
    return roots.sqrt(masks.masked_mean((gaps - mean) ** 2, active))


def _log_count(p: base.Array) -> float:
    """Log N; of a single expert 1, since its entropy is 0 anyway."""
    return math.log(p.shape[0]) if p.shape[0] > 1 else 1.0
