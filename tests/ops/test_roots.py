import jax
import jax.numpy as jnp
import numpy as np

from m3jax.ops import roots


def test_values_and_slopes_are_those_of_the_root_above_zero_and_zero_below():
    x = jnp.array([-1.0, 0.0, 1e-30, 0.25, 9.0])
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(roots.sqrt)))(x)
    np.testing.assert_allclose(value, [0.0, 0.0, 1e-15, 0.5, 3.0], rtol=1e-6)
    np.testing.assert_allclose(slope, [0.0, 0.0, 5e14, 1.0, 1.0 / 6.0], rtol=1e-6)
