import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.ops import gaussians

pytestmark = pytest.mark.usefixtures("quick_compilation")

Q = gaussians.Gaussian(jnp.array([0.3, -1.0, 2.0]), jnp.array([0.5, 1.0, 0.01]))
P = gaussians.Gaussian(jnp.array([0.0, -1.0, 1.9]), jnp.array([1.5, 1.0, 0.2]))


def test_the_divergence_matches_monte_carlo():
    rng = np.random.default_rng(0)
    x = rng.normal(Q.mean, Q.std, size=(100_000, 3))
    ratios = stats.norm.logpdf(x, Q.mean, Q.std) - stats.norm.logpdf(x, P.mean, P.std)
    error = 4.0 * ratios.std(axis=0) / np.sqrt(len(x)) + 1e-5
    found = gaussians.kl_divergence(Q, P)
    assert (np.abs(found - ratios.mean(axis=0)) <= error).all()


def test_balancing_keeps_the_number_and_splits_the_gradient():
    def total(function):
        return lambda q, p: jnp.sum(function(q, p))

    plain = total(gaussians.kl_divergence)
    balanced = total(lambda q, p: gaussians.balanced_kl_divergence(q, p, 0.8))
    np.testing.assert_allclose(balanced(Q, P), plain(Q, P), rtol=1e-6)
    of_q, of_p = jax.grad(plain, (0, 1))(Q, P)
    found_q, found_p = jax.grad(balanced, (0, 1))(Q, P)
    for found, expected, share in [(found_q, of_q, 0.2), (found_p, of_p, 0.8)]:
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(f, share * e, rtol=1e-5, atol=1e-6)
