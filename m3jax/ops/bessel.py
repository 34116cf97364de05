"""The Bessel function J0, the autocorrelation of fading with scatterers all around."""

import jax.numpy as jnp
import numpy as np

from m3jax import base

_FAR = 25.0
"""Where the integral hands over to the asymptotic series."""
_NUM_POINTS = 32
"""Of the midpoint rule. Its error, ``2 |J_64(x)| < 1e-18`` up to ``_FAR``, is lost in
rounding."""


def j0(x: base.Array) -> base.Array:
    """Bessel function of the first kind and order 0.

        J0(x) = (1 / pi) int_0^pi cos(x sin t) dt                      |x| <= 25
        J0(x) = sqrt(2 / (pi x)) (P cos(x - pi/4) - Q sin(x - pi/4))   |x| > 25

    (Abramowitz and Stegun, 1964, 9.1.18 and 9.2.5, P and Q to the fifth power of
    ``1 / x``.) The integrand is periodic and smooth, so that the midpoint rule
    converges faster than any power of its step.

    Args:
      x: real, any shape.

    Returns:
      Same shape; error below 1e-9, or what rounding leaves. Differentiable everywhere.

    Example:
      >>> [round(v, 4) for v in j0(jnp.array([0.0, 2.4048, 30.0])).tolist()]
      [1.0, 0.0, -0.0864]
    """
    x = jnp.abs(jnp.asarray(x, jnp.result_type(x, float)))
    near = x <= _FAR
    # Each branch sees only what it can take, so that the gradient is finite too.
    integral = _integral(jnp.where(near, x, 0.0))
    return jnp.where(near, integral, _asymptote(jnp.where(near, _FAR, x)))


def _integral(x: base.Array) -> base.Array:
    t = np.pi * (np.arange(_NUM_POINTS) + 0.5) / _NUM_POINTS
    return jnp.mean(jnp.cos(x[..., None] * np.sin(t).astype(x.dtype)), axis=-1)


def _asymptote(x: base.Array) -> base.Array:
    z = 1.0 / (8.0 * x)
    p = 1.0 - z**2 * (4.5 - z**2 * 3675.0 / 8.0)
    q = -z * (1.0 - z**2 * (37.5 - z**2 * 59535.0 / 8.0))
    phase = x - 0.25 * np.pi
    return jnp.sqrt(2.0 / (np.pi * x)) * (p * jnp.cos(phase) - q * jnp.sin(phase))
