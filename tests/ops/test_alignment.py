"""Alignment, uniformity and retrieval against counting and closed forms."""

import jax
import numpy as np
import pytest

from m3jax.ops import alignment, contrastive

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE, DIM = 8, 5
RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(2, SIZE, DIM)).astype(np.float32)
VALID = np.array([True, False, True, True, True, False, True, True])
UNIT_A, UNIT_B = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (A, B))

mean_distance = jax.jit(alignment.alignment, static_argnums=3)
uniformity = jax.jit(alignment.uniformity)
retrieval_at_k = jax.jit(alignment.retrieval_at_k, static_argnums=1)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_alignment_is_the_mean_power_of_the_distance(alpha):
    expected = np.mean(np.linalg.norm(UNIT_A - UNIT_B, axis=1)[VALID] ** alpha)
    actual = mean_distance(3 * A, B, VALID, alpha)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_alignment_of_equal_embeddings_is_zero_with_a_finite_gradient():
    for alpha in (1.0, 2.0):
        value, grad = jax.value_and_grad(mean_distance)(A, A, None, alpha)
        assert value < 1e-6
        assert np.isfinite(grad).all()
    with pytest.raises(ValueError, match="alpha must be 1 or more"):
        alignment.alignment(A, B, alpha=0.5)


def test_uniformity_equals_its_sum_written_out():
    kept = UNIT_A[VALID].astype(np.float64)
    weights = [
        np.exp(-2 * np.sum((x - y) ** 2))
        for i, x in enumerate(kept)
        for j, y in enumerate(kept)
        if i != j
    ]
    spoilt = np.where(VALID[:, None], A, np.nan)
    actual = uniformity(spoilt, VALID)
    np.testing.assert_allclose(actual, np.log(np.mean(weights)), rtol=1e-4)


def test_uniformity_is_best_at_the_simplex_and_zero_for_one_point():
    simplex = np.eye(SIZE, dtype=np.float32) - 1 / SIZE
    best = -2 * 2 * SIZE / (SIZE - 1)
    np.testing.assert_allclose(uniformity(simplex), best, rtol=1e-5)
    np.testing.assert_allclose(uniformity(np.ones((SIZE, 3))), 0.0, atol=1e-5)
    assert uniformity(np.ones((SIZE, 3)), np.arange(SIZE) == 2) == 0.0


def test_uniformity_has_finite_gradients_with_any_number_of_examples():
    gradient = jax.jit(jax.grad(alignment.uniformity))
    for count in (0, 1, 2, SIZE):
        assert np.isfinite(gradient(A, np.arange(SIZE) < count)).all()


@pytest.mark.parametrize("k", [1, 3])
def test_retrieval_equals_sorting(k):
    cosines = np.array(contrastive.similarity(A, A + 2 * B))
    expected = [
        i in [j for j in np.argsort(-cosines[i]) if VALID[j]][:k] if VALID[i] else 0
        for i in range(SIZE)
    ]
    assert 0 < np.sum(expected) < VALID.sum()
    cosines[~VALID], cosines[:, ~VALID] = np.nan, np.nan
    np.testing.assert_array_equal(retrieval_at_k(cosines, k, VALID), expected)


def test_collapsed_embeddings_are_retrieved_by_chance_and_nan_never():
    flat = np.ones((SIZE, SIZE), np.float32)
    np.testing.assert_allclose(retrieval_at_k(flat, 3), 3 / SIZE, rtol=1e-6)
    np.testing.assert_array_equal(retrieval_at_k(np.nan * flat, 3), 0.0)
    np.testing.assert_array_equal(retrieval_at_k(flat, SIZE), 1.0)


def test_keys_that_say_the_same_are_passed_over():
    cosines = np.zeros((3, 3), np.float32)
    cosines[0] = 0.5, 0.9, 0.1
    same = contrastive.same_rows(np.array([1, 1, 2]))
    assert retrieval_at_k(cosines, 1)[0] == 0.0
    assert retrieval_at_k(cosines, 1, None, same)[0] == 1.0


def test_a_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k must be 1 or more"):
        alignment.retrieval_at_k(np.eye(3), 0)
