import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from m3jax.channels import capacity, noise
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

SNRS = np.array([1e-3, 0.1, 1.0, 10.0, 1e3], np.float32)


@pytest.fixture(scope="module")
def drawn():
    """Gains, and what they give at an SNR of 10: [ergodic, outages, rate]."""

    @jax.jit
    def draw(key):
        h = noise.complex_normal(key, (100_000,))
        return h, (
            capacity.ergodic(10.0, h),
            capacity.outage_probability(10.0, 2.0, h),
            capacity.outage_capacity(10.0, 0.1, h),
        )

    h, found = draw(jax.random.key(5))
    return np.asarray(h), [float(v) for v in found]


def test_shannon_and_its_inverse():
    expected = np.log2(1.0 + SNRS.astype(float))
    np.testing.assert_allclose(capacity.shannon(SNRS), expected, rtol=1e-6)
    back = capacity.shannon_snr(capacity.shannon(SNRS))
    np.testing.assert_allclose(back, SNRS, rtol=5e-6)


def test_ergodic_rayleigh_capacity_equals_numeric_integration():
    got = capacity.ergodic_rayleigh(SNRS)
    for snr, rate in zip(SNRS.astype(float), got, strict=True):
        expected, _ = integrate.quad(
            lambda g, snr=snr: np.log2(1.0 + snr * g) * np.exp(-g), 0.0, 50.0, limit=200
        )
        assert float(rate) == pytest.approx(expected, rel=2e-6)


def test_ergodic_capacity_of_drawn_gains_nears_the_closed_form(drawn):
    h, (measured, _, _) = drawn
    rates = np.log2(1.0 + 10.0 * np.abs(h) ** 2)
    error = rates.std() / np.sqrt(rates.size)
    assert abs(measured - float(capacity.ergodic_rayleigh(10.0))) < 5.0 * error


def test_fading_never_beats_shannon():
    assert np.all(capacity.ergodic_rayleigh(SNRS) < capacity.shannon(SNRS))


def test_outage_of_drawn_gains_nears_the_closed_form(drawn):
    h, (_, measured, rate) = drawn
    expected = float(capacity.outage_probability_rayleigh(10.0, 2.0))
    error = np.sqrt(expected * (1.0 - expected) / h.size)
    assert abs(measured - expected) < 5.0 * error
    at_rate = float(capacity.outage_probability_rayleigh(10.0, rate))
    assert abs(at_rate - 0.1) < 5.0 * np.sqrt(0.09 / h.size)


def test_outage_capacity_inverts_the_outage_probability():
    outage = jnp.array([1e-4, 0.01, 0.5, 0.99])
    rate = capacity.outage_capacity_rayleigh(SNRS[:, None], outage)
    back = capacity.outage_probability_rayleigh(SNRS[:, None], rate)
    np.testing.assert_allclose(back, np.broadcast_to(outage, back.shape), rtol=2e-5)


def test_gradients_are_the_slopes():
    def total(snr, rate, outage, h):
        return (
            capacity.ergodic_rayleigh(snr)
            + capacity.shannon_snr(rate)
            + capacity.outage_probability_rayleigh(snr, rate)
            + capacity.outage_capacity_rayleigh(snr, outage)
            + capacity.outage_capacity(snr, outage, h)
            + capacity.ergodic(snr, h)
        )

    rng = np.random.default_rng(0)
    h = rng.normal(size=7) + 1j * rng.normal(size=7)
    args = (np.float32(3.0), np.float32(1.3), np.float32(0.2), h)
    gradients.check_against_finite_differences(jax.jit(total), args)


def test_gradients_are_finite_at_the_edges():
    def slopes(snr):
        fns = (
            capacity.shannon,
            capacity.ergodic_rayleigh,
            lambda snr: capacity.outage_probability_rayleigh(snr, 1.0),
            lambda snr: capacity.outage_capacity_rayleigh(snr, 0.1),
        )
        return [jax.grad(fn)(snr) for fn in fns]

    for snr in (0.0, 1e-20, 1e30, jnp.inf):
        gradients.assert_finite(jax.jit(slopes)(jnp.float32(snr)), f"at {snr}")
    for fn in (capacity.shannon, capacity.ergodic_rayleigh):
        assert fn(jnp.inf) == np.inf and fn(0.0) == pytest.approx(0.0, abs=1e-11)
