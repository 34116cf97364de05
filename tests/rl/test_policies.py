"""Policies against distribution functions, integrals, enumeration and frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from m3jax.rl import policies
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

MEAN = np.array([[0.3, -1.2], [0.0, 0.8], [2.0, -0.1]])
LOG_STD = np.array([[-1.0, 0.2], [0.0, 2.0], [-0.5, -2.0]])
LOGITS = jnp.array([0.5, -1.0, 2.0, 0.0])
MASK = jnp.array([True, True, False, True])
KEPT = np.array(MASK)
WEIGHTS = jnp.array([1.0, -2.0, 0.5, 3.0])


def valid_probs():
    weights = np.exp(np.asarray(LOGITS, np.float64)) * KEPT
    return weights / weights.sum()


def make_squashed():
    return policies.TanhGaussian(jnp.float32(MEAN), jnp.float32(LOG_STD))


def test_squashed_log_prob_is_the_slope_of_the_distribution_function():
    action = np.array([[0.5, -0.9], [-0.2, 0.99], [0.95, -0.1]])

    def below(a):
        return stats.norm.cdf((np.arctanh(a) - MEAN) / np.exp(LOG_STD))

    slope = (below(action + 1e-6) - below(action - 1e-6)) / 2e-6
    log_prob = jax.jit(lambda a: make_squashed().log_prob(a))(jnp.float32(action))
    np.testing.assert_allclose(log_prob, np.log(slope).sum(axis=1), atol=2e-4)


def test_squashed_entropy_is_the_integral_of_minus_p_log_p():
    def entropy(mean, std):
        def integrand(z):
            u = mean + std * z
            log_slope = 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))
            log_p = stats.norm.logpdf(z) - np.log(std) - log_slope
            return -stats.norm.pdf(z) * log_p

        return integrate.quad(integrand, -9, 9, limit=500)[0]

    expected = np.vectorize(entropy)(MEAN, np.exp(LOG_STD)).sum(axis=1)
    found = jax.jit(lambda: make_squashed().entropy())()
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_squashed_samples_carry_their_log_prob_and_its_mean_is_minus_the_entropy(key):
    @jax.jit
    def draw(key):
        policy = make_squashed()
        action, log_prob = policy.sample_and_log_prob(seed=key, sample_shape=4096)
        return log_prob, policy.log_prob(action), policy.entropy()

    drawn, again, entropy = draw(key)
    np.testing.assert_allclose(drawn[:, 0], again[:, 0], rtol=1e-3, atol=1e-3)
    error = np.std(drawn, axis=0) / np.sqrt(4096)
    assert (np.abs(np.mean(drawn, axis=0) + entropy) < 5 * error).all()


def test_saturated_squashed_policy_has_finite_log_probs_and_gradients(key):
    def loss(mean, log_std):
        policy = policies.TanhGaussian(mean, log_std)
        action, log_prob = policy.sample_and_log_prob(seed=key)
        return jnp.sum(action) + log_prob + policy.entropy(), action

    mean, log_std = jnp.array([30.0, -30.0]), jnp.array([-5.0, 2.0])
    grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, action), grads = grad(mean, log_std)
    assert jnp.max(jnp.abs(action)) == 1.0
    gradients.assert_finite((value, grads), "loss and gradients")


def test_masked_actions_have_probability_zero_and_are_never_drawn(key):
    policy = policies.categorical(LOGITS, MASK)
    np.testing.assert_allclose(policy.probs, valid_probs(), rtol=1e-5)
    assert float(policy.probs[2]) == 0.0
    assert float(policy.prob(2)) == 0.0
    draw = jax.jit(lambda k: policy.sample(seed=k, sample_shape=5000))
    counts = np.bincount(draw(key), minlength=4)
    p = valid_probs()
    assert (np.abs(counts - 5000 * p) <= 5 * np.sqrt(5000 * p * (1 - p))).all()


def test_masked_entropy_is_that_of_the_valid_actions_alone():
    p = valid_probs()[KEPT]
    policy = policies.categorical(LOGITS, MASK)
    np.testing.assert_allclose(policy.entropy(), -(p * np.log(p)).sum(), rtol=1e-5)
    only = policies.categorical(LOGITS, jnp.arange(4) == 1)
    assert float(only.entropy()) == 0.0
    assert float(only.log_prob(1)) == 0.0


def test_gradients_through_a_mask_are_those_of_the_valid_actions_alone():
    def value(logits):
        policy = policies.categorical(logits, MASK)
        return jnp.sum(policy.probs * WEIGHTS) + 0.3 * policy.entropy()

    p, w = valid_probs(), np.asarray(WEIGHTS)
    gain = w - 0.3 * np.log(np.where(KEPT, p, 1.0))
    by_hand = p * (gain - p @ gain)
    grad = jax.jit(jax.grad(value))(LOGITS)
    np.testing.assert_allclose(grad, by_hand, atol=1e-6)
    assert float(grad[2]) == 0.0


def test_empty_mask_is_an_error_on_the_host_and_uniform_in_a_program():
    mask = jnp.array([[True, False], [False, False]])
    with pytest.raises(ValueError, match="1 of 2 action masks are empty"):
        policies.categorical(jnp.zeros((2, 2)), mask)
    probs = jax.jit(lambda m: policies.categorical(jnp.eye(2), m).probs)(mask)
    np.testing.assert_array_equal(probs, [[1.0, 0.0], [0.5, 0.5]])


def test_straight_through_samples_are_one_hot_and_distributed_as_the_categorical(key):
    policy = policies.GumbelSoftmax(LOGITS, 0.5, MASK)
    draw = jax.jit(lambda k: policy.sample_and_log_prob(seed=k, sample_shape=5000))
    samples, log_probs = draw(key)
    assert set(np.unique(samples)) == {0.0, 1.0}
    assert (np.sum(samples, axis=1) == 1).all()
    p = valid_probs()
    error = 5 * np.sqrt(5000 * p * (1 - p))
    assert (np.abs(np.sum(samples, axis=0) - 5000 * p) <= error).all()
    expected = np.log(p[np.argmax(samples, axis=1)])
    np.testing.assert_allclose(log_probs, expected, rtol=1e-4)
    np.testing.assert_allclose(
        policy.entropy(), policies.categorical(LOGITS, MASK).entropy(), rtol=1e-6
    )


def test_straight_through_gradient_is_that_of_the_relaxed_sample(key):
    def loss(logits, straight_through):
        policy = policies.GumbelSoftmax(logits, 0.7, MASK, straight_through)
        return policy.sample(seed=key) @ WEIGHTS

    grad = jax.jit(jax.grad(loss), static_argnums=1)
    np.testing.assert_allclose(grad(LOGITS, True), grad(LOGITS, False), rtol=1e-6)


def test_relaxed_samples_near_one_hot_as_the_temperature_falls(key):
    @jax.jit
    def draw(temperature):
        policy = policies.GumbelSoftmax(LOGITS, temperature, MASK, False)
        return policy.sample(seed=key, sample_shape=64)

    cold, warm = draw(0.01), draw(2.0)
    assert np.mean(np.max(cold, axis=1)) > 0.98
    assert np.mean(np.max(warm, axis=1)) < 0.8
    assert (np.argmax(cold, axis=1) == np.argmax(warm, axis=1)).all()
    np.testing.assert_allclose(np.sum(warm, axis=1), 1.0, rtol=1e-5)
    assert (warm[:, 2] == 0).all()


def test_relaxed_density_of_two_actions_is_the_slope_of_the_distribution_function():
    # The difference of two Gumbels is logistic, so P(y_0 < t) is a sigmoid.
    logits, temperature = np.array([0.4, -0.8]), 0.6
    first = np.array([0.1, 0.5, 0.93])

    def below(t):
        logit = np.log(t) - np.log1p(-t)
        return 1 / (1 + np.exp(logits[0] - logits[1] - temperature * logit))

    slope = (below(first + 1e-6) - below(first - 1e-6)) / 2e-6
    value = jnp.float32(np.stack([first, 1 - first], axis=-1))
    policy = policies.GumbelSoftmax(
        jnp.float32(logits), temperature, straight_through=False
    )
    log_prob = jax.jit(policy.log_prob)(value)
    np.testing.assert_allclose(log_prob, np.log(slope), atol=1e-4)
    third = policies.GumbelSoftmax(
        jnp.array([0.4, 9.0, -0.8]), temperature, jnp.array([1, 0, 1], bool), False
    )
    value = jnp.float32(np.insert(value, 1, 0.0, axis=-1))
    log_prob = jax.jit(third.log_prob)(value)
    np.testing.assert_allclose(log_prob, np.log(slope), atol=1e-4)


def test_relaxed_density_of_three_actions_integrates_to_one():
    points = (np.arange(400) + 0.5) / 400
    x, y = np.meshgrid(points, points)
    inside = x + y < 1 - 1e-9
    value = np.stack([x, y, 1 - x - y], axis=-1)[inside]
    policy = policies.GumbelSoftmax(LOGITS[:3], 1.3, straight_through=False)
    density = np.exp(jax.jit(policy.log_prob)(jnp.float32(value)))
    np.testing.assert_allclose(density.sum() / 400**2, 1.0, atol=0.01)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.03, 0.01])
def test_relaxed_samples_know_their_own_density_at_any_temperature(temperature, key):
    """Against float64, from the same disturbed logits; a masked action is no part."""
    policy = policies.GumbelSoftmax(LOGITS, temperature, MASK, straight_through=False)
    values, found = policy.sample_and_log_prob(seed=key, sample_shape=(512,))
    np.testing.assert_array_equal(values, policy.sample(seed=key, sample_shape=(512,)))
    noise = jax.random.gumbel(key, (512, 4), jnp.float32)
    np.testing.assert_allclose(
        values, jax.nn.softmax((policy.logits + noise) / temperature), atol=2e-5
    )
    disturbed = np.asarray(LOGITS + noise, np.float64)[:, KEPT] / temperature
    logs = disturbed - special.logsumexp(disturbed, axis=1, keepdims=True)
    ratio = np.asarray(LOGITS, np.float64)[KEPT] - temperature * logs
    exact = special.gammaln(3) + 2 * np.log(temperature) + np.sum(ratio - logs, axis=1)
    exact -= 3 * special.logsumexp(ratio, axis=1)
    np.testing.assert_allclose(found, exact, rtol=2e-4, atol=2e-3)
    assert np.isfinite(jax.vmap(policy.log_prob)(values)).all()

    def mean(logits):
        policy = policies.GumbelSoftmax(logits, temperature, MASK, False)
        return policy.sample_and_log_prob(seed=key, sample_shape=(512,))[1].mean()

    assert np.isfinite(jax.grad(mean)(LOGITS)).all()


def test_a_logit_of_nan_is_not_a_masked_one():
    policy = policies.GumbelSoftmax(LOGITS.at[1].set(jnp.nan), 0.5, MASK, False)
    assert jnp.isnan(policy.log_prob(jnp.array([0.2, 0.3, 0.0, 0.5])))
