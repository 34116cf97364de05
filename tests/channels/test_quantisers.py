import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.channels import quantisers


@pytest.mark.parametrize("num_bits", [2, 4, 8])
def test_quantisation_snr_is_six_decibels_a_bit(num_bits, key):
    x = jax.random.uniform(key, (50_000,), minval=-2.0, maxval=2.0)
    error = quantisers.uniform(x, num_bits, limit=2.0).values - x
    snr_db = 10.0 * np.log10(np.mean(x**2) / np.mean(error**2))
    assert snr_db == pytest.approx(20.0 * np.log10(2.0) * num_bits, abs=0.1)


def test_no_value_in_range_moves_by_more_than_half_a_step():
    x = jnp.linspace(-1.0, 1.0, 1001)
    error = jnp.abs(quantisers.uniform(x, 5).values - x)
    assert error.max() <= 1.0 / 32 + 1e-6


def test_indices_say_everything_and_cover_all_levels():
    x = jnp.linspace(-3.0, 3.0, 1001)
    values, indices = quantisers.uniform(x, 4, limit=2.0)
    assert set(indices.tolist()) == set(range(16))
    np.testing.assert_array_equal(quantisers.dequantise(indices, 4, 2.0), values)


def test_gradient_is_the_declared_surrogate():
    x = jnp.array([-1.5, -0.3, 0.0, 0.9, 1.5])
    weights = jnp.arange(1.0, 6.0)
    grad = jax.grad(lambda x: jnp.sum(weights * quantisers.uniform(x, 3).values))(x)
    np.testing.assert_array_equal(grad, [0.0, 2.0, 3.0, 4.0, 0.0])


@pytest.mark.parametrize("num_bits", [0, 17, 4.0, True, None])
def test_a_senseless_number_of_bits_is_refused(num_bits):
    with pytest.raises(ValueError, match="bits per value"):
        quantisers.check(num_bits, 1.0)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("inf"), float("nan")])
def test_a_senseless_limit_is_refused(limit):
    with pytest.raises(ValueError, match="limit"):
        quantisers.check(4, limit)


@pytest.mark.parametrize("num_bits", [2, 5])
def test_dithered_errors_are_uniform_and_know_nothing_of_the_values(num_bits, key):
    half_step = 2.0 / 2**num_bits
    inside = 2.0 - half_step
    x_key, key = jax.random.split(key)
    x = jax.random.uniform(x_key, (50_000,), minval=-inside, maxval=inside)
    x = jnp.where(jnp.arange(50_000) % 2, x, 0.3)  # half of them the same value
    error = np.asarray(quantisers.dithered(key, x, num_bits, limit=2.0).values - x)
    uniform = stats.uniform(-half_step, 2.0 * half_step).cdf
    same, spread = error[::2], error[1::2]
    assert stats.kstest(same, uniform).pvalue > 1e-3
    assert stats.kstest(spread, uniform).pvalue > 1e-3
    for power in (1, 2):  # neither the error nor its size follows the value
        link = np.corrcoef(x[1::2], spread**power)[0, 1]
        assert abs(link) < 4.5 / np.sqrt(25_000)


@pytest.mark.parametrize("num_bits", [3, 8])
def test_dithered_quantisation_snr_is_six_decibels_a_bit(num_bits, key):
    """Of a uniform input on the range without its last half steps: 2^b - 1 of them."""
    inside = 1.0 - 1.0 / 2**num_bits
    x_key, dither_key = jax.random.split(key)
    x = jax.random.uniform(x_key, (50_000,), minval=-inside, maxval=inside)
    error = quantisers.dithered(dither_key, x, num_bits).values - x
    snr_db = 10.0 * np.log10(np.mean(x**2) / np.mean(error**2))
    assert snr_db == pytest.approx(20.0 * np.log10(2.0**num_bits - 1.0), abs=0.1)


def test_a_receiver_with_the_same_key_takes_the_dither_off(key):
    x = jnp.linspace(-1.0, 1.0, 101)
    values, indices = quantisers.dithered(key, x, 4)
    received = quantisers.dequantise(indices, 4) - quantisers.dither(
        key, (101,), 4, 1.0
    )
    np.testing.assert_allclose(received, values, atol=1e-6)
