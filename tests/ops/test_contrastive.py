"""Contrastive losses against their sums written out, their limits and information."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from m3jax.ops import contrastive
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE, DIM = 7, 5
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, SIZE, DIM)).astype(np.float32)
LOGITS = 3 * RNG.normal(size=(SIZE, SIZE)).astype(np.float32)
VALID = np.array([True, True, False, True, True, False, True])
SAME = contrastive.same_rows(np.array([4, 1, 4, 4, 9, 1, 4]))
LOSSES = {
    "one_way": contrastive.info_nce,
    "symmetric": contrastive.symmetric_info_nce,
    "sigmoid": contrastive.sigmoid_loss,
}


@jax.jit
def all_losses(logits, valid=None, same=None):
    return {name: loss(logits, valid, same) for name, loss in LOSSES.items()}


@jax.jit
def gradient(logits, valid=None):
    return jax.grad(lambda x: sum(all_losses(x, valid).values()))(logits)


def seen_by(row):
    """Columns that a row is held against, itself first."""
    others = [j for j in range(SIZE) if j != row and VALID[j] and not SAME[row, j]]
    return [row, *others]


def one_way(logits):
    nats = []
    for i in np.flatnonzero(VALID):
        weights = np.exp(logits[i, seen_by(i)].astype(np.float64))
        nats.append(-np.log(weights[0] / weights.sum()))
    return np.mean(nats)


def sigmoid(logits):
    nats = []
    for i in np.flatnonzero(VALID):
        own, *others = logits[i, seen_by(i)].astype(np.float64)
        right = [1 / (1 + np.exp(-own)), *(1 / (1 + np.exp(x)) for x in others)]
        nats.append(-np.log(right).sum())
    return np.mean(nats)


def test_losses_equal_their_sums_written_out():
    actual = all_losses(LOGITS, VALID, SAME)
    expected = {
        "one_way": one_way(LOGITS),
        "symmetric": (one_way(LOGITS) + one_way(LOGITS.T)) / 2,
        "sigmoid": sigmoid(LOGITS),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-5, err_msg=name)


def test_gradients_equal_finite_differences():
    @jax.jit
    def weighted(a, b, log_scale):
        cosines = contrastive.similarity(a, b, VALID)
        values = all_losses(contrastive.scale(log_scale) * cosines, VALID, SAME)
        return values["one_way"] + 2 * values["symmetric"] + 3 * values["sigmoid"]

    gradients.check_against_finite_differences(weighted, (A, B, 1.5), rtol=1e-4)


def test_similarity_is_the_cosine():
    expected = A @ B.T / np.linalg.norm(A, axis=1)[:, None] / np.linalg.norm(B, axis=1)
    np.testing.assert_allclose(contrastive.similarity(A, B), expected, atol=1e-6)


def test_equal_logits_cost_log_of_the_batch_and_perfect_alignment_nothing():
    equal = all_losses(np.full((SIZE, SIZE), 2.0, np.float32))
    for name in ("one_way", "symmetric"):
        np.testing.assert_allclose(equal[name], np.log(SIZE), rtol=1e-6)
    for scale in (3.0, 100.0):
        aligned = all_losses(scale * np.eye(SIZE, dtype=np.float32))
        expected = np.log1p((SIZE - 1) * np.exp(-scale))
        for name in ("one_way", "symmetric"):
            np.testing.assert_allclose(aligned[name], expected, rtol=1e-5, atol=1e-12)
    shifted = all_losses(100 * (2 * np.eye(SIZE, dtype=np.float32) - 1))
    np.testing.assert_allclose(shifted["sigmoid"], 0.0, atol=1e-12)


def test_the_order_of_the_batch_does_not_matter():
    order = np.random.default_rng(1).permutation(SIZE)
    moved = all_losses(LOGITS[order][:, order], VALID[order], SAME[order][:, order])
    for name, value in all_losses(LOGITS, VALID, SAME).items():
        np.testing.assert_allclose(moved[name], value, rtol=1e-5)


def test_padding_is_as_if_it_were_not_there_even_if_it_is_nan():
    spoilt_a, spoilt_b = (np.where(VALID[:, None], x, np.nan) for x in (A, B))

    @jax.jit
    def value_and_gradients(a, b, valid):
        def loss(a, b):
            logits = 9 * contrastive.similarity(a, b, valid)
            return sum(fn(logits, valid) for fn in LOSSES.values())

        return jax.value_and_grad(loss, (0, 1))(a, b)

    value, grads = value_and_gradients(spoilt_a, spoilt_b, VALID)
    ones = np.ones(VALID.sum(), bool)
    expected, expected_grads = value_and_gradients(A[VALID], B[VALID], ones)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad[VALID], wanted, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(grad[~VALID], 0.0)


def test_without_valid_examples_all_is_zero_with_finite_gradients():
    nothing = np.zeros(SIZE, bool)
    assert not any(all_losses(LOGITS, nothing).values())
    np.testing.assert_array_equal(gradient(LOGITS, nothing), 0.0)


def test_a_batch_that_all_says_the_same_has_no_negatives():
    values = all_losses(LOGITS, None, np.ones((SIZE, SIZE), bool))
    assert values["one_way"] == values["symmetric"] == 0.0
    expected = np.mean(np.log1p(np.exp(-np.diagonal(LOGITS))))
    np.testing.assert_allclose(values["sigmoid"], expected, rtol=1e-5)


def test_any_logits_give_finite_losses_and_gradients_in_half_precision_too():
    for logits in (3e4 * LOGITS, jnp.asarray(1e4 * LOGITS, jnp.bfloat16)):
        values = all_losses(logits)
        assert {value.dtype for value in values.values()} == {jnp.dtype("float32")}
        assert np.isfinite(list(values.values())).all()
        assert np.isfinite(np.asarray(gradient(logits), np.float32)).all()


def test_the_literal_loss_is_the_same_until_it_overflows():
    cosines = np.clip(0.2 * LOGITS, -0.85, 0.85)
    literal = jax.jit(contrastive.literal_info_nce)
    value = literal(cosines)
    np.testing.assert_allclose(value, all_losses(cosines / 0.01)["one_way"], rtol=1e-4)
    aligned = np.full_like(cosines, 0.1)
    for cosine, finite in ((0.886, True), (0.888, False)):
        np.fill_diagonal(aligned, cosine)
        assert np.isfinite(literal(aligned)) == finite
        assert np.isfinite(all_losses(aligned / 0.01)["one_way"])


def test_the_scale_is_the_exponential_within_its_bounds():
    logs = np.array([-9.0, 0.5, 2.0, 4.0, 9.0], np.float32)
    scales = jax.vmap(contrastive.scale)(logs)
    np.testing.assert_allclose(scales, np.clip(np.exp(logs), 1, 100), rtol=1e-6)
    with pytest.raises(ValueError, match="0 < low < high"):
        contrastive.scale(1.0, low=2.0, high=1.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_scale_driven_to_a_bound_stays_near_and_comes_back(sign):
    """100 steps outwards, then 30 back; behind a plain clip it would be stuck."""
    optimizer = optax.adam(0.1)

    @jax.jit
    def run():
        def step(carry, direction):
            log_scale, state = carry
            slope = jax.grad(lambda x: direction * contrastive.scale(x))(log_scale)
            update, state = optimizer.update(slope, state)
            log_scale = log_scale + update
            return (log_scale, state), log_scale

        start = jnp.float32(2.0)
        directions = sign * jnp.concatenate([jnp.ones(100), -jnp.ones(30)])
        return jax.lax.scan(step, (start, optimizer.init(start)), directions)[1]

    logs = np.asarray(run())
    bound = 0.0 if sign > 0 else np.log(100.0)
    assert abs(logs[99] - bound) < 2.0  # as far as momentum carries it
    assert sign * (logs[-1] - bound) > 0.1


def test_a_zero_embedding_has_a_finite_gradient():
    def loss(a):
        return contrastive.info_nce(10 * contrastive.similarity(a, B))

    value, grad = jax.jit(jax.value_and_grad(loss))(np.zeros_like(A))
    np.testing.assert_allclose(value, np.log(SIZE), rtol=1e-6)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("nats", [0.5, 2.0, 10.0])
def test_the_best_critic_bounds_the_information_of_gaussian_pairs(nats):
    """I = -D/2 log(1 - r^2); the critic is log p(b | a) - log p(b)."""
    num_batches, size, dim = 64, 128, 4
    square = 1 - np.exp(-2 * nats / dim)
    rng = np.random.default_rng(2)
    a, noise = rng.normal(size=(2, num_batches, size, dim)).astype(np.float32)
    b = np.sqrt(square) * a + np.sqrt(1 - square) * noise

    @jax.jit
    @jax.vmap
    def bound(a, b):
        error = b[None] - np.sqrt(square) * a[:, None]
        ratio = b**2 / 2 - error**2 / (2 * (1 - square))
        critic = jnp.sum(ratio, axis=-1) + nats
        return contrastive.information_bound(critic)

    bounds = np.asarray(bound(a, b))
    error = bounds.std() / np.sqrt(num_batches)
    assert bounds.mean() < min(nats, np.log(size)) + 4 * error
    assert (bounds <= np.log(size) + 1e-5).all()
    least = {0.5: 0.46, 2.0: 1.7, 10.0: 0.95 * np.log(size)}[nats]
    assert bounds.mean() > least


def test_the_information_bound_counts_valid_examples_only():
    bound = jax.jit(contrastive.information_bound)
    part = LOGITS[VALID][:, VALID]
    np.testing.assert_allclose(bound(LOGITS, VALID), bound(part), rtol=1e-5)


def test_vmap_equals_a_loop():
    stack = np.stack([LOGITS, -LOGITS, LOGITS.T])
    together = jax.jit(jax.vmap(all_losses, (0, None, None)))(stack, VALID, SAME)
    for name, values in together.items():
        single = [all_losses(logits, VALID, SAME)[name] for logits in stack]
        np.testing.assert_allclose(values, single, rtol=1e-5)


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"logits must be \[B, B\]"):
        contrastive.info_nce(LOGITS[:3])
    with pytest.raises(ValueError, match=r"valid must be \[7\] and same \[7, 7\]"):
        contrastive.sigmoid_loss(LOGITS, VALID[:3])
