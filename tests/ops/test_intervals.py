import numpy as np
import pytest
from scipy import stats

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


COUNTS = [(0, 10), (1, 10), (3, 1000), (500, 1000), (10, 10), (123456, 10**9)]


@pytest.mark.parametrize(("errors", "trials"), COUNTS)
@pytest.mark.parametrize(
    ("ours", "method"),
    [(intervals.clopper_pearson, "exact"), (intervals.wilson, "wilson")],
)
def test_rates_have_the_intervals_of_scipy(errors, trials, ours, method):
    found = ours(errors, trials, confidence=0.9)
    theirs = stats.binomtest(errors, trials).proportion_ci(0.9, method)
    np.testing.assert_allclose(found, [errors / trials, *theirs], rtol=1e-6, atol=1e-15)


def test_clopper_pearson_covers_every_rate_at_least_as_often_as_it_says():
    """By enumeration: each outcome of 60 trials, weighted by its probability."""
    rates = np.linspace(0.001, 0.999, 99)
    outcomes = np.arange(61)
    _, low, high = intervals.clopper_pearson(outcomes, 60)
    inside = (low <= rates[:, None]) & (rates[:, None] <= high)
    chances = stats.binom.pmf(outcomes, 60, rates[:, None])
    assert np.sum(chances * inside, axis=1).min() >= 0.95


def test_no_trial_says_nothing():
    for interval in (intervals.clopper_pearson, intervals.wilson):
        mean, low, high = interval([0, 1], [0, 2])
        assert np.isnan(mean[0]) and (low[0], high[0]) == (0.0, 1.0)
        assert mean[1] == 0.5


@pytest.mark.parametrize("counts", [(-1, 10), (11, 10)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="between 0 and the trials"):
        intervals.wilson(*counts)
    with pytest.raises(ValueError, match="confidence"):
        intervals.clopper_pearson(1, 2, confidence=95)
