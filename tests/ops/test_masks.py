import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops import masks

MASK = np.array([True, False, True, False])


def test_means_equal_numpy_on_the_valid_rows():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    mean, square = masks.masked_mean(x, MASK), masks.masked_mean_square(x, MASK)
    np.testing.assert_allclose(mean, x[MASK].mean(), rtol=1e-5)
    np.testing.assert_allclose(square, (x[MASK] ** 2).mean(), rtol=1e-5)


def test_mean_square_of_complex_values_is_real_power():
    x = np.array([3 + 4j, 100, 0, 100], np.complex64)
    power = masks.masked_mean_square(x, MASK)
    assert not np.iscomplexobj(power)
    assert float(power) == 12.5


def test_nan_padding_harms_neither_value_nor_gradient():
    x = jnp.where(MASK, 2.0, jnp.nan)
    value, grad = jax.value_and_grad(masks.masked_mean_square)(x, MASK)
    assert value == 4.0
    np.testing.assert_array_equal(grad, [2.0, 0.0, 2.0, 0.0])


def test_nothing_valid_gives_zero():
    nothing = np.zeros(4, bool)
    value, grad = jax.value_and_grad(masks.masked_mean)(jnp.ones(4), nothing)
    assert value == 0.0
    np.testing.assert_array_equal(grad, np.zeros(4))


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(ValueError, match="leading axes"):
        masks.keep(jnp.ones((3, 4)), MASK)
