import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.channels import capacity, finite_blocklength
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")


def meta_converse(snr, num_symbols, error):
    """No code has a higher rate: Polyanskiy, Poor and Verdu 2010, Theorem 41.

    Bits per complex symbol. The optimal test between the channel's output and white
    noise of the same power is a threshold on a non-central chi-square variable.
    """
    samples = 2 * num_symbols
    threshold = stats.ncx2.isf(error, samples, samples / snr)
    # Under the white output (variance 1 + snr) the same variable is scaled.
    confusion = stats.ncx2.logcdf(
        threshold / (1.0 + snr), samples, samples * (1.0 + snr) / snr
    )
    return -confusion / np.log(2.0) / num_symbols


@pytest.mark.parametrize(
    ("snr", "num_symbols", "error", "close"),
    [(1.0, 250, 1e-3, 0.02), (1.0, 500, 1e-3, 0.01), (10.0, 150, 1e-2, 0.02)],
)
def test_rate_is_just_below_the_converse_bound(snr, num_symbols, error, close):
    bound = meta_converse(snr, num_symbols, error)
    rate = float(finite_blocklength.rate(snr, num_symbols, error))
    assert rate < bound < float(capacity.shannon(snr))
    assert bound - rate < close


def test_dispersion_is_the_variance_of_the_information_density():
    nodes, weights = np.polynomial.hermite.hermgauss(20)  # unit complex noise, an axis
    a, b = np.meshgrid(nodes, nodes)
    weights = np.outer(weights, weights) / np.pi
    for snr in (0.1, 1.0, 30.0):
        received = (np.sqrt(snr) + a) ** 2 + b**2
        density = (received / (1.0 + snr) - a**2 - b**2) * np.log2(np.e)
        mean = np.sum(weights * density)
        expected = np.sum(weights * (density - mean) ** 2)
        got = float(finite_blocklength.dispersion(snr))
        assert got == pytest.approx(expected, rel=1e-5)


def test_rate_error_and_snr_invert_each_other():
    def there_and_back(snr):
        rate = finite_blocklength.rate(snr, 200, 1e-3)
        error = finite_blocklength.error(snr, 200, rate)
        return finite_blocklength.snr(rate, 200, 1e-3), error

    snr = jnp.array([0.2, 1.0, 10.0, 1e3])
    found, error = jax.jit(there_and_back)(snr)
    np.testing.assert_allclose(found, snr, rtol=2e-5)
    np.testing.assert_allclose(error, 1e-3, rtol=2e-3)


def test_rate_tends_to_capacity_from_below():
    snr = jnp.array([0.1, 1.0, 100.0])
    rates = [finite_blocklength.rate(snr, n, 1e-3) for n in (1e2, 1e3, 1e4, 1e6)]
    assert np.all(np.diff(rates, axis=0) > 0.0)
    gap = (capacity.shannon(snr) - rates[-1]) / capacity.shannon(snr)
    assert np.all((gap > 0.0) & (gap < 0.02))


def test_gradients_are_the_slopes():
    def total(snr, num_symbols, error, rate):
        return (
            finite_blocklength.rate(snr, num_symbols, error)
            + finite_blocklength.error(snr, num_symbols, rate)
            + finite_blocklength.snr(rate, num_symbols, error)
        )

    args = tuple(map(np.float32, (2.0, 150.0, 1e-2, 1.45)))
    gradients.check_against_finite_differences(jax.jit(total), args)


def test_gradients_are_finite_at_the_edges():
    def at(snr):
        rate = jax.value_and_grad(finite_blocklength.rate)(snr, 100.0, 1e-3)
        return rate, jax.value_and_grad(finite_blocklength.error)(snr, 100.0, 1.0)

    edges = jnp.array([0.0, 1e-20, 1e35, jnp.inf])
    found = jax.jit(jax.vmap(at))(edges)
    gradients.assert_finite(found, "rate and error")
    (rates, _), (errors, _) = found
    np.testing.assert_allclose(rates[:2], 0.0, atol=1e-9)
    np.testing.assert_array_equal(errors, [1.0, 1.0, 0.0, 0.0])
