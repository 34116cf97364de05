"""Patches against plain loops and a convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import patches


@pytest.mark.parametrize(
    ("input_shape", "patch_shape", "patch_stride"),
    [
        ((4, 6, 3), (2, 3), None),
        ((4, 4, 6, 2), (2, 2, 3), None),
        ((6, 5, 1), (2, 5), None),
        ((6, 2), (3,), None),
        ((9, 8, 2), (4, 3), (2, 3)),
        ((5, 4, 6, 1), (2, 2, 4), (1, 2, 3)),
        ((7, 2), (3,), (3,)),
    ],
)
def test_patchify_equals_naive_loops(input_shape, patch_shape, patch_stride):
    x = np.arange(2 * np.prod(input_shape)).reshape(2, *input_shape)
    steps = patch_stride or patch_shape
    starts = [
        [start for start in range(0, size, step) if start + patch <= size]
        for size, patch, step in zip(input_shape, patch_shape, steps, strict=False)
    ]
    expected = []
    for index in np.ndindex(*map(len, starts)):
        corner = [axis[i] for axis, i in zip(starts, index, strict=True)]
        window = tuple(
            slice(start, start + patch)
            for start, patch in zip(corner, patch_shape, strict=True)
        )
        expected.append(x[(slice(None), *window)].reshape(2, -1))
    actual = patches.patchify(jnp.asarray(x), patch_shape, patch_stride)
    np.testing.assert_array_equal(actual, np.stack(expected, axis=1))


@pytest.mark.parametrize("stride", [1, 2])
def test_neighbourhoods_and_a_product_are_a_convolution(stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 8, 6, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 5)), jnp.float32)
    want = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    got = patches.neighbourhoods(x, stride) @ kernel.reshape(27, 5)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
