"""Hashing by random signs, against the angle that it estimates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.ops import hashing

DIM, HASHES = 24, 20_000


def _pair(angle, seed=0):
    """Two vectors of different lengths at an angle."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(DIM, 2)))
    first, second = basis.T
    return 3.0 * first, 0.2 * (np.cos(angle) * first + np.sin(angle) * second)


@pytest.mark.parametrize("angle", [0.02, 0.5, 1.2, np.pi / 2, 2.5])
def test_the_share_that_agrees_is_one_minus_the_angle_over_pi(angle, key):
    """Each hash agrees by chance and apart from the others: a binomial count."""
    planes = hashing.random_planes(key, HASHES, DIM)
    bits = [hashing.sign_bits(x, planes) for x in _pair(angle)]
    agreed = round(float(hashing.agreement(*bits)) * HASHES)
    interval = stats.binom.interval(0.999, HASHES, 1 - angle / np.pi)
    assert interval[0] <= agreed <= interval[1]
    found = hashing.agreement_probability(*map(jnp.asarray, _pair(angle)))
    np.testing.assert_allclose(found, 1 - angle / np.pi, atol=1e-6)


def test_the_interval_is_not_so_wide_that_another_angle_fits(key):
    planes = hashing.random_planes(key, HASHES, DIM)
    bits = [hashing.sign_bits(x, planes) for x in _pair(1.2)]
    agreed = round(float(hashing.agreement(*bits)) * HASHES)
    low, high = stats.binom.interval(0.999, HASHES, 1 - 1.3 / np.pi)
    assert not low <= agreed <= high


def test_it_is_unbiased_over_planes():
    """The mean over many draws of few planes."""
    keys = jax.random.split(jax.random.key(1), 4_000)
    x, y = map(jnp.asarray, _pair(0.9))

    def share(key):
        planes = hashing.random_planes(key, 8, DIM)
        return hashing.agreement(
            hashing.sign_bits(x, planes), hashing.sign_bits(y, planes)
        )

    shares = np.asarray(jax.vmap(share)(keys), np.float64)
    p = 1 - 0.9 / np.pi
    spread = np.sqrt(p * (1 - p) / 8 / len(keys))
    assert abs(shares.mean() - p) < 4 * spread


def test_scale_does_not_matter_and_equal_vectors_agree(key):
    planes = hashing.random_planes(key, 64, DIM)
    x = _pair(0.3)[0]
    bits = hashing.sign_bits(x, planes)
    assert hashing.agreement(bits, hashing.sign_bits(7.0 * x, planes)) == 1.0
    assert hashing.agreement(bits, hashing.sign_bits(-x, planes)) == 0.0


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="dim=5"):
        hashing.sign_bits(jnp.zeros((2, 5)), jnp.zeros((3, 4)))
