import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from m3jax.channels import equalisers, fading, mimo, modulation, theory
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
SNRS_DB = np.arange(-20.0, 41.0, 5.0)
NUM = 40_000


def q(x):
    return 0.5 * special.erfc(x / np.sqrt(2.0))


@functools.partial(jax.jit, static_argnames=("order", "num_branches"))
def wrong_bits(key, snr, k_db, order, num_branches):
    """Wrong bits of each symbol sent through the library's own chain, ``[NUM]``."""
    bit_key, gain_key, noise_key = jax.random.split(key, 3)
    num_bits = modulation.bits_per_symbol(order)
    bits = jax.random.bernoulli(bit_key, shape=(NUM, num_bits)).astype(jnp.int32)
    channel = fading.RicianBlock(k_db, block_length=1)
    h = channel.generate(gain_key, (NUM, num_branches))
    sent = jnp.broadcast_to(modulation.modulate(bits, order)[:, None], h.shape)
    y = channel.apply(noise_key, sent, h, snr)
    if num_branches == 1:
        x_hat = equalisers.zero_forcing(y, h)[:, 0]
    else:
        x_hat = mimo.mrc(y, h)
    return jnp.sum(modulation.demodulate(x_hat, order) != bits, axis=1)


@pytest.mark.parametrize(
    ("order", "num_branches", "k_db", "snr_db"),
    [
        (2, 1, np.inf, 4.0),
        (4, 1, np.inf, 7.0),
        (4, 1, -np.inf, 12.0),
        (16, 1, np.inf, 8.0),
        (16, 1, -np.inf, 15.0),
        (16, 1, 6.0, 12.0),
        (64, 1, np.inf, 5.0),
        (256, 1, np.inf, 22.0),
        (4, 2, -np.inf, 6.0),
        (4, 2, 3.0, 4.0),
    ],
)
def test_simulated_error_rates_equal_the_closed_forms(
    order, num_branches, k_db, snr_db, key
):
    snr, k = 10 ** (snr_db / 10), 10 ** (k_db / 10)
    wrong = np.asarray(wrong_bits(key, snr, k_db, order, num_branches))
    num_bits = modulation.bits_per_symbol(order)
    for measured, expected in (
        (wrong / num_bits, theory.bit_error_rate(snr, order, k, num_branches)),
        (wrong > 0, theory.symbol_error_rate(snr, order, k, num_branches)),
    ):
        assert measured.sum() > 50, "too few errors to tell"
        error = 4.5 * np.std(measured) / np.sqrt(NUM)
        assert abs(np.mean(measured) - float(expected)) < error


def rates(order, k, num_branches=1):
    """Bit and symbol error rates over ``SNRS_DB``, in float32."""
    snr = jnp.asarray(10 ** (SNRS_DB / 10), jnp.float32)
    return (
        jax.jit(fn, static_argnums=(1, 3))(snr, order, k, num_branches)
        for fn in (theory.bit_error_rate, theory.symbol_error_rate)
    )


@pytest.mark.parametrize("order", [2, 4])
def test_bpsk_and_qpsk_over_awgn_are_one_gaussian_tail(order):
    tail = q(np.sqrt(2.0 / modulation.bits_per_symbol(order) * 10 ** (SNRS_DB / 10)))
    by_bit, by_symbol = rates(order, np.inf)
    np.testing.assert_allclose(by_bit, tail, rtol=1e-5, atol=1e-35)
    expected = tail if order == 2 else 1.0 - (1.0 - tail) ** 2
    np.testing.assert_allclose(by_symbol, expected, rtol=1e-5, atol=1e-16)


