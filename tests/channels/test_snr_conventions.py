"""Each convention simulated in its own words, in NumPy, against the theory."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from m3jax.channels import noise, theory

NUM = 400_000
STATED = 10**0.4


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def signs(rng):
    return rng.choice([-1.0, 1.0], NUM)


def normal(rng, variance, shape=NUM):
    return np.sqrt(variance) * rng.standard_normal(shape)


def check(wrong, convention, order, stated=STATED):
    """Compares a share of wrong bits with the rate at the converted SNR."""
    snr = jnp.asarray(convention.to_es_n0(stated) * np.array([1.035, 1.0, 0.966]))
    low, expected, high = np.asarray(theory.bit_error_rate(snr, order))
    error = 4.5 * np.sqrt(expected / wrong.size)
    assert low < expected - error and expected + error < high, "cannot tell 0.15 dB"
    assert abs(np.mean(wrong) - expected) < error


def test_per_complex_symbol_bpsk_meets_half_of_the_noise(rng, signs):
    y = signs + normal(rng, 0.5 / STATED)
    check((y > 0) != (signs > 0), noise.Convention(), order=2)


def test_per_real_value(rng, signs):
    y = signs + normal(rng, 1.0 / STATED)
    convention = noise.Convention(signal="real", noise="real")
    check((y > 0) != (signs > 0), convention, order=4)


def test_power_of_a_complex_symbol_over_the_noise_of_each_axis(rng, signs):
    y = signs / np.sqrt(2.0) + normal(rng, 1.0 / STATED)
    check((y > 0) != (signs > 0), noise.Convention(noise="real"), order=4)


def test_power_of_a_real_value_over_complex_noise(rng, signs):
    y = signs + normal(rng, 0.5 / STATED)
    check((y > 0) != (signs > 0), noise.Convention(signal="real"), order=4)


def test_per_bit_qpsk_errs_as_bpsk_does(rng, signs):
    no = 1.0 / (2.0 * STATED)  # Es = 1 is two bits' energy
    y = signs / np.sqrt(2.0) + normal(rng, 0.5 * no)
    convention = noise.Convention(bits_per_symbol=2)
    check((y > 0) != (signs > 0), convention, order=4)
    rate = theory.bit_error_rate(convention.to_es_n0(STATED), 4)
    assert float(rate) == pytest.approx(0.5 * special.erfc(np.sqrt(STATED)), rel=1e-5)


def test_per_bit_sending_every_bit_twice_gains_nothing(rng, signs):
    no = 2.0 / STATED  # Es = 1 is half a bit's energy
    y = signs[:, None] + normal(rng, 0.5 * no, (NUM, 2))
    convention = noise.Convention(code_rate=0.5)
    check((y[:, 0] > 0) != (signs > 0), convention, order=2)
    check((y.sum(1) > 0) != (signs > 0), noise.Convention(), order=2)


def test_per_sample_the_matched_filter_gains_the_oversampling(rng, signs):
    stated = STATED / 4.0
    y = signs[:, None] + normal(rng, 0.5 / stated, (NUM, 4))
    wrong = (y.sum(1) > 0) != (signs > 0)
    check(wrong, noise.Convention(samples_per_symbol=4), order=2, stated=stated)


@pytest.mark.parametrize(
    ("settings", "offset_db"),
    [
        ({}, 0.0),
        ({"signal": "real", "noise": "real"}, 0.0),
        ({"noise": "real"}, -3.0103),
        ({"signal": "real"}, 3.0103),
        ({"bits_per_symbol": 4, "code_rate": 0.5}, 3.0103),
        ({"samples_per_symbol": 10}, 10.0),
    ],
)
def test_a_convention_converts_both_ways_in_both_scales(settings, offset_db):
    convention = noise.Convention(**settings)
    snr_db = convention.to_es_n0_db(jnp.float32(7.0))
    assert float(snr_db) == pytest.approx(7.0 + offset_db, abs=1e-4)
    assert float(convention.from_es_n0_db(snr_db)) == pytest.approx(7.0)
    snr = convention.to_es_n0(10**0.7)
    assert 10 * np.log10(snr) == pytest.approx(7.0 + offset_db, abs=1e-4)
    assert convention.from_es_n0(snr) == pytest.approx(10**0.7)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"signal": "imaginary"}, "signal"),
        ({"noise": 2}, "noise"),
        ({"bits_per_symbol": 0}, "bits_per_symbol"),
        ({"code_rate": 1.5}, "code_rate"),
        ({"samples_per_symbol": float("inf")}, "samples_per_symbol"),
    ],
)
def test_a_senseless_convention_is_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        noise.Convention(**settings)
