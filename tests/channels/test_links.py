import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import links, quantisers
from m3jax.testing import gradients

MASK = np.array([True, True, True, False, False])
VALUES = 3.0 * np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
UNIT = np.where(MASK[:, None], VALUES / np.sqrt(np.mean(VALUES[MASK] ** 2)), 0.0)
FADINGS = pytest.mark.parametrize("fading", links.FADINGS)
KINDS = pytest.mark.parametrize("kind", links.KINDS)


@functools.cache
def jitted(kind, fading, **settings):
    return jax.jit(links.make_link(kind, fading, block_length=3, **settings))


@FADINGS
def test_analog_link_without_noise_is_the_identity_at_unit_scale(fading, key):
    out = jitted("analog", fading)(key, VALUES, MASK, jnp.inf)
    np.testing.assert_allclose(out.values, UNIT, atol=1e-5)


@FADINGS
@pytest.mark.parametrize("snr_db", [70.0, np.inf])
def test_digital_link_at_high_snr_is_its_quantiser(fading, snr_db, key):
    out = jitted("digital", fading)(key, VALUES, MASK, snr_db)
    expected = quantisers.uniform(UNIT, 8, limit=4.0).values
    np.testing.assert_allclose(out.values[:3], expected[:3], atol=1e-6)
    assert not out.values[3:].any()


def test_analog_error_equals_that_of_mmse_for_unit_reals(key):
    # Per real value of unit mean square: E (v - v_hat)^2 = 1 / (1 + snr) over AWGN.
    values = jax.random.normal(key, (500, 40))
    mask = np.ones(500, bool)
    out = jitted("analog", "awgn")(key, values, mask, 3.0)
    unit = values / jnp.sqrt(jnp.mean(values**2))
    error = float(jnp.mean((out.values - unit) ** 2))
    expected = 1.0 / (1.0 + 10.0**0.3)
    assert error == pytest.approx(expected, rel=5.0 * np.sqrt(2.0 / values.size))


@KINDS
def test_costs_count_valid_tokens_only(kind, key):
    out = jitted(kind, "rayleigh")(key, VALUES, MASK, 10.0)
    if kind == "analog":
        uses, num_bits = 3 * 8 // 2, 0
    else:
        uses, num_bits = 3 * 8 * 8 // 4, 3 * 8 * 8
    assert (int(out.channel_uses), int(out.bits)) == (uses, num_bits)
    tolerance = 1e-5 if kind == "analog" else 0.3
    assert float(out.energy) == pytest.approx(uses, rel=tolerance)


def test_a_partly_filled_symbol_is_paid_in_full(key):
    link = jitted("digital", "awgn", bits=3, qam_order=256)
    out = link(key, VALUES[:, :5], MASK, np.inf)
    assert int(out.channel_uses) == 3 * 2 and int(out.bits) == 3 * 15
    unit = VALUES[:, :5] / np.sqrt(np.mean(VALUES[:3, :5] ** 2))
    expected = quantisers.uniform(unit, 3, limit=4.0).values
    np.testing.assert_allclose(out.values[:3], expected[:3], atol=1e-6)


def test_gaussian_values_spend_the_energy_that_is_declared(key):
    values = jax.random.normal(key, (400, 16))
    link = jitted("digital", "awgn", qam_order=256)
    out = link(key, values, np.ones(400, bool), 10.0)
    assert float(out.energy / out.channel_uses) == pytest.approx(1.0, abs=0.03)


@KINDS
def test_more_padding_changes_nothing_that_is_valid(kind, key):
    link = jitted(kind, "rayleigh")
    short = link(key, VALUES[:3], MASK[:3], 5.0)
    long = link(key, VALUES, MASK, 5.0)
    np.testing.assert_allclose(long.values[:3], short.values, atol=1e-5)
    assert long[1:3] == short[1:3]


@KINDS
def test_a_batch_equals_its_examples_one_by_one(kind, key):
    link = jitted(kind, "rayleigh")
    keys = jax.random.split(key, 2)
    values, masks = np.stack([VALUES, -VALUES]), np.stack([MASK, ~MASK])
    snrs = np.float32([0.0, 20.0])
    batch = jax.vmap(link)(keys, values, masks, snrs)
    for i in range(2):
        one = link(keys[i], values[i], masks[i], snrs[i])
        row = jax.tree.map(lambda a, i=i: a[i], batch)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), row, one)


def test_analog_gradients_equal_finite_differences(key):
    link = links.make_link("analog", "rayleigh", block_length=3)

    @jax.jit
    def loss(values, snr_db):
        received = link(key, values, MASK, snr_db).values
        return jnp.sum(jnp.sin(received) + received**2)

    for snr_db in (-20.0, 5.0, 40.0):
        gradients.check_against_finite_differences(loss, (VALUES, snr_db), rtol=1e-4)


def test_digital_gradient_is_that_of_the_normalised_values_at_any_snr(key):
    weights = np.random.default_rng(1).normal(size=VALUES.shape)
    link = links.make_link("digital", "rayleigh", limit=100.0)

    def loss(values, snr_db):
        return jnp.sum(weights * link(key, values, MASK, snr_db).values)

    def surrogate(values):
        valid = values[:3] / jnp.sqrt(jnp.mean(values[:3] ** 2))
        return jnp.sum(weights[:3] * valid)

    by_values, by_snr = jax.jit(jax.grad(loss, argnums=(0, 1)))(VALUES, -5.0)
    np.testing.assert_allclose(by_values, jax.grad(surrogate)(VALUES), atol=1e-5)
    assert by_snr == 0.0


@pytest.mark.parametrize(
    ("values", "mask", "snr_db", "message"),
    [
        (VALUES[None], MASK, 1.0, "jax.vmap"),
        (VALUES.astype(np.int32), MASK, 1.0, "must be real"),
        (VALUES, MASK[:2], 1.0, "mask must be"),
        (VALUES, MASK, np.zeros(5), "scalar"),
        (VALUES[:, :7], MASK, 1.0, "even"),
    ],
)
def test_wrong_shapes_get_one_clear_error(values, mask, snr_db, message, key):
    with pytest.raises(ValueError, match=message):
        links.make_link("analog")(key, values, mask, snr_db)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "smoke"}, "link kind must be one of"),
        ({"fading": "rician"}, "fading must be one of"),
        ({"block_length": 0}, "block_length"),
        ({"kind": "digital", "bits": 0}, "bits per value"),
        ({"kind": "digital", "qam_order": 8}, "QAM order"),
        ({"kind": "digital", "limit": -1.0}, "limit"),
    ],
)
def test_wrong_settings_are_refused_at_construction(settings, message):
    with pytest.raises(ValueError, match=message):
        links.make_link(**settings)


def test_something_that_is_no_channel_is_refused():
    with pytest.raises(ValueError, match="generate"):
        links.AnalogLink(channel="awgn")


def test_links_of_the_same_settings_are_equal_and_hashable():
    a, b = (links.make_link("digital", "rayleigh", 4) for _ in range(2))
    assert a == b and hash(a) == hash(b)
