import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from m3jax.ops import exponential_integral


def test_value_and_slope_are_those_of_tricomis_function():
    x = np.concatenate([np.geomspace(1e-10, 1e12, 89), [0.99, 1.01]])
    x = x.astype(np.float32)
    fn = jax.vmap(jax.value_and_grad(exponential_integral.scaled_exp1))
    value, slope = jax.jit(fn)(x)
    # exp(x) E1(x) = U(1, 1, x), and U'(a, b, x) = -a U(a + 1, b + 1, x).
    x = x.astype(float)
    np.testing.assert_allclose(value, special.hyperu(1.0, 1.0, x), rtol=2e-6)
    np.testing.assert_allclose(slope, -special.hyperu(2.0, 2.0, x), rtol=5e-6)


def test_zero_gives_infinity_and_infinity_zero():
    edges = exponential_integral.scaled_exp1(jnp.array([0.0, jnp.inf]))
    np.testing.assert_array_equal(edges, [np.inf, 0.0])
