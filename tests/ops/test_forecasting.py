import jax
import numpy as np
import pytest

from m3jax.ops import forecasting, kalman

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
T, H = 12, 3
SERIES = RNG.normal(size=(T, 2)).astype(np.float32)
MASK = RNG.random((T, 2)) < 0.6
MASK[0] = [False, True]
SPOILT = np.where(MASK, SERIES, np.nan)


def observed_until(t, channel):
    return [SERIES[s, channel] for s in range(t + 1) if MASK[s, channel]]


def test_targets_are_the_series_shifted_and_know_where_it_ends():
    values, valid = jax.jit(lambda x: forecasting.targets(x, H, MASK))(SPOILT)
    for t in range(T):
        for k in range(H):
            step = t + k + 1
            inside = MASK[step] if step < T else np.zeros(2, bool)
            np.testing.assert_array_equal(valid[t, k], inside)
            expected = np.where(inside, SERIES[min(step, T - 1)], 0.0)
            np.testing.assert_array_equal(values[t, k], expected)


def test_the_last_value_is_held():
    found = jax.jit(lambda x: forecasting.last_value(x, H, MASK, initial=7.0))(SPOILT)
    for t in range(T):
        for channel in range(2):
            seen = observed_until(t, channel)
            np.testing.assert_array_equal(
                found[t, :, channel], seen[-1] if seen else 7.0
            )


def test_the_moving_average_has_exponential_weights():
    weight = 0.3
    find = jax.jit(lambda x: forecasting.moving_average(x, H, weight, MASK))
    found = find(SPOILT)
    for t in range(T):
        for channel in range(2):
            seen = observed_until(t, channel)
            if seen:
                powers = (1.0 - weight) ** np.arange(len(seen))[::-1]
                shares = np.where(np.arange(len(seen)) > 0, weight, 1.0) * powers
                assert shares.sum() == pytest.approx(1.0)
                np.testing.assert_allclose(found[t, :, channel], shares @ seen, 1e-5)


def test_the_fitted_weight_has_the_least_error_of_those_tried():
    average = jax.jit(lambda w: forecasting.moving_average(SERIES, 1, w))
    errors = [
        np.mean((average(w / 10)[:-1, 0] - SERIES[1:]) ** 2) for w in range(1, 11)
    ]
    fit_weight = jax.jit(lambda x: forecasting.fit_moving_average(x, num_weights=10))
    found = fit_weight(SERIES)
    assert float(found) == pytest.approx((1 + np.argmin(errors)) / 10)


@jax.jit
def fit(series, mask):
    return forecasting.fit_autoregression(series, mask)


def test_the_autoregression_is_the_least_squares_fit():
    model = fit(SPOILT, MASK)
    pairs = MASK[:-1] & MASK[1:]
    before, after = SERIES[:-1][pairs], SERIES[1:][pairs]
    design = np.stack([before, np.ones_like(before)], axis=1)
    solution, *_ = np.linalg.lstsq(design, after, rcond=None)
    np.testing.assert_allclose(
        [model.coefficient, model.intercept], solution, rtol=1e-4, atol=1e-5
    )
    residual = after - design @ solution
    np.testing.assert_allclose(model.innovation_variance, np.mean(residual**2), 1e-4)
    np.testing.assert_allclose(model.mean, SERIES[MASK].mean(), rtol=1e-5)


def test_a_constant_series_is_forecast_to_stay():
    model = fit(np.full((T, 2), 3.0, np.float32), np.ones((T, 2), bool))
    assert float(model.coefficient) == 0.0 and float(model.intercept) == 3.0


def test_an_autoregression_forecasts_as_a_kalman_filter_without_noise():
    a, c, variance = 0.8, 0.3, 0.5
    center = c / (1.0 - a)
    model = forecasting.Autoregression(a, c, variance, center, variance / (1 - a**2))
    found = jax.jit(lambda x: forecasting.autoregression(model, x, H, MASK))(SPOILT)
    start = np.array([0.0], np.float32)
    cov = np.array([[model.variance]], np.float32)
    exact = kalman.LinearGaussian(
        *(start, cov, np.array([[a]], np.float32), np.array([[variance]], np.float32)),
        *(np.eye(1, dtype=np.float32), np.array([[1e-8]], np.float32)),
    )

    @jax.jit
    def best(series, mask):
        known = kalman.filter(exact, series[:, None], mask[:, None])
        ahead = jax.vmap(lambda m, v: kalman.forecast(exact, m, v, H))
        return ahead(known.mean, known.cov)

    for channel in range(2):
        ahead = best(SPOILT[:, channel] - center, MASK[:, channel])
        mean, std = (a[..., channel] for a in found)
        np.testing.assert_allclose(mean, ahead.mean[..., 0] + center, 1e-4, 1e-4)
        np.testing.assert_allclose(std, np.sqrt(ahead.cov[..., 0, 0]), rtol=1e-4)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="mask"):
        forecasting.last_value(SERIES, H, MASK[:, 0])
