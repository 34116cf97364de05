"""The vision transformer: patches, their order, and the trunk."""

import dataclasses
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import patches, vit

SMALL = vit.ViTConfig(
    dim=16, depth=2, num_heads=2, mlp_dim=24, input_shape=(8, 8, 3), patch_shape=(2, 2)
)
SOUND = dataclasses.replace(
    SMALL,
    input_shape=(9, 8, 1),
    patch_shape=(4, 3),
    patch_stride=(2, 3),
    num_class_tokens=2,
)


@pytest.fixture(scope="module")
def small(random_params):
    x = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype(np.float32)
    model = vit.ViT(SMALL)
    return model, random_params(model, x), x


@pytest.fixture(scope="module")
def apply(small):
    return jax.jit(small[0].apply)


@pytest.fixture(scope="module")
def sound(random_params):
    """Overlapping patches after class tokens, which carry scores too."""
    x = np.random.default_rng(2).normal(size=(3, 9, 8, 1)).astype(np.float32)
    model = vit.ViT(SOUND)
    return model, random_params(model, x, gain=2.0), x


@pytest.fixture(scope="module")
def apply_scored(sound):
    return jax.jit(lambda variables, x: sound[0].apply(variables, x, with_scores=True))


def _vit(config, params, x):
    """Tokens of one example [L, D], and the scores [L] of the last layer, in NumPy."""
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)

    def norm(x, p):
        x = x - x.mean(-1, keepdims=True)
        return (
            x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]
        )

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    cut = patches.patchify(x[None], config.patch_shape, config.patch_stride)[0]
    tokens = dense(np.asarray(cut, np.float64), params["patch_embed"])
    tokens = np.concatenate([params["class_embed"], tokens]) + params["position_embed"]
    for depth in range(config.depth):
        layer = jax.tree.map(operator.itemgetter(depth), params["layers"])
        normed = norm(tokens, layer["attention_norm"])
        qkv = dense(normed, layer["attention"]["qkv"])
        qkv = qkv.reshape(len(tokens), 3, config.num_heads, -1)
        logits = np.einsum("qhd,khd->hqk", qkv[:, 0], qkv[:, 1])
        weights = np.exp(logits / np.sqrt(config.dim / config.num_heads))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, qkv[:, 2]).reshape(len(tokens), -1)
        tokens = tokens + dense(mixed, layer["attention"]["out"])
        hidden = dense(norm(tokens, layer["mlp_norm"]), layer["mlp"]["up"])
        tanh = np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3))
        tokens = tokens + dense(0.5 * hidden * (1 + tanh), layer["mlp"]["down"])
    return norm(tokens, params["final_norm"]), weights.mean(axis=(0, 1))


def test_tokens_and_scores_equal_a_transformer_in_numpy(sound, apply_scored):
    _, variables, x = sound
    tokens, scores = apply_scored(variables, x)
    assert scores.dtype == jnp.float32
    for b in range(len(x)):
        expected = _vit(SOUND, variables["params"], x[b])
        np.testing.assert_allclose(tokens[b], expected[0], atol=1e-4)
        np.testing.assert_allclose(scores[b], expected[1], atol=1e-6)
        assert np.ptp(expected[1]) > 0.05


def test_asking_for_scores_changes_neither_tokens_nor_parameters(sound, apply_scored):
    model, variables, x = sound
    tokens, _ = apply_scored(variables, x)
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, x), tokens)
    made = [
        jax.eval_shape(lambda key, s=s: model.init(key, x, s), jax.random.key(0))
        for s in (False, True)
    ]
    assert made[0] == made[1]


def test_class_tokens_stand_in_front_and_see_no_patch(sound, apply_scored):
    """Without layers to mix them, each token follows its own parameter and no other."""
    _, variables, x = sound
    still = jax.tree.map(np.zeros_like, variables["params"]["layers"])
    params = {**variables["params"], "layers": still}
    tokens, _ = apply_scored({"params": params}, x)
    assert tokens.shape == (3, vit.num_tokens(SOUND), 16) == (3, 2 + 3 * 2, 16)
    changed, _ = apply_scored({"params": params}, x + np.arange(9)[:, None, None])
    moved = np.abs(changed - tokens).max(axis=(0, 2)) > 1e-4
    assert moved.tolist() == [False] * 2 + [True] * 6
    for number in range(2):
        first = params["class_embed"].copy()
        first[number, 0] += 1.0
        changed, _ = apply_scored({"params": {**params, "class_embed": first}}, x)
        moved = np.abs(changed - tokens).max(axis=(0, 2)) > 1e-4
        assert np.flatnonzero(moved).tolist() == [number]


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
        ({"num_class_tokens": -1}, "num_class_tokens must be at least 0"),
        ({"patch_stride": (9, 8)}, r"patch_stride=\(9, 8\) must be from 1 to"),
        ({"patch_stride": (4, 0)}, r"patch_stride=\(4, 0\) must be from 1 to"),
        ({"patch_stride": (4,)}, r"patch_stride=\(4,\) must be from 1 to"),
        ({"patch_shape": (65, 8), "patch_stride": (8, 8)}, "or fit into it"),
        ({"stem_dims": (8, 8, 8), "patch_stride": (4, 4)}, "that do not overlap"),
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