@pytest.mark.parametrize("order", [16, 64, 256])
def test_rates_over_awgn_equal_an_enumeration_of_all_levels(order):
    """Each level sent, each region decided, each Gray label compared."""
    num_levels = int(np.sqrt(order))
    levels = 2.0 * np.arange(num_levels) - (num_levels - 1)
    labels = np.arange(num_levels) ^ (np.arange(num_levels) >> 1)
    distance = np.bitwise_count(labels[:, None] ^ labels)
    edges = np.concatenate([[-np.inf], levels[:-1] + 1.0, [np.inf]])
    sigma = np.sqrt((order - 1) / 3.0 / 10 ** (SNRS_DB / 10))[:, None, None]
    # By upper tails on either side, as a difference near 1 would lose small rates.
    low, high = ((e - levels[:, None]) / sigma for e in (edges[:-1], edges[1:]))
    region = np.where(low > 0.0, q(low) - q(high), q(-high) - q(-low))
    bits = np.log2(num_levels) * num_levels
    by_bit, by_symbol = rates(order, np.inf)
    expected = np.sum(region * distance, axis=(1, 2)) / bits
    np.testing.assert_allclose(by_bit, expected, rtol=3e-5, atol=1e-35)
    axis = np.sum(region * (distance > 0), axis=(1, 2)) / num_levels
    np.testing.assert_allclose(by_symbol, 2 * axis - axis**2, rtol=3e-5, atol=1e-35)


@pytest.mark.parametrize("num_branches", [1, 2, 4])
def test_bpsk_over_rayleigh_equals_proakis(num_branches):
    """Digital Communications, 2008, equation 13.4-15."""
    snr = 10 ** (SNRS_DB / 10)
    mu = np.sqrt(snr / (1.0 + snr))
    # 1 - mu without cancellation.
    one_minus_mu = 1.0 / ((1.0 + snr) * (1.0 + mu))
    expected = (one_minus_mu / 2.0) ** num_branches * sum(
        special.comb(num_branches - 1 + k, k) * ((1.0 + mu) / 2.0) ** k
        for k in range(num_branches)
    )
    by_bit, _ = rates(2, 0.0, num_branches)
    np.testing.assert_allclose(by_bit, expected, rtol=2e-6)


@pytest.mark.parametrize("k", [0.3, 4.0, 60.0])
def test_rates_over_rician_equal_an_integral_over_the_density_of_the_power(k):
    def averaged(conditional, snr):
        def integrand(power):
            density = stats.ncx2.pdf(2 * (1 + k) * power, 2, 2 * k) * 2 * (1 + k)
            return conditional(np.sqrt(power * snr)) * density

        parts = zip([0, 0.01, 0.1, 1], [0.01, 0.1, 1, 60 / (1 + k) + 4], strict=True)
        return sum(integrate.quad(integrand, *part, epsrel=1e-9)[0] for part in parts)

    by_bit, by_symbol = (np.asarray(rate) for rate in rates(4, k))
    for i in range(0, len(SNRS_DB), 4):
        snr = 10 ** (SNRS_DB[i] / 10)
        assert by_bit[i] == pytest.approx(averaged(q, snr), rel=2e-5)
        expected = averaged(lambda x: 2.0 * q(x) - q(x) ** 2, snr)
        assert by_symbol[i] == pytest.approx(expected, rel=2e-5)


def test_gradients_equal_finite_differences():
    @jax.jit
    def loss(snr, k):
        by_bit = theory.bit_error_rate(snr, 16, k, num_branches=2)
        return jnp.sum(by_bit + theory.symbol_error_rate(snr, 16, k))

    gradients.check_against_finite_differences(loss, (np.array([1.0, 8.0]), 0.5))


def test_the_ends_of_snr_and_k_give_finite_rates_and_gradients():
    @jax.jit
    def value_and_slopes(snr, k):
        return jax.vmap(
            jax.value_and_grad(functools.partial(theory.bit_error_rate, order=64))
        )(snr, k_factor=k)

    snr, k = jnp.array([1e-3, jnp.inf, jnp.inf]), jnp.array([0.0, 0.0, jnp.inf])
    value, slope = value_and_slopes(snr, k)
    gradients.assert_finite((value, slope), "rates and slopes")
    assert 0.4 < value[0] < 0.5 and (value[1:] < 1e-20).all()


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order"):
        theory.bit_error_rate(1.0, 8)
