import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.channels import awgn, bit_channels, csi, fading, links, quantisers

pytestmark = pytest.mark.usefixtures("quick_compilation")

MASK = np.array([True, True, True, False, False])
VALUES = 3.0 * np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
UNIT = VALUES / np.sqrt(np.mean(VALUES[MASK] ** 2))


@functools.partial(jax.jit, static_argnums=0)
def send(link, key, values, mask, snr_db, params=()):
    return link(key, values, mask, snr_db, params)


@pytest.mark.parametrize("snr_db", [70.0, np.inf])
def test_at_high_snr_the_link_is_its_quantiser(snr_db, key):
    link = links.make_link("digital", block_length=3)
    out = send(link, key, VALUES, MASK, snr_db)
    expected = quantisers.uniform(UNIT, 8, limit=4.0).values
    np.testing.assert_allclose(out.values[:3], expected[:3], atol=1e-6)
    assert not out.values[3:].any()


def test_a_partly_filled_symbol_is_paid_in_full(key):
    link = links.DigitalLink(awgn.AWGN(), bits=3, qam_order=256)
    out = send(link, key, VALUES[:, :5], MASK, np.inf)
    assert int(out.channel_uses) == 3 * 2 and int(out.bits) == 3 * 15
    unit = VALUES[:, :5] / np.sqrt(np.mean(VALUES[:3, :5] ** 2))
    expected = quantisers.uniform(unit, 3, limit=4.0).values
    np.testing.assert_allclose(out.values[:3], expected[:3], atol=1e-6)


def test_gaussian_values_spend_the_energy_that_is_declared(key):
    values = jax.random.normal(key, (400, 16))
    link = links.make_link("digital", "awgn", qam_order=256)
    out = send(link, key, values, np.ones(400, bool), 10.0)
    assert float(out.energy / out.channel_uses) == pytest.approx(1.0, abs=0.03)


def q(x):
    return stats.norm.sf(np.sqrt(x))


def rayleigh(snr):
    return 0.5 * (1.0 - np.sqrt(snr / (1.0 + snr)))


@pytest.mark.parametrize(
    ("order", "channel", "known", "rate"),
    [
        # Proakis and Salehi 2008, sections 4.2 and 13.3; Cho and Yoon 2002 for 16-QAM.
        (
            16,
            awgn.AWGN(),
            csi.PerfectCSI(),
            lambda s: 0.75 * q(s / 5) + 0.5 * q(9 * s / 5) - 0.25 * q(5 * s),
        ),
        (2, fading.RayleighBlock(1), csi.PerfectCSI(), rayleigh),
        # An LMMSE estimate acts as a gain of power 1 - s beside noise of power s + N0.
        (
            2,
            fading.RayleighBlock(1),
            csi.PilotCSI(),
            lambda s: rayleigh(s**2 / (1.0 + 2.0 * s)),
        ),
    ],
    ids=["16qam", "bpsk-rayleigh", "bpsk-pilots"],
)
def test_bits_are_lost_at_the_rate_of_theory(order, channel, known, rate, key):
    """One bit a value, so that the sign of a value is its bit."""
    link = links.DigitalLink(channel, 1, order, csi=known)
    values = jax.random.normal(key, (500, 64))
    out = send(link, key, values, np.ones(500, bool), 7.0)
    errors = np.mean(np.sign(out.values) != np.sign(values))
    expected = rate(10.0**0.7)
    spread = np.sqrt(expected * (1.0 - expected) / values.size)
    assert errors == pytest.approx(expected, abs=4.5 * spread)


def test_a_symmetric_channel_flips_the_fraction_it_names(key):
    link = links.DigitalLink(bit_channels.BSC(0.1), bits=1)
    values = jax.random.normal(key, (500, 64))
    out = send(link, key, values, np.ones(500, bool), 0.0)
    errors = np.mean(np.sign(out.values) != np.sign(values))
    assert errors == pytest.approx(0.1, abs=4.5 * np.sqrt(0.09 / values.size))


def test_erased_bits_leave_the_mean_of_the_levels_that_remain(key):
    num_bits, channel = 3, bit_channels.BEC(0.4)
    link = links.DigitalLink(channel, bits=num_bits)
    out = send(link, key, VALUES, MASK, 0.0)
    known = channel.generate(key, (5, 8 * num_bits)) > 0.4
    known = np.asarray(known).reshape(5, 8, num_bits)
    sent = np.asarray(quantisers.uniform(UNIT, num_bits, 4.0).indices)
    words = list(itertools.product([0, 1], repeat=num_bits))
    levels = np.asarray(quantisers.dequantise(np.arange(8), num_bits, 4.0))
    for t, i in itertools.product(range(3), range(8)):
        bits = words[sent[t, i]]
        fits = [
            all(
                a == b or not k for a, b, k in zip(word, bits, known[t, i], strict=True)
            )
            for word in words
        ]
        assert float(out.values[t, i]) == pytest.approx(levels[fits].mean(), abs=1e-5)


def test_dither_leaves_an_error_that_is_uniform_whatever_the_values(key):
    link = links.DigitalLink(awgn.AWGN(), bits=4, limit=4.0, dither=True)
    values = jax.random.normal(jax.random.key(1), (200, 32))
    values = values.at[:, :16].set(jnp.sign(values[:, :16]))  # two values only
    out = send(link, key, values, np.ones(200, bool), np.inf)
    unit = values / jnp.sqrt(jnp.mean(values**2))
    errors = np.asarray(out.values - unit)[np.abs(unit) < 3.75]
    half_step = 0.25
    uniform = stats.uniform(-half_step, 2 * half_step).cdf
    assert stats.kstest(errors, uniform).pvalue > 1e-3


def test_dither_leaves_the_channel_as_it_was(key):
    """The same bits are flipped: here a sign says which, with dither or without."""
    a, b = (
        links.DigitalLink(bit_channels.BSC(0.2), bits=1, limit=0.01, dither=dither)
        for dither in (False, True)
    )
    a, b = (send(link, key, VALUES, MASK, 0.0).values[:3] for link in (a, b))
    np.testing.assert_array_equal(np.sign(a), np.sign(b))
    assert np.any(a != b) and np.any(np.sign(a) != np.sign(VALUES[:3]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 0}, "bits per value"),
        ({"bits": None}, "bits per value"),
        ({"qam_order": 8}, "order must be one of"),
        ({"limit": -1.0}, "limit"),
        ({"channel": "awgn"}, "generate"),
        ({"csi": "perfect"}, "csi must have estimate"),
        ({"symbol_energy": 0.0}, "symbol_energy"),
    ],
)
def test_wrong_settings_are_refused_at_construction(settings, message):
    with pytest.raises(ValueError, match=message):
        links.DigitalLink(**{"channel": awgn.AWGN()} | settings)
