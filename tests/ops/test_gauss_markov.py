import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import doppler
from m3jax.ops import forecasting, gauss_markov, kalman

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETTINGS = [(0.9, 1.0, 0.5), (0.99, 2.0, 8.0), (-0.5, 1.0, 0.01), (0.0, 3.0, 1.0)]


@jax.jit
def long_run(settings):
    model = gauss_markov.noisy(*settings)
    filtered = kalman.filter(model, jnp.zeros((400, 1)))
    ahead = kalman.forecast(model, filtered.mean[-1], filtered.cov[-1], 4)
    return ahead.state_cov[:, 0, 0], ahead.cov[:, 0, 0]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_closed_form_is_where_the_filter_settles(settings):
    states, observations = long_run(jnp.array(settings))
    for step in (1, 2, 4):
        expected = gauss_markov.least_error(*settings, num_steps=step)
        np.testing.assert_allclose(states[step - 1], expected, rtol=1e-5)
        np.testing.assert_allclose(observations[step - 1], expected + settings[2], 1e-5)


def test_the_ends_are_the_variance_and_what_is_fresh():
    assert float(gauss_markov.least_error(0.0, 3.0, 1.0)) == pytest.approx(3.0)
    noiseless = float(gauss_markov.least_error(0.8, 1.0, 1e-9))
    assert noiseless == pytest.approx(1.0 - 0.8**2)
    noisy = float(gauss_markov.least_error(0.8, 1.0, 1e7))
    assert noisy == pytest.approx(1.0)
    with pytest.raises(ValueError, match="num_steps"):
        gauss_markov.least_error(0.8, 1.0, 1.0, num_steps=0)


def test_on_the_gauss_markov_channel_nothing_forecasts_better(key):
    """Against the channel itself: an axis of a gain of unit power, seen with noise."""
    r, noise, length, num = 0.95, 0.2, 60, 300
    gain_key, noise_key = jax.random.split(key)
    channel = doppler.GaussMarkov(r)

    @jax.jit
    def errors(gain_key, noise_key):
        gains = jax.vmap(lambda k: channel.generate(k, (length,)))(
            jax.random.split(gain_key, num)
        )
        state = gains.real.T
        seen = state + jnp.sqrt(noise) * jax.random.normal(noise_key, state.shape)
        model = gauss_markov.noisy(r, 0.5, noise)
        run = jax.vmap(lambda y: kalman.filter(model, y[:, None]), 1, 1)(seen)
        best = run.predicted_mean[11:, :, 0]
        fitted = forecasting.fit_autoregression(seen)
        others = (
            forecasting.last_value(seen, 1)[10:-1, 0],
            forecasting.moving_average(
                seen, 1, forecasting.fit_moving_average(seen, num_weights=20)
            )[10:-1, 0],
            forecasting.autoregression(fitted, seen, 1).mean[10:-1, 0],
        )
        return [jnp.mean((f - state[11:]) ** 2) for f in (best, *others)]

    best, *others = map(float, errors(gain_key, noise_key))
    expected = float(gauss_markov.least_error(r, 0.5, noise))
    assert best == pytest.approx(expected, rel=0.05)
    assert best < min(others)
