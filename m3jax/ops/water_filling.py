"""Water-filling: the best split of power among parallel channels."""

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import numbers


def powers(
    gains: base.Array, total: base.Array, weights: base.Array | None = None
) -> base.Array:
    """Splits a power budget so that the weighted sum of rates is greatest.

        maximise sum_i w_i log(1 + g_i p_i)   over p_i >= 0, sum_i p_i = P
        p_i = max(0, m w_i - 1 / g_i)

    (Cover and Thomas, Elements of Information Theory, 2006, equations 9.70 to 9.73,
    for ``w = 1``.) The water level m is found exactly, by sorting: the best k channels
    are used, with the greatest k for which the k-th still lies under water. Levels are
    measured from ``1 / max(w g)``, so that weak channels, even of gain 0, cost no
    precision.

    Args:
      gains: ``g >= 0``, SNR per unit of power, ``[..., n]``.
      total: P > 0, ``[...]`` or a scalar.
      weights: ``w >= 0``, ``[..., n]``, not all 0; all 1 if None.

    Returns:
      Powers ``[..., n]`` whose sum over the last axis is P; if ``w g`` is 0 everywhere,
      shares in proportion to w; all NaN if an argument is. Differentiable by all
      arguments wherever no channel is just at the edge of use.

    Raises:
      ValueError: if there is no channel.

    Example:
      >>> powers(jnp.array([1.0, 0.5, 0.1]), total=3.0).tolist()
      [2.0, 1.0, 0.0]
    """
    numbers.require_some(gains, "gains", axis=-1)
    weights = jnp.ones(jnp.shape(gains)) if weights is None else weights
    gains, total, weights = numbers.as_floats(gains, total, weights)
    total = total[..., None]
    depth = _depth(weights * gains, weights, total)
    order = jnp.argsort(depth, axis=-1)
    ordered, widths = (jnp.take_along_axis(v, order, -1) for v in (depth, weights))
    poured = jnp.cumsum(widths, axis=-1) * ordered
    used = poured - jnp.cumsum(widths * ordered, axis=-1) < total
    filled = jnp.sum(jnp.where(used, widths * ordered, 0.0), axis=-1, keepdims=True)
    width = jnp.sum(jnp.where(used, widths, 0.0), axis=-1, keepdims=True)
    powers = weights * jnp.maximum((total + filled) / width - depth, 0.0)
    # Comparisons with NaN chose who gets something: then nobody knows.
    unknown = jnp.any(jnp.isnan(gains * weights), axis=-1, keepdims=True)
    return jnp.where(unknown, jnp.nan, powers)


def _depth(slopes: base.Array, weights: base.Array, total: base.Array) -> base.Array:
    """``1 / s - 1 / max s``; higher than the best alone could fill, all the same."""
    best = jnp.max(slopes, axis=-1, keepdims=True)
    first = jnp.argmax(slopes, axis=-1, keepdims=True)
    highest = total / jnp.take_along_axis(weights, first, axis=-1)
    near = 1.0 - slopes / jnp.where(best > 0.0, best, 1.0) < highest * slopes
    depth = 1.0 / jnp.where(near, slopes, 1.0) - 1.0 / jnp.where(best > 0.0, best, 1.0)
    # Twice: rounding must not lift the water over those that get nothing.
    return jnp.where(best > 0.0, jnp.where(near, depth, 2.0 * highest), 0.0)
