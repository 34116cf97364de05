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


ANSWERS = np.array([[2, 1, 0], [3, 0, 0], [0, 0, 0]])
BATCH_LOGITS = np.random.default_rng(1).normal(size=(3, 3, 4)).astype(np.float32)


def test_log_likelihood_is_the_sum_over_the_words_of_an_answer():
    logs = BATCH_LOGITS - np.log(np.exp(BATCH_LOGITS).sum(-1, keepdims=True))
    expected = [logs[0, 0, 2] + logs[0, 1, 1], logs[1, 0, 3], 0.0]
    actual = jax.jit(losses.answer_log_likelihood)(BATCH_LOGITS, ANSWERS)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_the_first_word_alone_is_scored_whatever_follows():
    logits = np.full((3, 3, 4), -5.0, np.float32)
    logits[0, 0, 2] = logits[1, 0, 1] = 5.0  # right and wrong; what follows is wrong
    scores = jax.jit(losses.score_first_words)(logits, ANSWERS)
    np.testing.assert_array_equal(scores["first_word_accuracy"], [1, 0, 0])
    miss = np.log1p(3 * np.exp(-10.0))
    np.testing.assert_allclose(
        scores["first_word_nll"], [miss, 10 + miss, 0], atol=1e-6
    )
    whole = jax.jit(losses.score_answers)(logits, ANSWERS)["answer_accuracy"]
    assert (whole <= scores["first_word_accuracy"]).all()


def test_a_bag_of_words_is_the_share_of_tokens_that_name_each():
    """Against the formula, token by token and word by word."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(4, 6)).astype(np.float32)
    mask = np.array([True, False, True, True])
    words, valid = np.array([3, 1, 0, 99]), np.array([True, True, False, False])
    named = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shares = [named[mask, word].mean() for word in (3, 1)]
    found = losses.bag_of_words(logits, mask, words, valid)
    np.testing.assert_allclose(found, -np.log(shares).mean(), rtol=1e-5)


def test_an_empty_bag_or_text_has_a_finite_loss_and_gradient():
    logits, yes = jnp.zeros((3, 4)), jnp.ones(3, bool)
    grad = jax.value_and_grad(losses.bag_of_words)
    for mask, valid in ((~yes, yes), (yes, ~yes), (~yes, ~yes)):
        value, slope = grad(logits, mask, jnp.arange(3), valid)
        assert np.isfinite(value) and np.isfinite(slope).all()
    assert losses.bag_of_words(logits, yes, jnp.arange(3), ~yes) == 0.0
