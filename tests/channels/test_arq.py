import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import arq, finite_blocklength, noise
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

TIMING = arq.ARQ(transmission_slots=2, feedback_slots=3, slot_seconds=1e-3)


@jax.jit
def at_error(error):
    """Expectations of four attempts that fail so often, and their slopes."""

    def expect(error):
        return TIMING.expect(arq.repeated(error, 4))

    return expect(error), jax.jacrev(expect)(error)


def test_expectations_are_those_of_independent_attempts():
    """Against a plain loop over blocks, which knows nothing of failures f_k."""
    rng, count = np.random.default_rng(0), 20_000
    failed = rng.random((count, 3)) < 0.4
    sent = np.where(failed[:, 0], np.where(failed[:, 1], 3, 2), 1)
    delivered = ~failed.all(axis=1)
    seconds = 1e-3 * (2 * sent + 3 * (sent - 1))
    expected = TIMING.expect(arq.repeated(0.4, max_transmissions=3))
    samples = {
        "transmissions": sent,
        "delivered": delivered,
        "latency": seconds,
        "delivered_latency": seconds[delivered],
    }
    for name, values in samples.items():
        error = values.std() / np.sqrt(len(values))
        assert abs(float(getattr(expected, name)) - values.mean()) < 5.0 * error, name
    busy = np.sum(seconds + 3e-3)
    assert float(expected.throughput) == pytest.approx(delivered.sum() / busy, rel=0.02)


def test_simulation_has_the_expectations_of_the_closed_form(key):
    failures = arq.repeated(0.4, max_transmissions=3)
    expected = TIMING.expect(failures)
    got = jax.jit(lambda key: TIMING.simulate(key, failures, (20_000,)))(key)
    for name in ("transmissions", "delivered", "latency"):
        values = np.asarray(getattr(got, name)).astype(float)
        error = values.std() / np.sqrt(values.size)
        assert abs(float(getattr(expected, name)) - values.mean()) < 5.0 * error, name
    assert set(np.unique(got.transmissions)) == {1, 2, 3}
    assert np.all(got.transmissions[~got.delivered] == 3)


def test_chase_combining_over_rayleigh_is_the_outage_of_the_summed_gains(key):
    snr, rate = 2.0, 2.5
    gains = np.asarray(noise.complex_normal(key, (50_000, 4)))
    total = np.cumsum(np.abs(gains) ** 2, axis=1)
    measured = np.mean(np.log2(1.0 + snr * total) < rate, axis=0)
    expected = np.asarray(arq.chase_rayleigh(snr, rate, max_transmissions=4))
    error = np.sqrt(expected * (1.0 - expected) / len(gains))
    assert np.all(np.abs(measured - expected) < 5.0 * error)


def test_chase_combining_is_a_repetition_code():
    """k + 1 copies at an SNR are one transmission at k + 1 times the SNR."""

    def block_error(snr):
        return finite_blocklength.error(snr, num_symbols=100.0, rate=1.0)

    def compare(snr):
        each = jnp.stack([block_error(snr * copies) for copies in (1, 2, 3)])
        alone = arq.repeated(each[0], max_transmissions=3)
        return arq.chase(block_error, snr, max_transmissions=3), each, alone

    failures, each, alone = jax.jit(compare)(0.5)
    np.testing.assert_allclose(failures, each, rtol=1e-6)
    assert np.all(failures[1:] < alone[1:])


@pytest.mark.parametrize("error", [0.0, 1.0])
def test_certain_success_and_certain_failure(error):
    expected, slopes = at_error(error)
    gradients.assert_finite(slopes, f"at an error of {error}")
    sent = 4 if error else 1
    assert float(expected.transmissions) == sent
    assert float(expected.delivered) == 1.0 - error
    for latency in (expected.latency, expected.delivered_latency):
        assert float(latency) == pytest.approx(1e-3 * (2 * sent + 3 * (sent - 1)))
    busy = 1e-3 * 5 * sent
    assert float(expected.throughput) == pytest.approx((1.0 - error) / busy)


def test_gradients_are_the_slopes():
    def total(error, snr, rate):
        sums = [
            sum(arq.ARQ().expect(failures))
            for failures in (arq.repeated(error, 3), arq.chase_rayleigh(snr, rate, 3))
        ]
        return sums[0] + sums[1]

    args = tuple(map(np.float32, (0.3, 2.0, 1.5)))
    # The derivative of the incomplete gamma function is a series cut at 1e-6 or so.
    gradients.check_against_finite_differences(jax.jit(total), args, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: arq.ARQ(transmission_slots=0), "transmission_slots"),
        (lambda: arq.ARQ(slot_seconds=-1.0), "slot_seconds"),
        (lambda: arq.ARQ(feedback_slots=-1), "feedback_slots"),
        (lambda: arq.repeated(jnp.float32(0.1), 0), "max_transmissions"),
    ],
)
def test_settings_out_of_range_are_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()
