import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import awgn, fading, links, packet_loss, quantisers

pytestmark = pytest.mark.usefixtures("quick_compilation")

LOSS = packet_loss.IndependentLoss(0.5)
MASK = np.arange(12) < 9
VALUES = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
UNIT = VALUES / np.sqrt(np.mean(VALUES[MASK] ** 2))


@functools.partial(jax.jit, static_argnums=0)
def send(link, key, values, mask, snr_db, params=()):
    return link(key, values, mask, snr_db, params)


def test_tokens_that_arrive_are_exact_and_others_zero(key):
    out = send(links.ErasureLink(LOSS), key, VALUES, MASK, 0.0)
    assert 0 < np.sum(out.arrived) < 9
    expected = np.where(out.arrived[:, None], UNIT, 0.0)
    np.testing.assert_allclose(out.values, expected, rtol=1e-5)
    assert int(out.bits) == 9 * 4 * 32  # floats


def test_quantised_tokens_arrive_as_their_quantiser_left_them(key):
    out = send(links.ErasureLink(LOSS, bits=5), key, VALUES, MASK, 0.0)
    expected = quantisers.uniform(UNIT, 5, limit=4.0).values
    expected = np.where(out.arrived[:, None], expected, 0.0)
    np.testing.assert_allclose(out.values, expected, atol=1e-6)
    assert int(out.bits) == 9 * 4 * 5


def test_a_lost_token_becomes_the_mean_of_those_that_arrived(key):
    each = packet_loss.Outage(fading.RayleighBlock(block_length=4 * 32))
    link = links.ErasureLink(each, imputation="mean")
    out = send(link, key, VALUES, MASK, 2.0)
    arrived = np.asarray(out.arrived)
    lost = MASK & ~arrived
    assert arrived.any() and lost.any()
    mean = UNIT[arrived].mean(axis=0)
    np.testing.assert_allclose(out.values[lost], [mean] * lost.sum(), atol=1e-6)
    np.testing.assert_allclose(out.values[arrived], UNIT[arrived], rtol=1e-5)
    nothing = send(link, key, VALUES, MASK, -60.0)
    assert not nothing.arrived.any() and not nothing.values.any()


def test_a_learned_mask_token_learns_from_what_was_lost(key):
    link = links.ErasureLink(LOSS, imputation="learned")
    weights = np.random.default_rng(1).normal(size=VALUES.shape)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def pull(params):
        out = link(key, VALUES, MASK, 0.0, params)
        return jnp.sum(weights * out.values), out

    grads, out = pull({"mask_token": jnp.arange(4.0)})
    lost = MASK & ~np.asarray(out.arrived)
    np.testing.assert_array_equal(out.values[lost], [np.arange(4.0)] * lost.sum())
    np.testing.assert_allclose(
        grads["mask_token"], weights[lost].sum(axis=0), rtol=1e-5
    )


def test_tokens_of_one_packet_share_their_fate(key):
    link = links.ErasureLink(LOSS, tokens_per_packet=3)
    arrived = np.asarray(send(link, key, VALUES, MASK, 0.0).arrived)[:9].reshape(3, 3)
    assert (arrived == arrived[:, :1]).all()
    assert 0 < arrived.sum() < 9


@pytest.mark.parametrize(("snr_db", "arrives"), [(4.7, False), (4.8, True)])
def test_over_awgn_all_arrives_from_the_capacity_of_the_rate_on(snr_db, arrives, key):
    # log2(1 + snr) = 2 at 10 log10(3) = 4.771 dB.
    link = links.ErasureLink(packet_loss.Outage(awgn.AWGN(), rate=2.0))
    assert (
        np.asarray(send(link, key, VALUES, MASK, snr_db).arrived) == (MASK & arrives)
    ).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": 0.1}, "arrivals"),
        ({"bits": 0}, "bits per value"),
        ({"imputation": "guess"}, "imputation must be one of"),
        ({"tokens_per_packet": 0}, "tokens_per_packet"),
        ({"symbol_energy": np.inf}, "symbol_energy"),
    ],
)
def test_wrong_settings_are_refused_at_construction(settings, message):
    with pytest.raises(ValueError, match=message):
        links.ErasureLink(**{"loss": LOSS} | settings)
