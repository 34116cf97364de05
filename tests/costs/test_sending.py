"""Payloads and links: bits by hand, gradients, closed forms of rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from m3jax.channels import capacity
from m3jax.costs import devices, hops, models, payload, servers, transmission
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

V = 11


@pytest.fixture
def log_probs(key):
    return jax.nn.log_softmax(2.0 * jax.random.normal(key, (3, V)))


def test_the_whole_distribution_of_qwen_is_2_43_megabits():
    bits = payload.distribution_bits(models.QWEN2_5_7B.vocab_size)
    assert bits == 152_064 * 16 == 2_433_024


def test_a_part_of_it_pays_for_its_indices():
    assert payload.distribution_bits(152_064, top_k=10, bits=8) == 10 * (18 + 8)
    assert payload.tokens_bits(100, 152_064) == 1800


@pytest.mark.parametrize("vocab_size", [1, 2, 3, 255, 256, 257, 65_536, 65_537])
def test_index_bits_of_arrays_are_those_of_numbers(vocab_size):
    fewest = next(b for b in range(1, 20) if 2**b >= vocab_size)
    assert payload.token_bits(vocab_size) == fewest
    assert payload.token_bits(jnp.array([vocab_size]))[0] == fewest


def test_all_words_are_the_identity(log_probs):
    np.testing.assert_array_equal(payload.top_k_renormalised(log_probs, V), log_probs)


def test_the_best_words_keep_their_odds_and_add_up_to_one(log_probs):
    found = np.exp(np.asarray(payload.top_k_renormalised(log_probs, 4)))
    probs = np.exp(np.asarray(log_probs))
    for row, given in zip(found, probs, strict=True):
        best = np.argsort(given)[-4:]
        expected = np.zeros(V)
        expected[best] = given[best] / given[best].sum()
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-30)


def test_of_equal_words_exactly_k_are_sent():
    found = payload.top_k_renormalised(jnp.full((2, V), -np.log(V)), 3)
    assert (np.exp(found) > 0).sum(axis=1).tolist() == [3, 3]


def test_gradients_of_a_part_are_finite_differences(log_probs):
    scale = jnp.arange(1.0, V + 1)

    def loss(logits):
        kept = payload.top_k_renormalised(jax.nn.log_softmax(logits), 4)
        return jnp.sum(jnp.exp(kept) * scale)

    gradients.check_against_finite_differences(loss, (log_probs[0],))


def test_many_bits_change_nothing_and_few_bits_err_by_half_a_step(log_probs):
    np.testing.assert_allclose(payload.quantised(log_probs, 16), log_probs, atol=1e-3)
    half_step = 20.0 / 2**5 / 2
    found = payload.quantised(log_probs, 5)
    # Renormalising moves all by one number, of half a step at most.
    assert jnp.max(jnp.abs(found - log_probs)) <= 2 * half_step + 1e-5
    assert not np.allclose(found, log_probs, atol=1e-3)


def test_a_quantised_distribution_has_the_gradient_of_one_that_is_not(log_probs):
    def loss(logits, bits):
        given = jax.nn.log_softmax(logits)
        sent = payload.quantised(given, bits) if bits else given
        return jnp.sum(sent * jnp.arange(V))

    found = jax.grad(loss)(log_probs[0], 16)
    np.testing.assert_allclose(found, jax.grad(loss)(log_probs[0], 0), atol=5e-2)
    far = jnp.zeros(V).at[0].set(40.0)  # words below the lowest level
    assert jnp.all(jnp.abs(jax.grad(loss)(far, 4)[1:]) > 0)


def test_words_that_were_not_sent_stay_so_when_quantised(log_probs):
    part = payload.top_k_renormalised(log_probs, 2)
    assert (np.exp(payload.quantised(part, 4)) > 0).sum(axis=1).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("snr_db", "gain", "expected"), [(0.0, 1.0, 1.0), (0.0, 3.0, 2.0), (30.0, 1, 9.967)]
)
def test_a_rate_is_shannons(snr_db, gain, expected):
    assert transmission.rate(snr_db, gain, 2.0) == pytest.approx(2 * expected, rel=1e-4)


def test_the_mean_rate_without_a_floor_is_the_ergodic_capacity(key):
    gain = hops.gains(key, 100_000, 1, fading=True)
    found = transmission.rate(10.0, gain, 1.0, least=0.0).mean()
    assert found == pytest.approx(float(capacity.ergodic_rayleigh(10.0)), rel=0.01)


@pytest.mark.parametrize("snr_db", [0.0, 15.0])
def test_the_mean_delay_is_finite_with_a_floor_and_right(key, snr_db):
    gain = hops.gains(key, 100_000, 1, fading=True)
    found = jnp.mean(transmission.delay(1.0, transmission.rate(snr_db, gain, 1.0)))
    snr = 10 ** (snr_db / 10)

    def integrand(g):
        return np.exp(-g) / max(np.log2(1 + snr * g), transmission.LEAST_EFFICIENCY)

    edge = (2**transmission.LEAST_EFFICIENCY - 1) / snr
    parts = [(0.0, edge), (edge, 1.0), (1.0, 40.0)]
    expected = sum(integrate.quad(integrand, *part)[0] for part in parts)
    assert found == pytest.approx(expected, rel=0.02)
    share = 1 - np.exp(-edge)
    assert transmission.floor_share(snr_db) == pytest.approx(share, rel=1e-4)


def test_an_snr_over_a_distance_is_that_of_its_budget():
    # 23 dBm - (43.32 + 30 log10 50) dB - (-173.98 + 10 log10 1e6 + 7) dBm
    by_hand = 23.0 - 43.32 - 50.97 + 106.98
    found = transmission.snr_db_at(50.0, 1e6)
    assert found == pytest.approx(by_hand, abs=0.02)
    there = servers.at_distance(devices.A100, models.QWEN2_5_7B, 50.0, 1e6)
    assert there.snr_db == pytest.approx(float(found))
    free = transmission.snr_db_at(jnp.array([10.0, 100.0]), 1e6, exponent=2.0)
    assert free[0] - free[1] == pytest.approx(20.0, abs=1e-3)


def test_a_server_meets_the_same_gains_in_a_larger_fleet(key):
    few, many = (hops.gains(key, 5, n, fading=True) for n in (3, 8))
    np.testing.assert_array_equal(few, many[:, :3])


def _hops(fuse_at):
    fleet = servers.stack(servers.TABLE_I[:3])
    return hops.make(
        fleet, jnp.ones(3), top_k=10, bits=16, fuse_at=fuse_at, backhaul_bps=1e9
    )


def test_with_fusion_at_the_user_all_goes_over_the_own_link():
    snrs = 10 ** (np.array([21.0, 14.0, 19.0]) / 10)
    rates = 2.5e6 * np.log2(1 + snrs)
    found = _hops("user")
    np.testing.assert_allclose(found.gathered_s, 340 / rates, rtol=1e-5)
    np.testing.assert_allclose(found.told_s, 18 / rates, rtol=1e-5)
    np.testing.assert_allclose(found.prompt_token_s, 18 / rates, rtol=1e-5)


def test_with_fusion_at_the_nearest_server_only_tokens_cross_the_air():
    air = 18 / (2.5e6 * np.log2(1 + 10**2.1))
    cable = np.array([0.0, 1.0, 1.0])  # server 0 is the nearest
    found = _hops("server")
    np.testing.assert_allclose(found.gathered_s, air + 340e-9 * cable, rtol=1e-5)
    np.testing.assert_allclose(found.told_s, 18e-9 * cable, rtol=1e-5)
    np.testing.assert_allclose(found.prompt_token_s, air + 18e-9 * cable, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: payload.distribution_bits(10, top_k=11), "top_k is 11; give 1 to 10"),
        (lambda: payload.distribution_bits(10, bits=0), "bits is 0; give 1 or more"),
        (lambda: payload.top_k_renormalised(jnp.zeros(3), 0), "top_k is 0; give 1"),
        (lambda: payload.quantised(jnp.zeros(3), 17), "integer from 1 to 16, got 17"),
    ],
)
def test_bad_input_is_named_with_its_mend(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert message in str(caught.value)
