import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from m3jax.ops import bessel

X = np.concatenate([np.linspace(-60.0, 60.0, 4001), [-25.0, 0.0, 25.0, 1e3]])


def test_j0_and_its_slope_equal_scipy_on_both_sides_of_the_seam():
    both = jax.jit(jax.vmap(jax.value_and_grad(bessel.j0)))
    with jax.enable_x64(True):
        value, slope = both(jnp.asarray(X))
    np.testing.assert_allclose(value, special.j0(X), atol=1e-9)
    np.testing.assert_allclose(slope, -special.j1(X), atol=1e-9)


def test_j0_in_float32_is_good_to_what_its_argument_holds():
    value = jax.jit(bessel.j0)(jnp.asarray(X, jnp.float32))
    error = np.abs(value - special.j0(X))
    assert (error < 1e-6 + 1e-7 * np.abs(X)).all()
