import numpy as np
import pytest

from m3jax.ops import intervals


def test_interval_equals_the_tabulated_quantile():
    # Student's t, 4 degrees of freedom, 97.5 %: 2.776 in any table.
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    mean, low, high = intervals.student_t(values)
    half = 2.776445 * np.std(values, ddof=1) / np.sqrt(5.0)
    np.testing.assert_allclose([mean, low, high], [3.0, 3.0 - half, 3.0 + half], 1e-6)


def test_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(size=(5, 4000))
    _, low, high = intervals.student_t(draws, axis=0, confidence=0.9)
    covered = np.mean((low < 0.0) & (0.0 < high))
    assert abs(covered - 0.9) < 4.0 * np.sqrt(0.09 / 4000)


def test_one_repetition_has_a_mean_and_no_interval():
    mean, low, high = intervals.student_t(np.array([[0.5, 0.75]]))
    np.testing.assert_array_equal(mean, [0.5, 0.75])
    assert np.isnan(low).all() and np.isnan(high).all()


@pytest.mark.parametrize("values", [[], 1.0])
def test_no_repetition_is_refused(values):
    with pytest.raises(ValueError, match="no repetition"):
        intervals.student_t(values)


def test_a_confidence_in_percent_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        intervals.student_t([1.0, 2.0], confidence=95)
