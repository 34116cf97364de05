import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.channels import awgn, bits, equalisers, fading, modulation

pytestmark = pytest.mark.usefixtures("quick_compilation")
MODULATE = jax.jit(modulation.modulate, static_argnums=1)
DEMODULATE = jax.jit(modulation.demodulate, static_argnums=1)


@functools.cache
def constellation(order):
    """All labels as bits [M, log2 M] and their symbols [M]."""
    places = np.arange(order)[:, None]
    labels = places >> np.arange(modulation.bits_per_symbol(order) - 1, -1, -1) & 1
    return labels, np.asarray(MODULATE(labels, order))


@pytest.mark.parametrize("order", modulation.ORDERS)
def test_constellation_has_unit_energy_and_returns_its_own_bits(order):
    labels, points = constellation(order)
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1.0, rel=1e-5)
    assert np.mean(points) == pytest.approx(0.0, abs=1e-6)
    assert len(set(np.round(points, 4))) == order
    np.testing.assert_array_equal(DEMODULATE(points, order), labels)


@pytest.mark.parametrize("order", modulation.ORDERS)
def test_nearest_neighbours_differ_in_one_bit(order):
    labels, points = constellation(order)
    distance = np.abs(points[:, None] - points[None])
    nearest = np.min(distance[distance > 1e-4])
    side = int(np.sqrt(order))
    neighbours = np.argwhere(np.abs(distance - nearest) < 1e-3)
    assert len(neighbours) == (2 if order == 2 else 4 * side * (side - 1))
    for a, b in neighbours:
        assert np.sum(labels[a] != labels[b]) == 1


@pytest.mark.parametrize("order", [2, 16, 256])
def test_decisions_are_those_of_exhaustive_search(order, key):
    labels, points = constellation(order)
    received = 1.5 * np.asarray(jax.random.normal(key, (300,), jnp.complex64))
    nearest = np.argmin(np.abs(received[:, None] - points[None]), axis=1)
    np.testing.assert_array_equal(DEMODULATE(received, order), labels[nearest])


@pytest.mark.parametrize("order", modulation.ORDERS)
def test_levels_and_labels_of_an_axis_are_those_of_the_symbols(order):
    levels, axis_labels = modulation.axis_levels(order), modulation.axis_labels(order)
    labels, points = constellation(order)
    for level, label in zip(levels, axis_labels, strict=True):
        has_label = np.all(labels[:, : label.size] == label, axis=1)
        np.testing.assert_allclose(points.real[has_label], level, rtol=1e-6)


def test_bpsk_is_minus_and_plus_one_on_the_real_axis():
    assert MODULATE(np.array([[0], [1]]), 2).tolist() == [-1.0 + 0.0j, 1.0 + 0.0j]
    received = np.array([-0.1 + 3j, 0.1 - 3j], np.complex64)
    assert DEMODULATE(received, 2).tolist() == [[0], [1]]


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def measured_symbol_errors(channel, order, snr, key, num_symbols=40_000):
    """Fraction of wrong symbols."""
    bit_key, gain_key, noise_key = jax.random.split(key, 3)
    shape = (num_symbols, modulation.bits_per_symbol(order))
    sent = jax.random.bernoulli(bit_key, shape=shape).astype(jnp.int32)
    x = modulation.modulate(sent, order)
    h = channel.generate(gain_key, x.shape)
    y = channel.apply(noise_key, x, h, snr)
    got = modulation.demodulate(equalisers.zero_forcing(y, h), order)
    return jnp.mean(jnp.any(got != sent, axis=-1))


def assert_rate(measured, expected, num_symbols=40_000):
    error = np.sqrt(expected * (1.0 - expected) / num_symbols)
    assert abs(float(measured) - expected) < 5.0 * error


@pytest.mark.parametrize(
    ("order", "snr_db"), [(4, 0.0), (4, 8.0), (16, 8.0), (16, 15.0), (64, 18.0)]
)
def test_symbol_errors_over_awgn_equal_the_closed_form(order, snr_db, key):
    snr = 10.0 ** (snr_db / 10.0)
    inner = 1.0 - 1.0 / np.sqrt(order)
    per_axis = 2.0 * inner * stats.norm.sf(np.sqrt(3.0 * snr / (order - 1)))
    measured = measured_symbol_errors(awgn.AWGN(), order, snr, key)
    assert_rate(measured, 1.0 - (1.0 - per_axis) ** 2)


@pytest.mark.parametrize("snr_db", [-5.0, 4.0])
def test_bit_errors_of_bpsk_over_awgn_equal_the_closed_form(snr_db, key):
    snr = 10.0 ** (snr_db / 10.0)
    measured = measured_symbol_errors(awgn.AWGN(), 2, snr, key)
    assert_rate(measured, stats.norm.sf(np.sqrt(2.0 * snr)))


def test_bit_errors_of_bpsk_over_rayleigh_equal_the_closed_form(key):
    channel, snr = fading.RayleighBlock(block_length=1), 10.0
    expected = 0.5 * (1.0 - np.sqrt(snr / (1.0 + snr)))
    assert_rate(measured_symbol_errors(channel, 2, snr, key), expected)


@pytest.mark.parametrize(("order", "snr_db"), [(4, 5.0), (4, 15.0), (16, 15.0)])
def test_symbol_errors_over_rayleigh_equal_the_closed_form(order, snr_db, key):
    # Simon and Alouini, Digital Communication over Fading Channels, square QAM.
    snr = 10.0 ** (snr_db / 10.0)
    a = 1.0 - 1.0 / np.sqrt(order)
    c = np.sqrt(1.5 * snr / (order - 1 + 1.5 * snr))
    expected = 2 * a * (1 - c) - a**2 * (1 - 4 / np.pi * c * np.arctan(1 / c))
    channel = fading.RayleighBlock(block_length=1)
    assert_rate(measured_symbol_errors(channel, order, snr, key), expected)


@pytest.mark.parametrize("order", [1, 8, 32, 0, "16"])
def test_an_unknown_order_is_refused(order):
    with pytest.raises(ValueError, match="QAM order"):
        modulation.bits_per_symbol(order)


def test_bits_that_do_not_fill_a_symbol_are_refused():
    with pytest.raises(ValueError, match="4 bits per symbol"):
        modulation.modulate(jnp.zeros((5, 3), jnp.int32), 16)


def test_bits_and_integers_are_inverse():
    values = jnp.arange(2**10)
    written = bits.from_integers(values, 10)
    assert "".join(map(str, written[37].tolist())) == format(37, "010b")
    np.testing.assert_array_equal(bits.to_integers(written), values)


def test_scrambling_undoes_itself_and_uses_all_symbols_equally():
    constant = jnp.ones((32, 32, 4), jnp.int32)
    scrambled = bits.scramble(constant)
    np.testing.assert_array_equal(bits.scramble(scrambled), constant)
    counts = np.bincount(np.asarray(bits.to_integers(scrambled)).ravel(), minlength=16)
    assert abs(counts / 64.0 - 1.0).max() < 0.05
