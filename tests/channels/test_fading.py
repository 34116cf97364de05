import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.channels import fading
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")


def generate(channel, key, shape):
    return jax.jit(channel.generate, static_argnums=1)(key, shape)


def test_a_key_gives_the_rayleigh_gains_it_gave_when_models_were_shipped(key):
    expected = [
        0.70994526 - 1.727077j,
        -0.64087725 - 1.4394435j,
        -0.5290376 + 0.145342j,
    ]
    h = generate(fading.RayleighBlock(block_length=1), key, (3,))
    np.testing.assert_allclose(h, expected, rtol=1e-5)
    h = generate(fading.RayleighBlock(), key, (2, 1))
    np.testing.assert_allclose(h, [expected[:1]] * 2, rtol=1e-6)


@pytest.mark.parametrize("k_db", [-10.0, 3.0, 12.0])
def test_rician_power_is_noncentral_chi_square_and_the_mean_is_the_line_of_sight(
    k_db, key
):
    k = 10 ** (k_db / 10)
    h = generate(fading.RicianBlock(k_db, block_length=1), key, (40_000,))
    h = np.asarray(h)
    # Per axis the scattered part has variance 1 / (2 (K + 1)).
    power = 2.0 * (k + 1.0) * np.abs(h) ** 2
    assert stats.kstest(power, stats.ncx2(df=2, nc=2.0 * k).cdf).pvalue > 1e-3
    error = 5.0 / np.sqrt(h.size)
    assert abs(np.mean(h) - np.sqrt(k / (k + 1.0))) < error / np.sqrt(k + 1.0)
    assert np.mean(np.abs(h) ** 2) == pytest.approx(1.0, abs=error)


def test_rician_fading_reaches_from_rayleigh_to_none(key):
    rayleigh = generate(fading.RayleighBlock(block_length=3), key, (4, 5))
    scattered = generate(fading.RicianBlock(-np.inf, block_length=3), key, (4, 5))
    np.testing.assert_array_equal(scattered, rayleigh)
    steady = generate(fading.RicianBlock(np.inf, block_length=3), key, (4, 5))
    np.testing.assert_array_equal(steady, np.ones((4, 5)))


def test_rician_gains_are_constant_over_a_block_and_over_an_example_without_blocks(key):
    h = generate(fading.RicianBlock(0.0, block_length=4), key, (2, 6))
    blocks = np.asarray(h).reshape(3, 4)
    assert (blocks == blocks[:, :1]).all() and len(set(blocks[:, 0])) == 3
    h = np.asarray(generate(fading.RicianBlock(0.0), key, (2, 6)))
    assert (h == h[0, 0]).all()


def test_k_may_be_traced_and_is_differentiable(key):
    @jax.jit
    def loss(k_db):
        h = fading.RicianBlock(k_db, block_length=1).generate(key, (6,))
        return jnp.sum(jnp.sin(h.real) + h.imag**2)

    gradients.check_against_finite_differences(loss, (3.0,))
    for k_db in (-jnp.inf, jnp.inf):
        assert jax.grad(loss)(k_db) == 0.0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"k_db": float("nan")}, "k_db"),
        ({"k_db": "6"}, "k_db"),
        ({"k_db": 6.0, "block_length": 0}, "block_length"),
        ({"k_db": 6.0, "block_length": 2.0}, "block_length"),
    ],
)
def test_a_senseless_rician_setting_is_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        fading.RicianBlock(**settings)
