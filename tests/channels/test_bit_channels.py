import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from m3jax.channels import bit_channels

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPE = (400, 500)
BITS = np.random.default_rng(0).integers(2, size=SHAPE, dtype=np.int32)


def fraction(kind, channel, snr, key):
    """Share of bits that the channel changes or loses."""
    out = channel.carry(BITS, channel.generate(key, SHAPE), snr)
    return np.mean(out.bits != BITS if kind == "bsc" else ~out.known)


def mean_over_rayleigh(rate, snr):
    """Mean of the error rate of a fixed gain over an exponential power gain."""
    return integrate.quad(lambda g: np.exp(-g) * rate(g * snr), 0.0, np.inf)[0]


@pytest.mark.parametrize(
    ("kind", "channel", "expected"),
    [
        ("bsc", bit_channels.BSC(0.03), 0.03),
        ("bsc", bit_channels.BSC(), stats.norm.sf(np.sqrt(2.0 * 1.5))),
        (
            "bsc",
            bit_channels.BSC(fading="rayleigh"),
            mean_over_rayleigh(lambda s: stats.norm.sf(np.sqrt(2.0 * s)), 1.5),
        ),
        ("bec", bit_channels.BEC(0.2), 0.2),
        (
            "bec",
            bit_channels.BEC(),
            stats.expon.cdf(1.0 / 1.5),  # log2(1 + g snr) < 1
        ),
    ],
)
def test_bits_change_at_the_rate_of_theory(kind, channel, expected, key):
    spread = np.sqrt(expected * (1.0 - expected) / np.prod(SHAPE))
    measured = fraction(kind, channel, 1.5, key)
    assert measured == pytest.approx(expected, abs=4.5 * spread)
    assert float(channel.probability(1.5)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "channel"),
    [
        ("bsc", bit_channels.BSC()),
        ("bsc", bit_channels.BSC(fading="rayleigh")),
        ("bsc", bit_channels.BSC(0.0)),
        ("bec", bit_channels.BEC()),
        ("bec", bit_channels.BEC(0.0)),
    ],
)
def test_without_noise_every_bit_arrives(kind, channel, key):
    assert fraction(kind, channel, jnp.inf, key) == 0.0


def test_certain_loss_is_certain(key):
    assert fraction("bsc", bit_channels.BSC(1.0), 1.0, key) == 1.0
    assert fraction("bec", bit_channels.BEC(1.0), 1.0, key) == 1.0


def test_what_arrives_is_right_and_what_is_lost_at_high_snr_is_lost_at_low(key):
    channel = bit_channels.BEC()
    state = channel.generate(key, SHAPE)
    bits = jnp.ones(SHAPE, jnp.int32)
    high, low = (channel.carry(bits, state, snr) for snr in (3.0, 1.0))
    assert not (low.known & ~high.known).any()
    np.testing.assert_array_equal(high.bits, high.known)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(ValueError, match="crossover must be a probability"):
        bit_channels.BSC(value)
    with pytest.raises(ValueError, match="erasure must be a probability"):
        bit_channels.BEC(value)
    with pytest.raises(ValueError, match="rician"):
        bit_channels.BSC(fading="rician")
