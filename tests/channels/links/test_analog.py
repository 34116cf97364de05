import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from m3jax.channels import awgn, csi, fading, links

pytestmark = pytest.mark.usefixtures("quick_compilation")

MASK = np.array([True, True, True, False, False])
VALUES = 3.0 * np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
UNIT = np.where(MASK[:, None], VALUES / np.sqrt(np.mean(VALUES[MASK] ** 2)), 0.0)
ROWS, COLUMNS = 400, 32


@functools.partial(jax.jit, static_argnums=0)
def send(link, key, values, mask, snr_db, params=()):
    return link(key, values, mask, snr_db, params)


def square_error(link, key, snr_db):
    """Mean square error of unit normal values, and its standard error."""
    values = jax.random.normal(key, (ROWS, COLUMNS))
    out = send(link, key, values, np.ones(ROWS, bool), snr_db)
    unit = values / jnp.sqrt(jnp.mean(values**2))
    errors = np.mean(np.asarray(out.values - unit) ** 2, axis=1)  # one for each token
    return errors.mean(), errors.std() / np.sqrt(ROWS)


@pytest.mark.parametrize("fading_name", ["awgn", "jakes"])
def test_without_noise_the_link_is_the_identity_at_unit_scale(fading_name, key):
    link = links.make_link("analog", fading_name, block_length=3)
    out = send(link, key, VALUES, MASK, jnp.inf)
    np.testing.assert_allclose(out.values, UNIT, atol=1e-5)


def test_error_equals_that_of_mmse_for_unit_reals(key):
    # Per real value of unit mean square: E (v - v_hat)^2 = 1 / (1 + snr) over AWGN.
    error, spread = square_error(links.AnalogLink(awgn.AWGN()), key, 3.0)
    assert error == pytest.approx(1.0 / (1.0 + 10.0**0.3), abs=5.0 * spread)


@pytest.mark.parametrize("num_pilots", [1, 4])
def test_error_over_an_estimated_gain_equals_its_closed_form(num_pilots, key):
    """|h_hat|^2 is exponential of mean a = 1 - s and the rest is noise of power

    b = s + N0, so E b / (|h_hat|^2 + b) = b/a exp(b/a) E1(b/a).
    """
    known = csi.PilotCSI(num_pilots=num_pilots)
    link = links.AnalogLink(fading.RayleighBlock(block_length=1), known)
    error, spread = square_error(link, key, 6.0)
    no = 10.0**-0.6
    s = no / num_pilots / (1.0 + no / num_pilots)
    ratio = (s + no) / (1.0 - s)
    expected = ratio * np.exp(ratio) * special.exp1(ratio)
    assert error == pytest.approx(expected, abs=5.0 * spread)


def test_what_the_receiver_knows_changes_neither_gains_nor_noise(key):
    """Without CSI an AWGN receiver loses nothing; good pilots come near to perfect."""
    rayleigh = fading.RayleighBlock(3)
    known = csi.PilotCSI(pilot_snr_db=90.0)

    @jax.jit
    def all_values():
        some = (
            links.AnalogLink(awgn.AWGN()),
            links.AnalogLink(awgn.AWGN(), csi.NoCSI()),
            links.AnalogLink(rayleigh),
            links.AnalogLink(rayleigh, known),
        )
        return [link(key, VALUES, MASK, 0.0).values for link in some]

    perfect, blind, faded, estimated = all_values()
    np.testing.assert_array_equal(perfect, blind)
    np.testing.assert_allclose(faded, estimated, atol=1e-3)


def test_each_block_that_carries_a_token_pays_for_its_pilots(key):
    """Tokens of 4 symbols; blocks are counted through the slots of padding too."""
    known = csi.PilotCSI(pilot_snr_db=13.0, num_pilots=2)
    holes = np.array([False, True, False, True, False])
    expected = [  # block length, mask, valid tokens, blocks that they touch
        (None, MASK, 3, 1),
        (1, MASK, 3, 12),
        (5, MASK, 3, 3),
        (7, MASK, 3, 2),
        (4, holes, 2, 2),
        (9, holes, 2, 2),
    ]

    @jax.jit
    def all_costs():
        outs = []
        for length, mask, *_ in expected:
            link = links.AnalogLink(fading.RayleighBlock(length), known, 1e-3)
            out = link(key, VALUES, mask, 10.0)
            outs.append((out.channel_uses, out.energy))
        return outs

    for (uses, energy), (*_, tokens, blocks) in zip(all_costs(), expected, strict=True):
        assert uses == 4 * tokens + 2 * blocks
        joules = 1e-3 * (4 * tokens + 2 * blocks * 10**0.3)
        assert float(energy) == pytest.approx(joules, rel=1e-4)


def test_pilots_of_infinite_energy_are_refused():
    with pytest.raises(ValueError, match="infinite energy"):
        links.AnalogLink(awgn.AWGN(), csi.PilotCSI(pilot_snr_db=np.inf))
