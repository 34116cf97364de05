"""Links where nothing arrives, where the SNR is NaN, and where a value is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import (
    bit_channels,
    capacity,
    equalisers,
    links,
    noise,
    polar,
    polar_decoders,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

VALUES, MASK = 100.0 * jax.random.normal(jax.random.key(1), (8, 16)), jnp.ones(8, bool)
KEY = jax.random.key(0)


@pytest.mark.parametrize("fading", ["awgn", "rayleigh"])
@pytest.mark.parametrize("csi", ["perfect", "pilots", "none"])
def test_without_power_nothing_arrives_and_other_users_keep_their_gradient(fading, csi):
    link = links.make_link("analog", fading=fading, csi=csi)
    keys = jax.random.split(KEY, 3)

    def loss(scale, snrs_db):
        def send(key, snr_db):
            return link(key, scale * VALUES, MASK, snr_db).values

        values = jax.vmap(send)(keys, snrs_db)
        # Weighted, since a common scale of all values is taken out again.
        return jnp.sum(values * VALUES / 100.0), values

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, values), slopes = run(jnp.ones(VALUES.shape), jnp.array([10.0, -jnp.inf, -400]))
    assert np.any(values[0]) and not np.any(values[1:])
    assert np.all(np.isfinite(slopes[0])) and np.any(slopes[0])
    assert np.all(np.isfinite(slopes[1])) and slopes[1][0] != 0.0
    assert not np.any(slopes[1][1:])


def all_links():
    words = {"codewords": jax.random.normal(jax.random.key(2), (8, 4, 2))}
    return {
        "analog": (links.make_link("analog"), ()),
        "digital": (links.make_link("digital"), ()),
        "erasure": (links.make_link("erasure"), ()),
        "vq": (links.make_link("vq", num_codewords=4, group_size=2), words),
    }


@pytest.mark.parametrize("kind", all_links())
def test_a_nan_comes_out_as_nan_of_every_link(kind):
    link, params = all_links()[kind]
    send = jax.jit(lambda values, snr_db: link(KEY, values, MASK, snr_db, params))
    assert np.all(np.isfinite(send(VALUES, 10.0).values))
    assert np.all(np.isnan(send(VALUES, jnp.nan).values))
    torn = send(VALUES.at[0, 0].set(jnp.nan), 10.0)
    arrived = np.asarray(torn.arrived)
    assert np.all(np.isnan(torn.values[arrived])) and arrived.any()
    with pytest.raises(ValueError, match="snr_db is NaN"):
        link(KEY, VALUES, MASK, float("nan"), params)


def test_one_nan_never_lets_the_others_through_with_more_power():
    """The seven tokens that are whole once came at 40 dB more than declared."""
    link = links.make_link("analog", fading="awgn")
    torn = link(KEY, VALUES.at[0, 0].set(jnp.nan), MASK, 0.0)
    assert np.all(np.isnan(torn.values)) and np.isnan(torn.energy)


def test_equalisers_pass_nan_on():
    one = jnp.ones((), complex)
    assert np.isnan(equalisers.mmse(one, one, jnp.nan))
    assert np.isnan(equalisers.zero_forcing(one, one * jnp.nan))
    assert np.isnan(equalisers.safe_divide(jnp.ones(()), jnp.nan))


def test_bits_over_an_unknown_channel_are_not_spared():
    bits, state = jnp.array([0, 1, 1]), jnp.full(3, 0.5)
    assert np.all(bit_channels.BSC().carry(bits, state, jnp.nan).bits != bits)
    assert not np.any(bit_channels.BEC().carry(bits, state, jnp.nan).known)
    assert capacity.outage_probability(jnp.nan, 1.0, jnp.ones(4, complex)) == 1.0


def test_noise_has_a_limit_at_no_signal():
    assert float(noise.noise_power(0.0)) == float(noise.noise_power(noise.LEAST_SNR))
    slope = jax.grad(lambda snr: noise.noise_power(snr))
    assert float(slope(0.0)) == 0.0 and float(slope(2.0)) == -0.25


@pytest.mark.parametrize("size", [3, 1e3, 1e38, float("inf")])
def test_certain_bits_decode_to_what_was_sent(size):
    code = polar.make_polar_code(4, 8)
    for number in range(16):
        bits = jnp.array([number >> k & 1 for k in range(4)])
        llrs = jnp.where(polar.encode(code, bits) == 1, size, -size)
        found = polar_decoders.successive_cancellation(code, llrs)
        np.testing.assert_array_equal(found, bits)


@pytest.mark.parametrize("min_sum", [False, True])
def test_belief_propagation_takes_certain_and_integer_bits(min_sum):
    code = polar.make_polar_code(4, 8)
    bits = jnp.array([1, 0, 1, 1])
    sent = polar.encode(code, bits)
    for size in (3, jnp.inf):
        llrs = jnp.where(sent == 1, size, -size)
        found = polar_decoders.belief_propagation(code, llrs, min_sum=min_sum)
        np.testing.assert_array_equal(found.bits, bits)
        assert bool(found.consistent) and np.all(np.isfinite(found.llrs))
