"""Means over repetitions with their confidence intervals; host side, NumPy."""

from typing import NamedTuple

import numpy as np
from scipy import special


class Interval(NamedTuple):
    """A mean and its two-sided confidence interval.

    Attributes:
      mean: the mean over the repetitions.
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
