import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import equalisers, noise
from m3jax.testing import gradients


@pytest.fixture(scope="module")
def sample():
    """QPSK-like unit-power symbols, fixed gain, noise of power 0.5."""
    keys = jax.random.split(jax.random.key(4), 2)
    x = jnp.exp(2j * jnp.pi * jax.random.uniform(keys[0], (40_000,)))
    h, no = 0.6 - 0.3j, 0.5
    y = h * x + np.sqrt(no) * noise.complex_normal(keys[1], x.shape)
    return x, y, h, no


def mean_square_error(x, x_hat):
    return float(np.mean(np.abs(np.asarray(x - x_hat)) ** 2))


def test_mmse_error_equals_the_closed_form(sample):
    x, y, h, no = sample
    measured = mean_square_error(x, equalisers.mmse(y, h, no))
    expected = 1.0 / (1.0 + abs(h) ** 2 / no)
    assert measured == pytest.approx(expected, rel=5.0 * np.sqrt(1.0 / x.size))


@pytest.mark.parametrize("change", [1.1, 0.9, np.exp(0.1j), np.exp(-0.1j)])
def test_no_other_coefficient_does_better_than_mmse(sample, change):
    x, y, h, no = sample
    best = equalisers.mmse(y, h, no)
    assert mean_square_error(x, best) < mean_square_error(x, change * best)


def test_zero_forcing_is_mmse_without_its_bias(sample):
    _, y, h, no = sample
    bias = abs(h) ** 2 / (abs(h) ** 2 + no)
    np.testing.assert_allclose(
        equalisers.zero_forcing(y, h), equalisers.mmse(y, h, no) / bias, rtol=1e-4
    )


@pytest.mark.parametrize("h", [0j, 1e-12 + 0j, 1e-25 + 0j])
def test_the_deepest_fade_gives_finite_values_and_gradients(h):
    def loss(y, h, no):
        both = equalisers.mmse(y, h, no) + equalisers.zero_forcing(y, h)
        return both.real + both.imag

    args = (jnp.complex64(1 + 1j), jnp.complex64(h), jnp.float32(0.0))
    value, grads = jax.value_and_grad(loss, argnums=(0, 1, 2))(*args)
    assert value == 0.0
    assert np.isfinite(grads).all()


def test_mmse_gradients_equal_finite_differences(key):
    y, h = noise.complex_normal(key, (2, 5))

    @jax.jit
    def loss(y, h, no):
        return jnp.sum(jnp.cos(equalisers.mmse(y, h, no)).real)

    gradients.check_against_finite_differences(loss, (y, h, 0.3))
