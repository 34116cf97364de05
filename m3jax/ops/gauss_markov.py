"""The Gauss-Markov process seen through noise: where the best forecast is known."""

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import kalman


def noisy(
    correlation: base.Array, variance: base.Array, noise_variance: base.Array
) -> kalman.LinearGaussian:
    """A stationary Gauss-Markov process that is seen through white noise.

        x_{t+1} = r x_t + sqrt(1 - r^2) s w_t,   x_0 ~ N(0, s^2),   y_t = x_t + v_t

    That is shadowing in decibels (M3LLM, equation 7), and either axis of a complex gain
    of unit power with ``variance = 1/2``.

    Args:
      correlation: r in [-1, 1], scalar.
      variance: s^2, scalar.
      noise_variance: of v_t, scalar above 0.

    Returns:
      A model with one state and one observed value.

    Example:
      >>> model = noisy(0.9, 1.0, 0.5)
      >>> y = jnp.array([[1.0], [0.5]])
      >>> [round(float(m), 3) for m in kalman.filter(model, y).mean[:, 0]]
      [0.667, 0.552]
    """
    r, s2, noise = (
        jnp.asarray(v)[None, None] for v in (correlation, variance, noise_variance)
    )
    fresh = (1.0 - r) * (1.0 + r) * s2
    one = jnp.ones_like(fresh)
    return kalman.LinearGaussian(jnp.zeros_like(fresh[0]), s2, r, fresh, one, noise)


def least_error(
    correlation: base.Array,
    variance: base.Array,
    noise_variance: base.Array,
    num_steps: int = 1,
) -> base.Array:
    """Least mean square error of a forecast of the state, once the start is forgotten.

        P = r^2 P v / (P + v) + (1 - r^2) s^2
        E_h = r^(2 (h - 1)) P + (1 - r^(2 (h - 1))) s^2

    The first is the Riccati equation of `noisy`, a quadratic one. No forecast of
    the state from the observations has a smaller error. Forecasts of the next
    observation err by ``noise_variance`` more.

    Args:
      correlation: r, any shape.
      variance: s^2, broadcastable.
      noise_variance: v, broadcastable.
      num_steps: h, how many steps ahead, at least 1.

    Returns:
      ``E_h`` in the unit of the variances, of the broadcast shape.

    Raises:
      ValueError: if ``num_steps`` is less than 1.

    Example:
      >>> round(float(least_error(0.9, 1.0, 0.5)), 4)
      0.3594
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    r2 = jnp.square(jnp.asarray(correlation))
    fresh, half = (1.0 - r2) * variance, 0.5 * (1.0 - r2) * (variance - noise_variance)
    root = jnp.sqrt(half**2 + fresh * noise_variance)
    # The sum, or the product of both roots by it: neither loses digits.
    stable = fresh * noise_variance / jnp.where(half > 0.0, 1.0, root - half)
    one_step = jnp.where(half > 0.0, half + root, stable)
    kept = r2 ** (num_steps - 1)
    return kept * one_step + (1.0 - kept) * variance
