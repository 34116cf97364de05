"""The toy task model of the environment, fitted to what real experts were measured at.

The environment judges a decision by p = g + (1 - g) sum_i w_i c_i sigmoid((SNR_i -
SNR_half) / slope) (``m3jax.envs.expert_routing.judges``). Competences and curve are
those of the experts that are shipped, so that what pays in training pays in truth.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize

from m3jax.envs.expert_routing import judges

_FAR_DB = 60.0


class Calibration(NamedTuple):
    """What was fitted.

    Attributes:
      competence: float32 ``[K, N]`` in [0, 1].
      judge: parameters of the curve.
      rmse: root of the mean square of the residuals, in probability.
    """

    competence: np.ndarray
    judge: judges.ToyParams
    rmse: float


def fit(snrs_db: np.ndarray, accuracy: np.ndarray, guess: float) -> Calibration:
    """Fits competences and one curve for all by least squares.

    Args:
      snrs_db: ``[S]``, of the link of the one expert that was asked, rising.
      accuracy: ``[K, N, S]`` of task and expert, in [0, 1].
      guess: g, accuracy on noise alone, in [0, 1).

    Returns:
      The fit.

    Raises:
      ValueError: shapes disagree, or there are fewer than three SNRs.
    """
    snrs_db, accuracy = np.asarray(snrs_db, float), np.asarray(accuracy, float)
    if accuracy.ndim != 3 or accuracy.shape[2:] != snrs_db.shape or len(snrs_db) < 3:
        raise ValueError(
            "accuracy must be [K, N, S] for at least three SNRs, got shapes"
            f" {accuracy.shape} and {snrs_db.shape}"
        )
    if not 0.0 <= guess < 1.0:
        raise ValueError(f"guess must be in [0, 1), got {guess}")
    gained = np.clip((accuracy - guess) / (1.0 - guess), 0.0, 1.0)

    def arrives(curve):
        half_db, log_slope = curve
        return 1.0 / (1.0 + np.exp(-(snrs_db - half_db) / np.exp(log_slope)))

    def competences(curve):
        """For a given curve, linear least squares, kept in [0, 1]."""
        weights = arrives(curve)
        return np.clip(gained @ weights / max(weights @ weights, 1e-12), 0.0, 1.0)

    def residuals(curve):
        return (competences(curve)[..., None] * arrives(curve) - gained).ravel()

    bounds = (-_FAR_DB, np.log(0.2)), (_FAR_DB, np.log(20.0))
    start = np.median(snrs_db), np.log(2.0)
    curve = optimize.least_squares(residuals, start, bounds=bounds).x
    rmse = (1.0 - guess) * float(np.sqrt(np.mean(residuals(curve) ** 2)))
    return Calibration(
        competences(curve).astype(np.float32),
        judges.ToyParams(float(curve[0]), float(np.exp(curve[1])), float(guess)),
        rmse,
    )
