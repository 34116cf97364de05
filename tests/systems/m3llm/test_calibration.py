"""The fitted task model against one that made the data."""

import numpy as np
import pytest

from m3jax.envs.expert_routing import judges
from m3jax.systems.m3llm import calibration

SNRS_DB = np.array([-10.0, -5, 0, 5, 10, 15, 25])
COMPETENCE = np.array([[0.95, 0.1, 0.5], [0.0, 0.8, 0.3]])


def accuracy(guess, half_db, slope):
    arrives = 1 / (1 + np.exp(-(SNRS_DB - half_db) / slope))
    return guess + (1 - guess) * COMPETENCE[..., None] * arrives


@pytest.mark.parametrize(("half_db", "slope"), [(4.0, 1.5), (-3.0, 4.0)])
def test_competences_and_curve_are_found(half_db, slope):
    found = calibration.fit(SNRS_DB, accuracy(0.2, half_db, slope), 0.2)
    np.testing.assert_allclose(found.competence, COMPETENCE, atol=1e-3)
    np.testing.assert_allclose(found.judge, (half_db, slope, 0.2), atol=1e-2)
    assert found.rmse < 1e-4


def test_the_environments_judge_then_says_what_was_measured():
    measured = accuracy(0.1, 5.0, 2.0)
    found = calibration.fit(SNRS_DB, measured, 0.1)
    for at, snr_db in enumerate(SNRS_DB):
        said = judges.success(
            np.eye(3)[0], found.competence[0], np.full(3, snr_db), found.judge
        )
        np.testing.assert_allclose(said, measured[0, 0, at], atol=2e-3)


def test_noise_leaves_competences_probabilities():
    noisy = accuracy(0.2, 4.0, 1.5)
    noisy += 0.1 * np.random.default_rng(0).normal(size=noisy.shape)
    found = calibration.fit(SNRS_DB, noisy, 0.2)
    assert found.competence.min() >= 0 and found.competence.max() <= 1
    np.testing.assert_allclose(found.competence, COMPETENCE, atol=0.2)
    assert 0.03 < found.rmse < 0.15


def test_bad_measurements_are_named():
    with pytest.raises(ValueError, match="at least three SNRs"):
        calibration.fit(SNRS_DB[:2], np.zeros((1, 1, 2)), 0.1)
    with pytest.raises(ValueError, match="guess must be in"):
        calibration.fit(SNRS_DB, np.zeros((1, 1, 7)), 1.0)
