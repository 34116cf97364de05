"""Means and rates with their confidence intervals; host side, NumPy."""

from typing import NamedTuple

import numpy as np
from scipy import special


class Interval(NamedTuple):
    """A mean (or rate) and its two-sided confidence interval.

    Attributes:
      mean: the mean over the repetitions, or the share of errors.
      low: lower end; NaN where there is one repetition only.
      high: upper end; NaN where there is one repetition only.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def student_t(values, axis: int = 0, confidence: float = 0.95) -> Interval:
    """Mean over an axis with Student's t confidence interval.

        mean +- t_{n-1, (1 + confidence)/2} s / sqrt(n)

    Args:
      values: array with ``n`` independent repetitions (seeds) along ``axis``.
      axis: the axis of the repetitions.
      confidence: probability that the interval covers the true mean, in (0, 1).

    Returns:
      An ``Interval`` of arrays without that axis, in the unit of ``values``.

    Raises:
      ValueError: if there is no repetition, or ``confidence`` is not in (0, 1).

    Example:
      >>> [round(float(v), 2) for v in student_t([1.0, 2.0, 3.0])]
      [2.0, -0.48, 4.48]
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}.")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 0 or values.shape[axis] == 0:
        raise ValueError(
            f"values of shape {values.shape} hold no repetition along axis {axis}."
        )
    num = values.shape[axis]
    mean = values.mean(axis=axis)
    if num == 1:
        unknown = np.full_like(mean, np.nan)
        return Interval(mean, unknown, unknown)
    # scipy.special, not scipy.stats: the latter takes most of a second to import.
    quantile = special.stdtrit(num - 1, 0.5 * (1.0 + confidence))
    half = quantile * values.std(axis=axis, ddof=1) / np.sqrt(num)
    return Interval(mean, mean - half, mean + half)


def clopper_pearson(errors, trials, confidence: float = 0.95) -> Interval:
    """Rate of errors in independent trials with its exact confidence interval.

        low  = B^-1(a / 2; k, n - k + 1),   high = B^-1(1 - a / 2; k + 1, n - k)

    with B the cumulative beta distribution and ``a = 1 - confidence`` (Clopper and
    Pearson, Biometrika 26(4), 1934). It covers the true rate at least as often as it
    says. No error gives ``low`` 0 and, at 95 %, ``high`` 3.7 / n.

    Args:
      errors: k, not negative; need not be whole, as where trials that depend on each
        other count for fewer.
      trials: n, at least k, broadcastable to ``errors``.
      confidence: probability that the interval covers the true rate, in (0, 1).

    Returns:
      An ``Interval`` of rates; NaN to 0 to 1 where there was no trial.

    Raises:
      ValueError: if there are more errors than trials or fewer than 0, or
        ``confidence`` is not in (0, 1).

    Example:
      >>> [round(float(v), 4) for v in clopper_pearson(8, 1000)]
      [0.008, 0.0035, 0.0157]
    """
    errors, trials, tail = _check_counts(errors, trials, confidence)
    with np.errstate(invalid="ignore"):
        rate = errors / trials
        low = special.betaincinv(errors, trials - errors + 1.0, tail)
        high = special.betaincinv(errors + 1.0, trials - errors, 1.0 - tail)
    low = np.where(errors == 0.0, 0.0, low)
    return Interval(rate, low, np.where(errors == trials, 1.0, high))


def wilson(errors, trials, confidence: float = 0.95) -> Interval:
    """Rate of errors in independent trials with Wilson's score interval.

        (k + z^2 / 2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2)

    (Journal of the American Statistical Association 22, 1927.) Narrower than
    ``clopper_pearson``: it covers the true rate as often as it says on average over
    rates, not for each of them.

    Args:
      errors: k, not negative.
      trials: n, at least k, broadcastable to ``errors``.
      confidence: probability that the interval covers the true rate, in (0, 1).

    Returns:
      An ``Interval`` of rates; NaN to 0 to 1 where there was no trial.

    Raises:
      ValueError: as ``clopper_pearson``.

    Example:
      >>> [round(float(v), 4) for v in wilson(8, 1000)]
      [0.008, 0.0041, 0.0157]
    """
    errors, trials, tail = _check_counts(errors, trials, confidence)
    z = -special.ndtri(tail)
    with np.errstate(invalid="ignore"):
        rate = errors / trials
        spread = np.nan_to_num(errors * (trials - errors) / trials)
    middle = errors + 0.5 * z**2
    half = z * np.sqrt(spread + 0.25 * z**2)
    total = trials + z**2
    low = np.clip((middle - half) / total, 0.0, 1.0)
    return Interval(rate, low, np.clip((middle + half) / total, 0.0, 1.0))


def _check_counts(errors, trials, confidence: float):
    """Float64 counts of one shape, and the probability of each tail."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}.")
    errors = np.asarray(errors, np.float64)
    trials = np.asarray(trials, np.float64)
    errors, trials = np.broadcast_arrays(errors, trials)
    if not np.all((errors >= 0.0) & (errors <= trials)):
        raise ValueError(
            f"errors must lie between 0 and the trials, got {errors} of {trials}."
        )
    return errors, trials, 0.5 * (1.0 - confidence)
