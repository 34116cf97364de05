import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import bit_information, capacity, modulation, noise, soft_bits
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

SNRS_DB = np.arange(-20.0, 41.0, 4.0)


@pytest.fixture(scope="module")
def information():
    """Name -> order -> values over SNRS_DB."""

    def sweep(snr):
        return {o: bit_information.bit_information(snr, o) for o in modulation.ORDERS}

    return jax.jit(jax.vmap(sweep))(10.0 ** (SNRS_DB / 10.0))


def test_it_is_below_shannon_and_the_number_of_bits_and_grows(information):
    limit = capacity.shannon(10.0 ** (SNRS_DB / 10.0))
    for order, found in information.items():
        assert np.all(found.mean < limit + 1e-6)
        assert np.all(found.mean <= modulation.bits_per_symbol(order) + 1e-5)
        assert np.all(np.diff(found.mean) > -1e-5)


def test_it_nears_its_limits(information):
    """At -20 dB the capacity, for BPSK and QPSK; at 40 dB all bits."""
    # Of real inputs at this SNR: half the capacity of twice the SNR.
    low = 0.01
    assert float(information[2].mean[0]) == pytest.approx(
        0.5 * np.log2(1.0 + 2.0 * low), rel=1e-3
    )
    assert float(information[4].mean[0]) == pytest.approx(np.log2(1.0 + low), rel=1e-3)
    for order, found in information.items():
        num_bits = modulation.bits_per_symbol(order)
        assert float(found.mean[-1]) == pytest.approx(num_bits, abs=1e-5)
        assert float(found.variance[-1]) == pytest.approx(0.0, abs=1e-6)


def test_qpsk_is_two_bpsk_of_half_the_energy():
    of = jax.jit(bit_information.bit_information, static_argnums=1)
    two, one = of(3.0, 4), of(1.5, 2)
    np.testing.assert_allclose(two, 2.0 * np.asarray(one), rtol=1e-5)


@pytest.mark.parametrize(("order", "snr"), [(2, 1.0), (16, 8.0), (256, 60.0)])
def test_it_is_the_mean_and_variance_of_what_drawn_symbols_carry(order, snr, key):
    num_bits, num = modulation.bits_per_symbol(order), 40_000

    def draw(key):
        bit_key, noise_key = jax.random.split(key)
        sent = jax.random.bernoulli(bit_key, shape=(num, num_bits)).astype(jnp.int32)
        y = noise.add_noise(noise_key, modulation.modulate(sent, order), snr)
        llrs = soft_bits.exact_llr(y, 1.0 / snr, order)
        lost = jax.nn.softplus(-(2 * sent - 1) * llrs) / jnp.log(2.0)
        return jnp.sum(1.0 - lost, axis=-1), bit_information.bit_information(snr, order)

    carried, found = jax.jit(draw)(key)
    carried = np.asarray(carried, float)
    deviations = (carried - carried.mean()) ** 2
    for values, claimed in ((carried, found.mean), (deviations, found.variance)):
        error = values.std() / np.sqrt(num)
        assert abs(values.mean() - float(claimed)) < 5.0 * error


def test_gradients_are_slopes_and_finite_at_the_edges():
    def total(snr):
        return sum(bit_information.bit_information(snr, 16))

    slope = jax.jit(jax.grad(total))
    for snr in (0.0, 1e-6, 1e9, jnp.inf):
        gradients.assert_finite(slope(jnp.float32(snr)), f"at snr = {snr}")
    gradients.check_against_finite_differences(jax.jit(total), (np.float32(5.0),))
