"""How often something failed at each SNR, and how sure that is."""

from typing import NamedTuple

import numpy as np
from scipy import special

from m3jax import base
from m3jax.evals import axes
from m3jax.ops import intervals


class ErrorCounts(NamedTuple):
    """Errors and trials at each SNR, on the host.

    Attributes:
      snrs_db: the P SNRs in dB.
      batches: int64 ``[P]``.
      errors: int64 ``[P]``.
      trials: int64 ``[P]``.
      products: int64 ``[P, 3]``, sums over the batches of errors^2, errors x trials and
        trials^2: how much batches differ.
    """

    snrs_db: tuple[float, ...]
    batches: np.ndarray
    errors: np.ndarray
    trials: np.ndarray
    products: np.ndarray

    @property
    def rate(self) -> np.ndarray:
        """Errors per trial ``[P]``; NaN without a trial."""
        with np.errstate(invalid="ignore"):
            return self.errors / self.trials

    def interval(
        self, confidence: float = 0.95, clustered: bool = False
    ) -> intervals.Interval:
        """The rate with its confidence interval, by Clopper and Pearson.

        Trials that share a fade fail together and are worth fewer than independent
        ones. ``clustered`` reads off the batches how many fewer, and takes the counts
        down to that (Korn and Graubard, Survey Methodology 24(2), 1998):

            n* = n / max(d, 1) (z / t_{B-1})^2,   d = V B n / (p (1 - p) (B - 1))

        with V the mean square of a batch's errors about p times its trials, over n^2.

        Args:
          confidence: probability that the interval covers the true rate.
          clustered: whether trials within a batch depend on each other.

        Returns:
          An ``Interval`` ``[P]``; clustered, its ends are NaN where there are not even
          two batches.
        """
        if not clustered:
            return intervals.clopper_pearson(self.errors, self.trials, confidence)
        worth = self._worth(confidence)
        known = np.isfinite(worth)
        worth = np.where(known, worth, 1.0)
        found = intervals.clopper_pearson(
            self.errors * worth, self.trials * worth, confidence
        )
        ends = (np.where(known, end, np.nan) for end in found[1:])
        return intervals.Interval(self.rate, *ends)

    def _worth(self, confidence: float) -> np.ndarray:
        """How many independent trials one trial is worth; NaN if unknown."""
        p, batches = self.rate, self.batches.astype(np.float64)
        squares = np.stack([np.ones_like(p), -2.0 * p, p**2], axis=-1)
        deviation = np.sum(squares * self.products, axis=-1)
        tail = 0.5 * (1.0 + confidence)
        with np.errstate(invalid="ignore", divide="ignore"):
            t = special.stdtrit(batches - 1.0, tail)
            variance = deviation / (batches - 1.0) * batches / self.trials
            effect = np.nan_to_num(variance / (p * (1.0 - p)), nan=1.0)
            worth = (special.ndtri(tail) / t) ** 2 / np.maximum(effect, 1.0)
        return np.where(batches > 1.0, worth, np.nan)


def to_records(
    counts: ErrorCounts,
    *,
    system: str,
    variant: str,
    seed: int = 0,
    metric: str = "bit_error_rate",
    confidence: float = 0.95,
    clustered: bool = False,
) -> list[base.Record]:
    """Lays counts out as tidy records.

    Args:
      counts: what was counted.
      system: name of the system.
      variant: what was varied.
      seed: the seed that the key was made of.
      metric: name of the rate.
      confidence: of the interval.
      clustered: see ``ErrorCounts.interval``.

    Returns:
      For each SNR the rate, ``<metric>_low`` and ``<metric>_high``, ``errors`` and
      ``trials``.
    """
    rate, low, high = counts.interval(confidence, clustered)
    columns = {
        metric: (rate, "1"),
        f"{metric}_low": (low, "1"),
        f"{metric}_high": (high, "1"),
        "errors": (counts.errors, "errors"),
        "trials": (counts.trials, "trials"),
    }
    return [
        base.Record(
            *(system, variant, axes.at(snr_db=snr_db), seed),
            *(name, float(values[i]), unit),
        )
        for i, snr_db in enumerate(counts.snrs_db)
        for name, (values, unit) in columns.items()
    ]
