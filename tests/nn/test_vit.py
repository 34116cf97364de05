"""The vision transformer: patches, their order, and the trunk."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import vit

SMALL = vit.ViTConfig(
    dim=16, depth=2, num_heads=2, mlp_dim=24, input_shape=(8, 8, 3), patch_shape=(2, 2)
)


@pytest.fixture(scope="module")
def small(random_params):
    x = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype(np.float32)
    model = vit.ViT(SMALL)
    return model, random_params(model, x), x


@pytest.fixture(scope="module")
def apply(small):
    return jax.jit(small[0].apply)


@pytest.mark.parametrize(
    ("input_shape", "patch_shape"),
    [
        ((4, 6, 3), (2, 3)),
        ((4, 4, 6, 2), (2, 2, 3)),
        ((6, 5, 1), (2, 5)),
        ((6, 2), (3,)),
    ],
)
def test_patchify_equals_naive_loops(input_shape, patch_shape):
    x = np.arange(2 * np.prod(input_shape)).reshape(2, *input_shape)
    grid = [s // p for s, p in zip(input_shape[:-1], patch_shape, strict=True)]
    expected = []
    for index in np.ndindex(*grid):
        window = tuple(
            slice(i * p, (i + 1) * p) for i, p in zip(index, patch_shape, strict=True)
        )
        expected.append(x[(slice(None), *window)].reshape(2, -1))
    actual = vit.patchify(jnp.asarray(x), patch_shape)
    np.testing.assert_array_equal(actual, np.stack(expected, axis=1))


@pytest.mark.parametrize(("side", "window"), [(2, 4), (4, 4), (8, 4), (8, 16)])
def test_z_order_windows_are_square_blocks(side, window):
    config = vit.ViTConfig(input_shape=(side, side, 1), patch_shape=(1, 1))
    order = vit.token_order(config)
    assert sorted(order) == list(range(side**2))
    rows, columns = np.divmod(order.reshape(-1, window), side)
    block = int(window**0.5)
    for axis in (rows, columns):
        assert (np.ptp(axis, axis=1) == block - 1).all()
        assert (axis.min(axis=1) % block == 0).all()


def test_z_order_of_video_keeps_windows_of_four_in_a_frame():
    config = vit.ViTConfig(input_shape=(8, 32, 32, 3), patch_shape=(2, 8, 8))
    frames, rows, columns = np.unravel_index(
        vit.token_order(config).reshape(-1, 4), (4, 4, 4)
    )
    assert (np.ptp(frames, axis=1) == 0).all()
    assert (np.ptp(rows, axis=1) == 1).all()
    assert (np.ptp(columns, axis=1) == 1).all()


@pytest.mark.parametrize(
    ("input_shape", "patch_shape", "order"),
    [
        ((6, 6, 1), (1, 1), "z"),
        ((4, 8, 1), (1, 1), "z"),
        ((64, 40, 1), (4, 40), "z"),
        ((4, 4, 1), (4, 4), "z"),
        ((4, 4, 1), (1, 1), "raster"),
    ],
)
def test_other_grids_keep_raster_order(input_shape, patch_shape, order):
    config = vit.ViTConfig(
        input_shape=input_shape, patch_shape=patch_shape, order=order
    )
    expected = np.arange(vit.num_tokens(config))
    np.testing.assert_array_equal(vit.token_order(config), expected)


def test_tokens_come_in_token_order(small, apply):
    """Without layers to mix them, each token follows its own patch and no other."""
    _, variables, x = small
    order = vit.token_order(SMALL)
    still = jax.tree.map(np.zeros_like, variables["params"]["layers"])
    params = {**variables["params"], "layers": still}
    for token in (1, 2, 7):
        row, column = np.divmod(order[token], 4)
        changed = x.copy()
        changed[:, 2 * row, 2 * column] += 1.0
        difference = apply({"params": params}, changed) - apply({"params": params}, x)
        moved = np.abs(difference).max(axis=(0, 2)) > 1e-4
        assert np.flatnonzero(moved).tolist() == [token]


@pytest.mark.parametrize(
    ("input_shape", "patch_shape", "length"),
    [((8, 8, 8, 3), (2, 4, 4), 16), ((16, 5, 1), (4, 5), 4)],
)
def test_video_and_sound_use_the_same_trunk(input_shape, patch_shape, length):
    config = vit.ViTConfig(
        dim=8, depth=1, num_heads=2, input_shape=input_shape, patch_shape=patch_shape
    )
    model, x = vit.ViT(config), jnp.ones((2, *input_shape))
    tokens, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    assert tokens.shape == (2, length, 8)
    assert vit.num_tokens(config) == length


def test_jit_equals_eager_and_vmap_equals_batch(small, apply):
    model, variables, x = small
    batched = apply(variables, x)
    np.testing.assert_allclose(batched, model.apply(variables, x), atol=1e-5)
    single = jax.jit(jax.vmap(lambda x: model.apply(variables, x[None])[0]))(x)
    np.testing.assert_allclose(batched, single, atol=1e-5)


def test_every_parameter_gets_a_gradient(small):
    model, variables, x = small

    def loss(variables):
        return jnp.sum(jnp.sin(3 * model.apply(variables, x)))

    gradients = jax.jit(jax.grad(loss))(variables)
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


def test_unrolling_the_scan_changes_nothing(small, apply):
    _, variables, x = small
    unrolled = vit.ViT(dataclasses.replace(SMALL, scan_unroll=2))
    np.testing.assert_allclose(
        jax.jit(unrolled.apply)(variables, x),
        apply(variables, x),
        atol=1e-5,
    )


def test_parameter_count_is_the_textbook_number(small):
    _, variables, _ = small
    dim, mlp_dim, depth = SMALL.dim, SMALL.mlp_dim, SMALL.depth
    embed = (2 * 2 * 3) * dim + dim + 16 * dim
    layer = 4 * dim * (dim + 1) + 2 * dim * mlp_dim + mlp_dim + dim + 4 * dim
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == embed + depth * layer + 2 * dim


def test_bfloat16_computes_close_to_float32_with_float32_parameters(small, apply):
    _, variables, x = small
    half = vit.ViT(dataclasses.replace(SMALL, dtype="bfloat16"))
    made = jax.eval_shape(half.init, jax.random.key(0), x)
    tokens = jax.jit(half.apply)(variables, x)
    assert tokens.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype("float32")}
    expected = apply(variables, x)
    np.testing.assert_allclose(tokens.astype(jnp.float32), expected, atol=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "num_heads=5 must divide"),
        ({"patch_shape": (8, 7)}, "must divide input_shape"),
        ({"patch_shape": (8,)}, "one entry for each axis"),
        ({"order": "spiral"}, "'spiral'"),
        ({"depth": 0}, "depth must be at least 1"),
    ],
)
def test_a_bad_config_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        vit.ViTConfig(**changes)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 8, 9, 3), np.float32), r"expects \[B, 8, 8, 3\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), "uint8: scale the input first"),
    ],
)
def test_a_bad_input_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        vit.ViT(SMALL).init(jax.random.key(0), x)


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
    got = vit.neighbourhoods(x, stride) @ kernel.reshape(27, 5)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_stem_makes_as_many_tokens_as_its_patches():
    config = dataclasses.replace(SMALL, stem_dims=(4,))
    model = vit.ViT(config)
    shape = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))[0]
    ).shape
    assert shape == (1, vit.num_tokens(config), 16)


def test_a_stem_that_does_not_fit_the_patch_is_refused():
    with pytest.raises(ValueError, match="patches of 4 pixels"):
        dataclasses.replace(SMALL, stem_dims=(4, 4))
