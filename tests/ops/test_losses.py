import jax
import jax.numpy as jnp
import numpy as np

from m3jax.ops import losses

LABELS = np.array([2, 0, -100])
MASK = np.array([True, True, False])
LOGITS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def reference_cross_entropy():
    log_z = np.log(np.exp(LOGITS).sum(-1))
    return np.mean([log_z[0] - LOGITS[0, 2], log_z[1] - LOGITS[1, 0]])


def test_cross_entropy_equals_the_definition():
    value = losses.token_cross_entropy(LOGITS, LABELS, MASK)
    np.testing.assert_allclose(value, reference_cross_entropy(), rtol=1e-5)


def test_cross_entropy_gradient_is_probability_minus_label_and_zero_at_padding():
    logits = jnp.asarray(LOGITS).at[2].set(jnp.nan)
    grad = jax.grad(losses.token_cross_entropy)(logits, LABELS, MASK)
    expected = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    expected[0, 2] -= 1.0
    expected[1, 0] -= 1.0
    expected[2] = 0.0
    np.testing.assert_allclose(grad, expected / 2.0, atol=1e-6)


def test_cross_entropy_survives_huge_logits_and_half_precision():
    logits = jnp.asarray([[3e4, -3e4]], jnp.bfloat16)
    right, wrong = (
        losses.token_cross_entropy(logits, jnp.array([i]), jnp.array([True]))
        for i in (0, 1)
    )
    assert right.dtype == jnp.float32
    assert right == 0.0
    np.testing.assert_allclose(wrong, 6e4, rtol=1e-2)


def test_scores_count_valid_tokens_only():
    predictions = jnp.array([2, 1, 7])
    assert losses.token_accuracy(predictions, LABELS, MASK) == 0.5
    assert losses.exact_match(predictions, LABELS, MASK) == 0.0
    assert losses.exact_match(jnp.array([2, 0, 7]), LABELS, MASK) == 1.0


def test_an_empty_sequence_scores_zero():
    nothing = np.zeros(3, bool)
    assert losses.exact_match(LABELS, LABELS, nothing) == 0.0
    assert losses.token_accuracy(LABELS, LABELS, nothing) == 0.0
    assert losses.token_cross_entropy(LOGITS, LABELS, nothing) == 0.0
