import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.ops import scores

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
MEAN = RNG.normal(size=(3, 4)).astype(np.float32)
STD = RNG.uniform(0.2, 2.0, size=(3, 4)).astype(np.float32)
VALUES = np.array([-3.0, 0.0, 0.4, 5.0], np.float32)
GRID = np.linspace(-30.0, 30.0, 60_001)


def cumulative(i, x):
    return stats.norm.cdf(x[:, None], MEAN[:, i], STD[:, i]).mean(axis=1)


def test_the_crps_is_the_integral_that_defines_it():
    found = jax.jit(scores.crps)(MEAN, STD, VALUES)
    for i, value in enumerate(VALUES):
        gap = (cumulative(i, GRID) - (value <= GRID)) ** 2
        expected = np.trapezoid(gap, GRID)
        np.testing.assert_allclose(found[i], expected, rtol=2e-3)


def test_the_crps_without_spread_is_the_absolute_error():
    found = scores.crps(MEAN[:1], np.full((1, 4), 1e-6, np.float32), VALUES)
    np.testing.assert_allclose(found, np.abs(MEAN[0] - VALUES), rtol=1e-4)


def test_likelihood_and_transform_are_those_of_the_mixture():
    density = stats.norm.pdf(VALUES, MEAN, STD).mean(axis=0)
    found = jax.jit(scores.negative_log_likelihood)(MEAN, STD, VALUES)
    np.testing.assert_allclose(found, -np.log(density), rtol=1e-5)
    transform = scores.probability_transform(MEAN, STD, VALUES)
    expected = [cumulative(i, VALUES[i : i + 1])[0] for i in range(4)]
    np.testing.assert_allclose(transform, expected, rtol=1e-4, atol=1e-6)


def test_equal_components_score_as_one():
    for score in map(jax.jit, (scores.crps, scores.negative_log_likelihood)):
        one = score(MEAN[:1], STD[:1], VALUES)
        many = score(*(np.repeat(a[:1], 5, axis=0) for a in (MEAN, STD)), VALUES)
        np.testing.assert_allclose(one, many, rtol=1e-4)


@pytest.mark.parametrize("score", [scores.crps, scores.negative_log_likelihood])
def test_no_forecast_scores_better_than_the_truth(score):
    values = np.random.default_rng(1).normal(0.5, 2.0, size=20_000).astype(np.float32)

    @jax.jit
    def mean_score(mean, std):
        full = [jnp.full((1, len(values)), v) for v in (mean, std)]
        return score(*full, values).mean()

    truth = mean_score(0.5, 2.0)
    for other in [(0.0, 2.0), (1.0, 2.0), (0.5, 1.4), (0.5, 2.8)]:
        assert truth < mean_score(*other)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_an_honest_interval_holds_as_often_as_it_says_and_a_sure_one_less(level):
    num = 20_000
    values = np.random.default_rng(2).normal(size=num).astype(np.float32)
    mean = np.zeros((1, num), np.float32)
    rates = [
        float(
            scores.covered(
                scores.probability_transform(mean, np.full_like(mean, std), values),
                level,
            ).mean()
        )
        for std in (1.0, 0.5)
    ]
    error = 4.0 * np.sqrt(level * (1.0 - level) / num)
    assert rates[0] == pytest.approx(level, abs=error)
    half = stats.norm.ppf(0.5 + 0.5 * level) * 0.5
    assert rates[1] == pytest.approx(2.0 * stats.norm.cdf(half) - 1.0, abs=0.02)


def test_wrong_shapes_and_levels_are_refused():
    for score in (
        scores.crps,
        scores.negative_log_likelihood,
        scores.probability_transform,
    ):
        with pytest.raises(ValueError, match="components first"):
            score(MEAN[0], STD[0], VALUES)
    with pytest.raises(ValueError, match="level"):
        scores.covered(VALUES, level=90)
