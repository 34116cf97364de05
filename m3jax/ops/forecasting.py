"""Forecasts that cost nothing: what a learned one has to beat.

All take series ``[T, *shape]``, time first and then anything (channels, sequences), and
forecast from every step: ``result[t, k]`` is that of step ``t + k + 1`` by what was
observed up to step t, and `targets` is what came true. `kalman` has the optimum where
the series is linear and Gaussian.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import gaussians, masks, numbers


class Autoregression(NamedTuple):
    """A first-order autoregression, ``x_{t+1} = c + a x_t + e_t``.

    Attributes:
      coefficient: a, scalar.
      intercept: c, scalar.
      innovation_variance: of e, scalar.
      mean: of the series, scalar: what is forecast before anything is observed.
      variance: of the series, scalar.
    """

    coefficient: base.Array
    intercept: base.Array
    innovation_variance: base.Array
    mean: base.Array
    variance: base.Array


def targets(
    series: base.Array, num_steps: int, mask: base.Array | None = None
) -> tuple[base.Array, base.Array]:
    """What forecasts are compared with.

    Args:
      series: ``[T, *shape]``.
      num_steps: h, how many steps ahead.
      mask: bool ``[T, *shape]``, True where observed; None: everywhere.

    Returns:
      ``(values, valid)``, ``[T, h, *shape]`` each: step ``t + k + 1`` of the series,
      and whether it lies inside of the series and was observed.

    Example:
      >>> values, valid = targets(jnp.array([5.0, 6.0, 7.0]), num_steps=2)
      >>> values.tolist(), valid.astype(int).tolist()
      ([[6.0, 7.0], [7.0, 0.0], [0.0, 0.0]], [[1, 1], [1, 0], [0, 0]])
    """
    series, mask = _observed(series, mask)
    step = jnp.arange(len(series))[:, None] + jnp.arange(1, num_steps + 1)
    inside = (step < len(series)).reshape(step.shape + (1,) * (series.ndim - 1))
    step = jnp.minimum(step, len(series) - 1)
    valid = mask[step] & inside
    return masks.keep(series[step], valid), valid


def last_value(
    series: base.Array,
    num_steps: int,
    mask: base.Array | None = None,
    initial: base.Array = 0.0,
) -> base.Array:
    """Forecasts that nothing changes.

    Args:
      series: ``[T, *shape]``.
      num_steps: h, how many steps ahead.
      mask: bool ``[T, *shape]``, True where observed; None: everywhere.
      initial: forecast before the first observation.

    Returns:
      ``[T, h, *shape]``.
    """
    return moving_average(series, num_steps, 1.0, mask, initial)


def moving_average(
    series: base.Array,
    num_steps: int,
    weight: base.Array,
    mask: base.Array | None = None,
    initial: base.Array = 0.0,
) -> base.Array:
    """Forecasts an exponentially weighted moving average (EWMA).

        l_t = (1 - weight) l_{t-1} + weight x_t,   l = x at the first observation

    Args:
      series: ``[T, *shape]``.
      num_steps: h, how many steps ahead; the forecast is the same for all.
      weight: of the newest value, in (0, 1]; `fit_moving_average` chooses one.
      mask: bool ``[T, *shape]``, True where observed; None: everywhere.
      initial: forecast before the first observation.

    Returns:
      ``[T, h, *shape]``.

    Example:
      >>> x = jnp.array([4.0, 2.0])
      >>> moving_average(x, num_steps=1, weight=0.25)[:, 0].tolist()
      [4.0, 3.5]
    """
    series, mask = _observed(series, mask)

    def advance(carry, inputs):
        level, started = carry
        value, observed = inputs
        mixed = (1.0 - weight) * level + weight * value
        moved = jnp.where(started, mixed, value)
        level = jnp.where(observed, moved, level)
        return (level, started | observed), level

    start = jnp.full(series.shape[1:], initial, series.dtype)
    _, levels = lax.scan(advance, (start, jnp.zeros_like(mask[0])), (series, mask))
    return jnp.repeat(levels[:, None], num_steps, axis=1)


def fit_moving_average(
    series: base.Array, mask: base.Array | None = None, num_weights: int = 50
) -> base.Array:
    """The weight whose one-step forecasts have the least square error.

    Args:
      series: ``[T, *shape]``; all entries share the weight.
      mask: bool ``[T, *shape]``, True where observed; None: everywhere.
      num_weights: how many weights ``k / num_weights`` are tried.

    Returns:
      Scalar in (0, 1].
    """
    weights = jnp.arange(1, num_weights + 1) / num_weights
    values, valid = targets(series, 1, mask)
    errors = jax.vmap(
        lambda weight: masks.masked_mean_square(
            moving_average(series, 1, weight, mask) - values, valid
        )
    )(weights)
    return weights[jnp.argmin(errors)] + 0.0 * jnp.min(errors)  # NaN if one is


def fit_autoregression(
    series: base.Array, mask: base.Array | None = None
) -> Autoregression:
    """Fits a first-order autoregression, AR(1), by least squares.

    Noise on the observations pulls the coefficient towards 0, as in any regression on a
    noisy variable; `kalman` models that noise.

    Args:
      series: ``[T, *shape]``; all neighbours in time that are both observed count, and
        all entries share the coefficients. ``vmap`` gives each channel its own.
      mask: bool ``[T, *shape]``, True where observed; None: everywhere.

    Returns:
      An ``Autoregression``; its coefficient is 0 where the series does not vary.
    """
    series, mask = _observed(series, mask)
    pairs = mask[:-1] & mask[1:]
    before, after = series[:-1], series[1:]
    mean_before, mean_after = (masks.masked_mean(x, pairs) for x in (before, after))
    before, after = before - mean_before, after - mean_after
    variance = masks.masked_mean_square(before, pairs)
    covariance = masks.masked_mean(before * after, pairs)
    varies = ~(variance <= 0.0)  # NaN too
    coefficient = jnp.where(varies, covariance / jnp.where(varies, variance, 1.0), 0.0)
    mean = masks.masked_mean(series, mask)
    return Autoregression(
        coefficient=coefficient,
        intercept=mean_after - coefficient * mean_before,
        innovation_variance=masks.masked_mean_square(
            after - coefficient * before, pairs
        ),
        mean=mean,
        variance=masks.masked_mean_square(series - mean, mask),
    )


def autoregression(
    model: Autoregression,
    series: base.Array,
    num_steps: int,
    mask: base.Array | None = None,
) -> gaussians.Gaussian:
    """Forecasts by a first-order autoregression.

        m_{k+1} = c + a m_k,   s_{k+1}^2 = a^2 s_k^2 + s_e^2

    from the last observed value, over steps without one too.

    Args:
      model: as `fit_autoregression` gives it.
      series: ``[T, *shape]``.
      num_steps: h, how many steps ahead.
      mask: bool ``[T, *shape]``, True where observed; None: everywhere.

    Returns:
      Mean and standard deviation, ``[T, h, *shape]`` each.
    """
    series, mask = _observed(series, mask)

    def ahead(known, _):
        mean, variance = known
        mean = model.intercept + model.coefficient * mean
        variance = model.coefficient**2 * variance + model.innovation_variance
        return (mean, variance), (mean, variance)

    def advance(predicted, inputs):
        value, observed = inputs
        mean = jnp.where(observed, value, predicted[0])
        known = mean, jnp.where(observed, 0.0, predicted[1])
        return ahead(known, None)[0], lax.scan(ahead, known, length=num_steps)[1]

    shape, dtype = series.shape[1:], series.dtype
    start = tuple(jnp.full(shape, m, dtype) for m in (model.mean, model.variance))
    _, (mean, variance) = lax.scan(advance, start, (series, mask))
    return gaussians.Gaussian(mean, jnp.sqrt(variance))


def _observed(series, mask):
    """The series with zeros where it was not observed, and where it was."""
    numbers.require_some(series, "series")
    series = numbers.as_float(series)
    if mask is None:
        return series, jnp.ones(series.shape, bool)
    if jnp.shape(mask) != series.shape:
        raise ValueError(
            f"mask of shape {list(jnp.shape(mask))} must have the shape of the series,"
            f" {list(series.shape)}."
        )
    mask = jnp.asarray(mask, bool)
    return masks.keep(series, mask), mask
