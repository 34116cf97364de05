"""The separation baseline: an ideal codeword, whole or lost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.channels import bit_information
from m3jax.systems.tokcom import separation


def errors(snr_db, bits, uses=320, block_length=32, num_messages=2000):
    return separation.codeword_errors(
        jax.random.key(0),
        snr_db,
        num_messages=num_messages,
        num_bits=bits,
        num_uses=uses,
        block_length=block_length,
    )


@functools.partial(jax.jit, static_argnums=1)
def carried(snr, order):
    found = bit_information.bit_information
    return jnp.vectorize(lambda s: jnp.stack(found(s, order)), signature="()->(2)")(snr)


@pytest.mark.parametrize("snr_db", [-3.0, 4.0])
def test_without_fading_it_is_the_normal_approximation_of_the_best_order(snr_db):
    """Against the quadrature itself, for every constellation that is big enough."""
    bits, uses, snr = 400, 320, 10 ** (snr_db / 10)
    expected = min(
        stats.norm.sf((mean - bits / uses) * np.sqrt(uses / variance))
        for mean, variance in (carried(snr, order) for order in (4, 16, 64, 256))
    )
    found = errors(snr_db, bits, block_length=None, num_messages=2)
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=1e-6)


def test_over_fading_it_averages_what_the_blocks_carry():
    gains = jax.random.exponential(jax.random.key(0), (2000, 10))
    snr = 10 ** (5.0 / 10)
    flat = jnp.sort(gains.ravel() * snr)
    by_order = []
    for order in (4, 16):
        told = carried(flat, order).T
        mean, variance = (np.interp(gains * snr, flat, part) for part in told)
        surplus = mean.mean(axis=1) - 1.0
        by_order.append(
            stats.norm.sf(surplus * np.sqrt(320 / variance.mean(axis=1))).mean()
        )
    assert float(errors(5.0, 320).mean()) == pytest.approx(min(by_order), rel=1e-2)


def test_more_snr_or_fewer_bits_lose_less():
    by_snr = [float(errors(snr_db, 320).mean()) for snr_db in (-10, 0, 5, 10, 20)]
    assert by_snr == sorted(by_snr, reverse=True)
    assert by_snr[0] > 0.99 and by_snr[-1] < 1e-3
    by_bits = [float(errors(5.0, bits).mean()) for bits in (80, 320, 640, 1280)]
    assert by_bits == sorted(by_bits)


def test_beyond_the_largest_constellation_all_is_lost():
    assert (errors(40.0, 9 * 320) == 1.0).all()


def test_long_codes_reach_ergodic_capacity_and_no_more():
    """Over many blocks errors jump from 0 to 1 where the rate is what they carry."""
    snr = 10.0
    nodes = -np.log((np.arange(4000) + 0.5) / 4000)  # quantiles of the gain
    rates = [float(carried(nodes * snr, m)[:, 0].mean()) for m in (4, 16, 64)]
    uses = 200_000
    below, above = (
        errors(10.0, round(share * max(rates) * uses), uses, 10, num_messages=4)
        for share in (0.97, 1.03)
    )
    assert (below < 1e-3).all() and (above > 0.999).all()


def test_the_score_is_that_of_the_mean():
    score = separation.expected_score(
        jnp.array([1.0, 1.0]), jnp.array([0.0, 1.0]), jnp.array([0.25, 0.25])
    )
    assert score.tolist() == [0.75, 1.0]
