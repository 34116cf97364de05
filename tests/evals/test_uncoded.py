"""Simulated bit error rates are those of the closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import awgn, csi, fading, theory
from m3jax.evals import uncoded
from m3jax.ops import random


@pytest.mark.parametrize("kind", [random.fusible, random.box_muller])
@pytest.mark.parametrize(
    ("channel", "order", "k_factor"),
    [(awgn.AWGN(), 16, jnp.inf), (fading.RayleighBlock(1), 64, 0.0)],
)
def test_error_rate_is_that_of_theory(channel, order, k_factor, kind, key):
    simulate = uncoded.UncodedLink(channel, order, shape=(64, 512))
    snrs = jnp.array([3.0, 30.0])
    errors, trials = jax.jit(jax.vmap(simulate, (None, 0)))(kind(key), snrs)
    expected = theory.bit_error_rate(snrs, order, k_factor)
    # The bits of a symbol fail together at most all at once.
    worst = np.sqrt(expected / trials * np.log2(order))
    np.testing.assert_array_less(np.abs(errors / trials - expected), 4.5 * worst)


def test_blocks_need_not_fit_the_rows():
    """The last axis holds whole blocks, parts of a block, or neither."""
    snr = jnp.float32(10.0)
    for length in (8, 48, 5):
        simulate = uncoded.UncodedLink(fading.RayleighBlock(length), 4, shape=(512, 16))
        errors, trials = jax.jit(simulate)(jax.random.key(length), snr)
        expected = theory.bit_error_rate(snr, 4, 0.0)
        deviation = np.sqrt(expected * 2 * length / trials)
        assert abs(errors / trials - expected) < 4.5 * deviation


def test_nothing_is_lost_without_noise(key):
    simulate = uncoded.UncodedLink(fading.RayleighBlock(), 256, shape=(4, 32))
    errors, trials = jax.jit(simulate)(key, jnp.inf)
    assert (int(errors), int(trials)) == (0, 4 * 32 * 8)


def test_a_receiver_without_csi_guesses(key):
    channel = fading.RayleighBlock(1)
    simulate = uncoded.UncodedLink(channel, 4, shape=(32, 64), csi=csi.NoCSI())
    errors, trials = jax.jit(simulate)(key, jnp.inf)
    assert abs(errors / trials - 0.5) < 4.5 * np.sqrt(0.25 / 2048)


@pytest.mark.parametrize("shape", [(8,), (0, 8), (2.0, 8)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match="two positive integers"):
        uncoded.UncodedLink(awgn.AWGN(), 4, shape=shape)
