import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from m3jax.channels import doppler, fading, packet_loss

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_PACKETS = 20_000


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def arrivals(loss, key, num_packets, num_uses, snr):
    return loss.arrivals(key, num_packets, num_uses, snr)


def loss_rate(loss, num_uses, snr, key):
    return 1.0 - np.mean(arrivals(loss, key, NUM_PACKETS, num_uses, snr))


def assert_close(measured, expected):
    spread = np.sqrt(expected * (1.0 - expected) / NUM_PACKETS)
    assert measured == pytest.approx(expected, abs=4.5 * spread)


def test_independent_losses_come_at_their_rate(key):
    assert_close(loss_rate(packet_loss.IndependentLoss(0.3), 4, 1.0, key), 0.3)


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_outage_over_rayleigh_has_its_closed_form(rate, key):
    loss = packet_loss.Outage(fading.RayleighBlock(block_length=4), rate)
    expected = 1.0 - np.exp(-(2.0**rate - 1.0) / 5.0)
    assert_close(loss_rate(loss, 4, 5.0, key), expected)


def test_two_gains_in_a_packet_share_the_rate(key):
    """P(log2(1 + a s) + log2(1 + b s) < 2 rate), a and b exponential, by quadrature."""
    snr, rate = 5.0, 2.0
    loss = packet_loss.Outage(fading.RayleighBlock(block_length=4), rate)

    def lost_given(a):
        least = (4.0**rate / (1.0 + a * snr) - 1.0) / snr
        return np.exp(-a) * -np.expm1(-max(least, 0.0))

    expected = integrate.quad(lost_given, 0.0, (4.0**rate - 1.0) / snr)[0]
    assert_close(loss_rate(loss, 8, snr, key), expected)


def test_slow_fading_loses_packets_in_bursts(key):
    slow = packet_loss.Outage(doppler.GaussMarkov(0.99))
    fast = packet_loss.Outage(doppler.GaussMarkov(0.0))

    def repeats(loss):
        lost = ~np.asarray(arrivals(loss, key, NUM_PACKETS, 1, 2.0))
        return np.mean(lost[1:][lost[:-1]])

    p = 1.0 - np.exp(-0.5)
    assert repeats(fast) == pytest.approx(p, abs=0.03)
    assert repeats(slow) > p + 0.3


def test_without_noise_every_packet_arrives_and_without_gain_none(key):
    loss = packet_loss.Outage()
    assert arrivals(loss, key, 9, 2, jnp.inf).all()
    assert not arrivals(loss, key, 9, 2, 0.0).any()


@pytest.mark.parametrize(
    ("num_bits", "rate", "uses"), [(24, 1.7, 15), (24, 2.0, 12), (1, 8.0, 1)]
)
def test_channel_uses_are_whole(num_bits, rate, uses):
    assert packet_loss.channel_uses(num_bits, rate) == uses


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="loss probability"):
        packet_loss.IndependentLoss(-0.1)
    with pytest.raises(ValueError, match="rate must be positive"):
        packet_loss.IndependentLoss(0.1, rate=float("inf"))
    with pytest.raises(ValueError, match="generate"):
        packet_loss.Outage("rayleigh")
    with pytest.raises(ValueError, match="rate must be positive"):
        packet_loss.Outage(rate=-1.0)
