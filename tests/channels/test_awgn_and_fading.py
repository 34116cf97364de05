import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.channels import awgn, fading, noise
from m3jax.testing import gradients


@pytest.mark.parametrize("snr", [0.1, 4.0])
def test_noise_has_the_power_of_the_convention_split_evenly_on_both_axes(snr, key):
    x = jnp.zeros((100, 200), jnp.complex64)
    n = np.asarray(awgn.AWGN().apply(key, x, jnp.ones_like(x), snr))
    # The mean square of N normals has relative standard error sqrt(2 / N).
    tolerance = 5.0 * np.sqrt(2.0 / n.size)
    for axis in (n.real, n.imag):
        assert np.mean(axis**2) * 2.0 * snr == pytest.approx(1.0, rel=tolerance)
    correlation = np.mean(n.real * n.imag) * 2.0 * snr
    assert abs(correlation) < 5.0 / np.sqrt(n.size)


def test_infinite_snr_adds_exactly_nothing(key):
    x = noise.complex_normal(key, (50,))
    np.testing.assert_array_equal(noise.add_noise(key, x, jnp.inf), x)


def test_snr_slope_is_zero_at_infinity_and_right_elsewhere(key):
    x = jnp.ones((4,), jnp.complex64)

    def total(snr):
        return jnp.sum(noise.add_noise(key, x, snr).real)

    assert jax.grad(total)(jnp.inf) == 0.0
    assert jax.grad(noise.noise_power)(jnp.inf) == 0.0
    # y = x + snr^(-1/2) n, so dy/dsnr = -(y - x) / (2 snr).
    slope, expected = jax.grad(total)(2.0), -(total(2.0) - 4.0) / 4.0
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


def test_real_symbols_are_refused(key):
    with pytest.raises(TypeError, match="complex"):
        noise.add_noise(key, jnp.ones(3), 1.0)


def test_padding_leaves_the_numbers_of_the_valid_part_alone(key):
    short, long = (noise.complex_normal(key, (n, 3)) for n in (4, 7))
    np.testing.assert_array_equal(short, long[:4])


def test_rayleigh_gains_are_circular_of_unit_power_and_exponential(key):
    h = np.asarray(fading.RayleighBlock(block_length=1).generate(key, (200, 100)))
    h = h.ravel()
    assert np.mean(np.abs(h) ** 2) == pytest.approx(1.0, abs=5.0 / np.sqrt(h.size))
    assert abs(np.mean(h)) < 5.0 / np.sqrt(h.size)
    assert abs(np.mean(h**2)) < 8.0 / np.sqrt(h.size)
    assert stats.kstest(np.abs(h) ** 2, "expon").pvalue > 1e-3


def test_gains_stay_within_a_block_and_change_between_blocks(key):
    h = np.asarray(fading.RayleighBlock(block_length=4).generate(key, (3, 6))).ravel()
    blocks = [h[i : i + 4] for i in range(0, 18, 4)]
    assert all((block == block[0]).all() for block in blocks)
    assert len({block[0] for block in blocks}) == len(blocks)


def test_no_block_length_means_one_gain_per_example_drawn_anew_for_each(key):
    channel = fading.RayleighBlock()
    keys = jax.random.split(key, 8)
    h = np.asarray(jax.vmap(lambda k: channel.generate(k, (3, 2)))(keys))
    assert (h == h[:, :1, :1]).all()
    assert len(set(h[:, 0, 0])) == 8


@pytest.mark.parametrize("length", [0, -1, 2.0, "4", True])
def test_a_senseless_block_length_is_refused(length):
    with pytest.raises(ValueError, match="block_length"):
        fading.RayleighBlock(block_length=length)


def test_gradients_by_symbols_gains_and_snr_equal_finite_differences(key):
    channel = fading.RayleighBlock(block_length=2)
    x = noise.complex_normal(jax.random.fold_in(key, 1), (3, 2))
    h = noise.complex_normal(jax.random.fold_in(key, 2), (3, 2))

    @jax.jit
    def loss(x, h, snr):
        y = channel.apply(key, x, h, snr)
        return jnp.sum(jnp.sin(y.real) + y.real * y.imag**2)

    for snr in (0.01, 1.0, 1e4):
        step = 1e-5 * min(1.0, snr)  # 0.01 is near the pole at 0
        gradients.check_against_finite_differences(
            loss, (x, h, snr), step=step, rtol=1e-4
        )
