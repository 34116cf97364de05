"""Pooling is a masked mean, and the loss aligns what it is given."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from m3jax.nn import alignment_head
from m3jax.ops import alignment, contrastive

pytestmark = pytest.mark.usefixtures("quick_compilation")

BATCH, LENGTH, DIM = 6, 4, 5
RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(BATCH, LENGTH, DIM)).astype(np.float32)
MASK = RNG.random((BATCH, LENGTH)) < 0.6
MASK[0] = False
A, B = RNG.normal(size=(2, BATCH, DIM)).astype(np.float32)
VALID = np.arange(BATCH) != 3
SAME = contrastive.same_rows(np.array([0, 1, 1, 2, 3, 4]))


@pytest.mark.parametrize("num_pooled", [None, 1, 2])
def test_the_pooled_vector_is_the_mean_of_the_valid_tokens(num_pooled):
    head = alignment_head.AlignmentHead(num_pooled=num_pooled)
    spoilt = np.where(MASK[..., None], TOKENS, np.nan)
    pooled = jax.jit(head.apply)({}, spoilt, MASK)
    for tokens, mask, actual in zip(TOKENS, MASK, pooled, strict=True):
        kept = tokens[:num_pooled][mask[:num_pooled]]
        expected = kept.mean(axis=0) if len(kept) else np.zeros(DIM)
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_padding_passes_no_gradient_not_even_nan(random_params):
    head = alignment_head.AlignmentHead(num_features=3)
    variables = random_params(head, TOKENS, MASK)

    @jax.jit
    def gradient(tokens):
        def loss(tokens):
            return jnp.sum(jnp.sin(head.apply(variables, tokens, MASK)))

        return jax.grad(loss)(tokens)

    slope = gradient(np.where(MASK[..., None], TOKENS, np.nan))
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(slope[~MASK], 0.0)
    np.testing.assert_allclose(slope, gradient(TOKENS), rtol=1e-5, atol=1e-7)
    assert (np.abs(slope[MASK]).max(axis=-1) > 0).all()


@pytest.mark.parametrize(
    ("kind", "scale", "loss"),
    [
        ("symmetric", 1 / 0.07, contrastive.symmetric_info_nce),
        ("one_way", 1 / 0.07, contrastive.info_nce),
        ("sigmoid", 10.0, lambda x, *m: contrastive.sigmoid_loss(x - 10, *m)),
    ],
)
def test_a_loss_starts_at_the_published_temperature(kind, scale, loss):
    module = alignment_head.AlignmentLoss(kind)
    args = A, B, VALID, SAME

    @jax.jit
    def run(key):
        (value, metrics), variables = module.init_with_output(key, *args)
        slopes = jax.grad(lambda v: module.apply(v, *args)[0])(variables)
        expected = loss(scale * contrastive.similarity(A, B), VALID, SAME)
        return value, expected, metrics["temperature"], slopes

    value, expected, temperature, slopes = run(jax.random.key(0))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(temperature, 1 / scale, rtol=1e-5)
    assert all(slope != 0 for slope in jax.tree.leaves(slopes))


def test_the_literal_loss_learns_nothing_and_takes_no_masks():
    module = alignment_head.AlignmentLoss("literal")
    a, b = np.random.default_rng(1).normal(size=(2, 8, 64)).astype(np.float32)

    @jax.jit
    def run(key):
        expected = contrastive.info_nce(100 * contrastive.similarity(a, b))
        return *module.init_with_output(key, a, b), expected

    (value, metrics), variables, expected = run(jax.random.key(0))
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert not variables
    assert metrics["temperature"] == jnp.float32(0.01)
    with pytest.raises(ValueError, match="the literal loss knows no masks"):
        module.apply({}, A, B, VALID)


@pytest.mark.parametrize("kind", ["symmetric", "sigmoid"])
def test_descent_aligns_two_views_of_the_same_scenes(kind):
    """Two sensors see a scene of 4 numbers through other matrices, with noise."""
    rng = np.random.default_rng(1)
    size, steps = 32, 150
    scenes = rng.normal(size=(2, size, 4))
    views = [scenes @ rng.normal(size=(4, 12)) for _ in range(2)]
    views = [v + 0.1 * rng.normal(size=v.shape) for v in views]
    (a, a_new), (b, b_new) = (v.astype(np.float32)[:, :, None] for v in views)
    head = alignment_head.AlignmentHead(num_features=8)
    loss_fn = alignment_head.AlignmentLoss(kind)
    mask = np.ones((size, 1), bool)
    optimizer = optax.adam(0.02)

    def embed(params, a, b):
        return (head.apply(params[n], x, mask) for n, x in (("a", a), ("b", b)))

    def loss(params):
        return loss_fn.apply(params["loss"], *embed(params, a, b))[0]

    @jax.jit
    def run(key):
        keys = jax.random.split(key)
        params = {n: head.init(k, a, mask) for n, k in zip("ab", keys, strict=True)}
        params["loss"] = loss_fn.init(key, *embed(params, a, b))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        start = params, optimizer.init(params)
        (trained, _), _ = jax.lax.scan(step, start, length=steps)

        def recall(params):
            cosines = contrastive.similarity(*embed(params, a_new, b_new))
            return jnp.mean(alignment.retrieval_at_k(cosines, 1))

        return recall(params), recall(trained)

    before, after = run(jax.random.key(2))
    assert before < 0.2  # chance is 1 in 32
    assert after > 0.7


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="kind must be one of .*'cosine'"):
        alignment_head.AlignmentLoss("cosine").apply({}, A, B)
    with pytest.raises(ValueError, match="expects tokens"):
        alignment_head.AlignmentHead().apply({}, TOKENS, MASK[:, :2])
