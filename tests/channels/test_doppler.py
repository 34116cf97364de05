import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from m3jax.channels import blocks, doppler, fading, noise
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")


def generate(channel, key, shape):
    return jax.jit(channel.generate, static_argnums=1)(key, shape)


def draw_many(channel, key, num_draws, num_uses):
    """Gains ``[num_draws, num_uses]`` of as many examples."""
    keys = jax.random.split(key, num_draws)
    return np.asarray(
        jax.jit(jax.vmap(lambda k: channel.generate(k, (num_uses,))))(keys)
    )


def autocorrelation(h):
    """``E[h_{t+d} conj(h_t)]`` over draws, from the first use and up to the last."""
    from_start = np.mean(h * np.conj(h[:, :1]), axis=0)
    to_end = np.mean(h[:, -1:] * np.conj(h[:, ::-1]), axis=0)
    return from_start, to_end


@pytest.mark.parametrize("num_paths", [4, 16])
def test_jakes_autocorrelation_is_j0_from_any_start(num_paths, key):
    num_draws, rate = 20_000, 0.05
    h = draw_many(doppler.Jakes(rate, num_paths=num_paths), key, num_draws, 24)
    expected = special.j0(2.0 * np.pi * rate * np.arange(24))
    for measured in autocorrelation(h):
        # A product of two unit-power gains has a variance below 2, |.| of both axes.
        assert np.abs(measured - expected).max() < 5.0 * np.sqrt(2.0 / num_draws)


def test_jakes_gains_have_the_moments_of_a_sum_of_paths(key):
    num_draws, num_paths = 20_000, 4
    h = draw_many(doppler.Jakes(0.1, num_paths=num_paths), key, num_draws, 3)[:, 2]
    error = 5.0 / np.sqrt(num_draws)
    assert abs(np.mean(h)) < error and abs(np.mean(h**2)) < 2.0 * error
    assert np.mean(np.abs(h) ** 2) == pytest.approx(1.0, abs=error)
    fourth = np.abs(h) ** 4
    expected = 2.0 - 1.0 / num_paths
    assert abs(np.mean(fourth) - expected) < error * np.std(fourth)


@pytest.mark.parametrize("r", [0.95, -0.4])
def test_gauss_markov_autocorrelation_is_r_to_the_lag_and_stationary(r, key):
    num_draws = 20_000
    h = draw_many(doppler.GaussMarkov(r, block_length=2), key, num_draws, 20)
    assert (h[:, ::2] == h[:, 1::2]).all()
    h = h[:, ::2]
    for measured in autocorrelation(h):
        error = np.abs(measured - r ** np.arange(10))
        assert error.max() < 5.0 * np.sqrt(2.0 / num_draws)
    power = np.mean(np.abs(h) ** 2, axis=0)
    assert np.abs(power - 1.0).max() < 5.0 / np.sqrt(num_draws)


def test_gauss_markov_gains_follow_the_recursion_step_by_step(key):
    r, num_uses = 0.8, 37
    w = np.asarray(noise.complex_normal(key, (num_uses,)))
    expected = w.copy()
    for b in range(1, num_uses):
        expected[b] = r * expected[b - 1] + np.sqrt(1.0 - r**2) * w[b]
    h = generate(doppler.GaussMarkov(r), key, (num_uses,))
    np.testing.assert_allclose(h, expected, rtol=1e-4, atol=1e-6)


def test_gauss_markov_reaches_from_fresh_gains_to_a_single_one(key):
    fresh = generate(doppler.GaussMarkov(0.0, block_length=3), key, (4, 5))
    expected = generate(fading.RayleighBlock(block_length=3), key, (4, 5))
    np.testing.assert_array_equal(fresh, expected)
    h = np.asarray(generate(doppler.GaussMarkov(1.0), key, (4, 5)))
    assert (h == h[0, 0]).all()


def test_jakes_without_motion_has_one_gain(key):
    h = np.asarray(generate(doppler.Jakes(0.0), key, (4, 5)))
    assert (h == h[0, 0]).all()


@pytest.mark.parametrize(
    "channel", [doppler.GaussMarkov(0.9, 2), doppler.Jakes(0.05, 2, num_paths=5)]
)
def test_padding_leaves_the_gains_of_the_valid_part_alone(channel, key):
    short, long = (generate(channel, key, (num, 3)) for num in (4, 7))
    np.testing.assert_allclose(short, long[:4], rtol=1e-6)


def test_neighbouring_blocks_of_both_models_agree_in_their_correlation():
    # J0 = 1 - x^2 / 4 + x^4 / 64 for small x.
    x = 2.0 * np.pi * 0.004 * 25
    expected = 1.0 - x**2 / 4.0 + x**4 / 64.0
    assert doppler.correlation(0.004, lag=25) == pytest.approx(expected, abs=1e-4)


def test_a_car_at_108_km_per_hour_has_100_hz_at_1_ghz():
    rate = doppler.from_speed(speed=108 / 3.6, carrier=1e9, symbol_time=1e-3)
    assert rate == pytest.approx(0.100069, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "setting"),
    [(doppler.GaussMarkov, 0.7), (doppler.Jakes, 0.03)],
)
def test_gains_are_differentiable_by_how_fast_they_change(make, setting, key):
    @jax.jit
    def loss(setting):
        h = make(setting).generate(key, (9,))
        return jnp.sum(jnp.sin(h.real) + h.imag**2)

    gradients.check_against_finite_differences(loss, (setting,))


def test_the_ends_of_correlation_have_finite_gradients(key):
    def total(r):
        return jnp.sum(doppler.GaussMarkov(r).generate(key, (5,)).real)

    slopes = jax.jit(jax.vmap(jax.grad(total)))(jnp.array([-1.0, 0.0, 1.0]))
    assert np.isfinite(slopes).all()


def test_run_index_finds_the_blocks_that_spread_made(key):
    gains = noise.complex_normal(key, (blocks.count((3, 6), 4),))
    h = blocks.spread(gains, 4, (3, 6))
    np.testing.assert_array_equal(blocks.run_index(h), np.arange(18) // 4)


@pytest.mark.parametrize(
    ("make", "settings", "named"),
    [
        (doppler.GaussMarkov, {"correlation": 1.1}, "correlation"),
        (doppler.GaussMarkov, {"correlation": float("nan")}, "correlation"),
        (doppler.GaussMarkov, {"correlation": 0.5, "block_length": None}, "block_"),
        (doppler.Jakes, {"doppler": -0.1}, "doppler"),
        (doppler.Jakes, {"doppler": 0.1, "block_length": 0}, "block_length"),
        (doppler.Jakes, {"doppler": 0.1, "num_paths": 0}, "num_paths"),
    ],
)
def test_a_senseless_setting_is_refused(make, settings, named):
    with pytest.raises(ValueError, match=named):
        make(**settings)
