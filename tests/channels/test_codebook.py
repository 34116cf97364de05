import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import codebook

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
CODEWORDS = RNG.normal(size=(3, 8, 2)).astype(np.float32)
X = RNG.normal(size=(10, 6)).astype(np.float32)
MASK = np.arange(10) < 7


def test_the_nearest_codeword_is_that_of_least_distance():
    groups = X.reshape(10, 3, 1, 2)
    distances = np.sum((groups - CODEWORDS) ** 2, axis=3)
    np.testing.assert_array_equal(
        codebook.nearest(CODEWORDS, X), distances.argmin(axis=2)
    )


def test_bits_carry_the_codewords_there():
    indices = codebook.nearest(CODEWORDS, X)
    bits = codebook.to_bits(indices, 8)
    assert bits.shape == (10, 9)
    expected = np.stack([CODEWORDS[g, indices[:, g]] for g in range(3)], axis=1)
    expected = expected.reshape(10, 6)
    np.testing.assert_array_equal(codebook.from_bits(CODEWORDS, bits), expected)
    everything = np.ones(bits.shape, bool)
    values = codebook.from_bits(CODEWORDS, bits, everything)
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_erased_bits_leave_the_mean_of_the_codewords_that_remain():
    """All patterns of erasure of all words, by enumeration."""
    words = np.array(list(itertools.product([0, 1], repeat=3)))
    for known in words.astype(bool):
        tiled = np.tile(words, (1, 3))
        values = codebook.from_bits(CODEWORDS, tiled, np.tile(known, (8, 3)))
        for bits, value in zip(words, values, strict=True):
            fits = ((words == bits) | ~known).all(axis=1)
            mean = CODEWORDS[:, fits].mean(axis=1).reshape(-1)
            np.testing.assert_allclose(value, mean, atol=1e-6)


def test_each_loss_is_the_square_error_and_moves_its_own_side_only():
    indices = codebook.nearest(CODEWORDS, X)

    def plain(codewords, x):
        return jnp.mean((codebook.lookup(codewords, indices) - x)[MASK] ** 2)

    losses = codebook.losses(CODEWORDS, indices, X, MASK)

    @jax.jit
    def everything(codewords, x):
        of_losses = jax.jacrev(codebook.losses, (0, 2))(codewords, indices, x, MASK)
        return of_losses, jax.value_and_grad(plain, (0, 1))(codewords, x)

    grads, (error, (by_words, by_x)) = everything(CODEWORDS, X)
    np.testing.assert_allclose(losses, [error, error], rtol=1e-5)
    np.testing.assert_allclose(grads.codebook[0], by_words, atol=1e-6)
    np.testing.assert_allclose(grads.commitment[1], by_x, atol=1e-6)
    assert not grads.codebook[1].any() and not grads.commitment[0].any()


def test_fitting_finds_the_clusters_that_are_there():
    centres = 10.0 * RNG.normal(size=(2, 4, 3))
    picks = RNG.integers(4, size=(200, 2))
    x = np.concatenate([centres[g, picks[:, g]] for g in range(2)], axis=1)
    x = x + 0.01 * RNG.normal(size=x.shape)
    words = codebook.fit(x, num_codewords=4, group_size=3)
    assert words.shape == (2, 4, 3) and words.dtype == np.float32
    for g in range(2):
        distances = np.linalg.norm(centres[g][:, None] - words[g], axis=2)
        assert distances.min(axis=1).max() < 0.05


def test_perplexity_counts_the_codewords_in_use():
    even = np.arange(8)[:, None] % [8, 4, 1]
    np.testing.assert_allclose(
        codebook.perplexity(even, np.ones(8, bool), 8), [8.0, 4.0, 1.0], rtol=1e-5
    )
    skewed = np.array([[0], [0], [0], [1]])
    expected = np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    measured = codebook.perplexity(skewed, np.ones(4, bool), 8)
    assert float(measured[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 6), (10, 5), (10,)])
def test_fitting_refuses_what_it_cannot_fit(shape):
    with pytest.raises(ValueError, match="k-means of 4 codewords"):
        codebook.fit(np.zeros(shape), num_codewords=4, group_size=2)
