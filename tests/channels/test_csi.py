import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import csi, equalisers, fading, modulation, noise, theory
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
NUM = 40_000


@jax.jit
def rayleigh(key):
    """Gains that change with every symbol, so that each has its own pilots."""
    return fading.RayleighBlock(block_length=1).generate(key, (NUM,))


def estimate(known, key, h, snr):
    return csi.Estimate(*map(np.asarray, jax.jit(known.estimate)(key, h, snr)))


def power(x):
    return np.abs(np.asarray(x)) ** 2


MMSE = jax.jit(equalisers.mmse)


@pytest.mark.parametrize(
    ("known", "pilot_energy"),
    [
        (csi.PilotCSI(), 2.0),
        (csi.PilotCSI(pilot_snr_db=10.0, num_pilots=2), 20.0),
        (csi.PilotCSI(pilot_snr_db=-3.0103, estimator="ls"), 0.5),
    ],
)
def test_the_error_of_pilots_has_the_variance_of_the_closed_form(
    known, pilot_energy, key
):
    h = np.asarray(rayleigh(key))
    h_hat, variance = estimate(known, jax.random.fold_in(key, 1), h, 2.0)
    v = 1.0 / pilot_energy
    expected = v if known.estimator == "ls" else v / (1.0 + v)
    assert float(variance) == pytest.approx(expected, rel=1e-5)
    assert np.mean(power(h - h_hat)) == pytest.approx(expected, rel=5.0 / np.sqrt(NUM))


def test_the_lmmse_error_does_not_depend_on_the_estimate(key):
    h = np.asarray(rayleigh(key))
    for estimator, expected in (("lmmse", 0.0), ("ls", -1.0)):
        known = csi.PilotCSI(estimator=estimator)
        h_hat = estimate(known, jax.random.fold_in(key, 1), h, 1.0).h
        product = np.mean((h - h_hat) * np.conj(h_hat))
        # E|h - h_hat|^2 |h_hat|^2 is 2 for LS at this SNR and less for LMMSE.
        assert abs(product - expected) < 5.0 * np.sqrt(6.0 / NUM)


def test_an_estimate_is_constant_where_the_gain_is_and_anew_in_each_block(key):
    channel = fading.RayleighBlock(block_length=4)
    h = channel.generate(key, (3, 6))
    h_hat = estimate(csi.PilotCSI(), jax.random.fold_in(key, 1), h, 1.0).h
    h_hat = np.asarray(h_hat).ravel()
    parts = [h_hat[i : i + 4] for i in range(0, 18, 4)]
    assert all((part == part[0]).all() for part in parts)
    errors = h_hat[::4] - np.asarray(h).ravel()[::4] / 2.0
    assert len(np.unique(errors)) == len(parts)


def test_bit_error_rate_with_pilots_equals_the_closed_form(key):
    """The error counts as noise: an exact view for symbols of one size."""
    snr, num_pilots = 5.0, 4

    @jax.jit
    def wrong_bits(key):
        keys = jax.random.split(key, 4)
        h = rayleigh(keys[0])
        bits = jax.random.bernoulli(keys[1], shape=(NUM, 2)).astype(jnp.int32)
        y = noise.add_noise(keys[2], h * modulation.modulate(bits, 4), snr)
        known = csi.PilotCSI(num_pilots=num_pilots).estimate(keys[3], h, snr)
        return modulation.demodulate(equalisers.zero_forcing(y, known.h), 4) != bits

    variance = 1.0 / (1.0 + num_pilots * snr)
    effective_snr = (1.0 - variance) / (variance + 1.0 / snr)
    expected = float(theory.bit_error_rate(effective_snr, 4, k_factor=0.0))
    measured = float(np.mean(np.asarray(wrong_bits(key))))
    # The two bits of a symbol share their gain: counted as one.
    assert abs(measured - expected) < 4.5 * np.sqrt(expected / NUM)


@pytest.fixture(scope="module")
def received():
    """Sent symbols, received ones and an estimate of poor quality."""

    @jax.jit
    def send(key):
        keys = jax.random.split(key, 4)
        h = rayleigh(keys[0])
        x = jnp.exp(2j * jnp.pi * jax.random.uniform(keys[1], (NUM,)))
        y = noise.add_noise(keys[2], h * x, 10.0)
        return x, y, csi.PilotCSI(pilot_snr_db=3.0).estimate(keys[3], h, 10.0)

    return jax.tree.map(np.asarray, send(jax.random.key(7)))


def test_mmse_on_an_estimate_has_the_error_of_the_closed_form(received):
    x, y, (h, variance) = received
    error = power(x - np.asarray(MMSE(y, h, 0.1, variance)))
    total = variance + 0.1
    expected = np.mean(total / (power(h) + total))
    assert abs(np.mean(error) - expected) < 5.0 * np.std(error) / np.sqrt(NUM)


def test_no_other_trust_in_an_estimate_does_better(received):
    x, y, (h, variance) = received

    def error(scale, believed):
        return np.mean(power(x - scale * np.asarray(MMSE(y, h, 0.1, believed))))

    best = error(1.0, variance)
    assert best < error(1.1, variance) and best < error(0.9, variance)
    assert best < error(1.0, 1.5 * variance) and best < error(1.0, 0.6 * variance)
    assert best < 0.9 * error(1.0, 0.0)


def test_pilots_without_noise_show_the_gains_exactly(key):
    h, known = noise.complex_normal(key, (5,)), csi.PilotCSI()

    def both(h, snr):
        h_hat, variance = known.estimate(key, h, snr)
        return jnp.sum(h_hat.real + h_hat.imag) + variance

    np.testing.assert_array_equal(estimate(known, key, h, jnp.inf).h, h)
    slopes = jax.jit(jax.grad(both, argnums=(0, 1)))(h, jnp.inf)
    gradients.assert_finite(slopes, "gradients")


def test_pilot_gradients_equal_finite_differences(key):
    h = noise.complex_normal(key, (5,))

    @jax.jit
    def loss(h, snr):
        h_hat, variance = csi.PilotCSI().estimate(key, h, snr)
        return jnp.sum(jnp.sin(h_hat.real) + h_hat.imag**2) + variance**2

    gradients.check_against_finite_differences(loss, (h, 2.0))


def test_knowing_all_and_knowing_nothing(key):
    h = noise.complex_normal(key, (5,))
    perfect = estimate(csi.PerfectCSI(), key, h, 1.0)
    nothing = estimate(csi.NoCSI(), key, h, 1.0)
    np.testing.assert_array_equal(perfect.h, h)
    np.testing.assert_array_equal(nothing.h, np.ones(5))
    assert perfect.error_variance == nothing.error_variance == 0.0


def test_estimates_agree_under_jit_and_vmap(key):
    known = csi.PilotCSI(pilot_snr_db=5.0, num_pilots=2)
    keys = jax.random.split(key, 3)
    h = noise.complex_normal(key, (3, 2, 4))
    batch = jax.jit(jax.vmap(functools.partial(known.estimate, snr=1.0)))(keys, h)
    alone = known.estimate(keys[1], h[1], 1.0)
    np.testing.assert_allclose(batch.h[1], alone.h, rtol=1e-5)
    np.testing.assert_allclose(batch.error_variance[1], alone.error_variance)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"pilot_snr_db": float("nan")}, "pilot_snr_db"),
        ({"pilot_snr_db": -float("inf")}, "pilot_snr_db"),
        ({"num_pilots": 0}, "num_pilots"),
        ({"estimator": "ml"}, "estimator"),
    ],
)
def test_a_senseless_setting_is_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        csi.PilotCSI(**settings)
