"""LoRA is the low-rank sum it says, leaves the rest alone, and trains by path."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax import base
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import lora
from m3jax.ops import paths
from m3jax.testing import gradients
from m3jax.train import checkpoints, learner, optimizers

pytestmark = pytest.mark.usefixtures("quick_compilation")

DIM, DEPTH, RANK, ALPHA = 6, 2, 3, 12.0
PATTERN = "(layers|head)/kernel"
RNG = np.random.default_rng(0)
BATCH = {
    "x": RNG.normal(size=(16, DIM)).astype(np.float32),
    "y": RNG.normal(size=(16, 4)).astype(np.float32),
}


draw_factors = jax.jit(lora.init, static_argnums=(2, 3))
merge = jax.jit(lora.merge, static_argnums=2)


def make_params():
    rng = np.random.default_rng(1)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return {
        "layers": {"kernel": draw(DEPTH, DIM, DIM), "bias": draw(DEPTH, DIM)},
        "head": {"kernel": draw(DIM, 4)},
    }


def apply(params, x):
    stack = params["layers"]
    for layer in range(DEPTH):
        x = jnp.tanh(x @ stack["kernel"][layer] + stack["bias"][layer])
    return x @ params["head"]["kernel"]


def make_system():
    """A small network with a stack of layers; its first key decides its numbers."""

    def init(key, batch):
        shift = jax.random.normal(key)
        return jax.tree.map(lambda leaf: leaf + shift, make_params())

    def loss(params, batch, key):
        error = jnp.mean((apply(params, batch["x"]) - batch["y"]) ** 2)
        return error, {"error": error}

    def outputs(params, batch, key):
        return apply(params, batch["x"])

    return base.System(init=init, loss=loss, predict={"outputs": outputs})


@pytest.fixture(scope="module")
def factors():
    """Factors none of which is zero."""
    made = draw_factors(jax.random.key(0), make_params(), PATTERN, RANK)
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), made
    )


def test_merging_adds_the_low_rank_product_of_each_layer(factors):
    params = make_params()
    merged = merge(params, factors, ALPHA)
    for layer in range(DEPTH):
        pair = {k: v[layer] for k, v in factors["layers"]["kernel"].items()}
        update = sum(np.outer(pair["a"][:, r], pair["b"][r]) for r in range(RANK))
        expected = params["layers"]["kernel"][layer] + ALPHA / RANK * update
        np.testing.assert_allclose(
            merged["layers"]["kernel"][layer], expected, rtol=1e-5, atol=1e-5
        )
    pair = factors["head"]["kernel"]
    expected = params["head"]["kernel"] + ALPHA / RANK * pair["a"] @ pair["b"]
    np.testing.assert_allclose(merged["head"]["kernel"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(merged["layers"]["bias"], params["layers"]["bias"])


def test_a_negative_alpha_takes_the_update_away(factors):
    back = merge(merge(make_params(), factors, ALPHA), factors, -ALPHA)
    for one, two in zip(*map(jax.tree.leaves, (back, make_params())), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_merging_keeps_the_dtype_of_the_kernel(factors):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), make_params())
    merged = jax.eval_shape(lambda *args: lora.merge(*args, ALPHA), half, factors)
    assert {leaf.dtype for leaf in jax.tree.leaves(merged)} == {jnp.dtype("bfloat16")}


def test_gradients_of_the_factors_equal_finite_differences(factors):
    @jax.jit
    def loss(factors, params):
        return jnp.sum(apply(lora.merge(params, factors, ALPHA), BATCH["x"]) ** 2)

    small = jax.tree.map(lambda leaf: 0.1 * leaf, factors)
    gradients.check_against_finite_differences(loss, (small, make_params()), rtol=1e-4)


def test_at_a_full_rank_least_squares_finds_any_update():
    """With A as drawn and square, B = rank / alpha A^-1 update."""
    params = make_params()
    made = draw_factors(jax.random.key(3), params, "layers/kernel", DIM)
    update = np.random.default_rng(4).normal(size=(DEPTH, DIM, DIM))
    a = np.asarray(made["layers"]["kernel"]["a"], np.float64)
    b = [np.linalg.lstsq(*pair, rcond=None)[0] for pair in zip(a, update, strict=True)]
    b = np.stack(b) * DIM / ALPHA
    factors = {"layers": {"kernel": {"a": a.astype("f4"), "b": b.astype("f4")}}}
    merged = merge(params, factors, ALPHA)
    changed = merged["layers"]["kernel"] - params["layers"]["kernel"]
    np.testing.assert_allclose(changed, update, atol=1e-3)


def test_a_starts_with_variance_one_over_fan_in_and_b_at_zero():
    wide = {"kernel": jnp.zeros((3, 64, 8))}
    pair = draw_factors(jax.random.key(5), wide, "kernel", 100)["kernel"]
    error = 4 * np.sqrt(2 / pair["a"].size)
    np.testing.assert_allclose(np.var(pair["a"]) * 64, 1.0, atol=error)
    assert not np.any(pair["b"])


def test_the_numbers_that_train_are_rank_times_the_sum_of_sides(factors):
    expected = RANK * (DEPTH * (DIM + DIM) + DIM + 4)
    assert lora.count(factors) == expected


def test_a_decoder_is_adapted_in_every_layer_by_path(random_params):
    config = decoder_lib.DecoderConfig(
        vocab_size=7, dim=8, depth=3, num_heads=2, num_kv_heads=1, ff_dim=8
    )
    decoder = decoder_lib.Decoder(config)
    embeds = RNG.normal(size=(2, 4, 8)).astype(np.float32)
    mask = np.ones((2, 4), bool)
    params = random_params(decoder, embeds, mask)["params"]
    made = draw_factors(
        jax.random.key(6), {"decoder": params}, lora.QUERIES_AND_VALUES, 2
    )
    sides = {"q": (8, 8), "v": (8, 4)}
    expected = {
        f"decoder/layers/attention/{name}/kernel/{factor}": shape
        for name, (rows, columns) in sides.items()
        for factor, shape in (("a", (3, rows, 2)), ("b", (3, 2, columns)))
    }
    shapes = {path: leaf.shape for path, leaf in paths.flatten(made).items()}
    assert shapes == expected

    def hidden(made):
        merged = lora.merge({"decoder": params}, made, ALPHA)["decoder"]
        return decoder.apply({"params": merged}, embeds, mask)[0]

    # Each factor of b, in each layer, is felt: nothing is broadcast over the depth.
    slopes = jax.jit(jax.grad(lambda made: jnp.sum(jnp.sin(hidden(made)))))(made)
    for path, slope in paths.flatten(slopes).items():
        if path.endswith("/b"):
            assert np.abs(slope).max(axis=(1, 2)).min() > 1e-6, path


def test_a_system_with_lora_starts_as_the_plain_one():
    key, plain = jax.random.key(7), make_system()
    adapted = lora.with_lora(plain, PATTERN, RANK, ALPHA)
    params = jax.jit(adapted.init)(key, BATCH)
    own = params.pop("lora")
    expected = jax.jit(plain.init)(key, BATCH)
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert set(own) == {"layers", "head"}
    both = {**params, "lora": own}
    assert adapted.loss(both, BATCH, key)[0] == plain.loss(params, BATCH, key)[0]


def test_folding_gives_the_plain_system_what_the_adapted_one_says(factors):
    plain = make_system()
    adapted = lora.with_lora(plain, PATTERN, RANK, ALPHA)
    params = {**make_params(), "lora": factors}
    folded = lora.fold(params, ALPHA)
    assert set(folded) == {"layers", "head"}
    one, two = (
        system.predict["outputs"](values, BATCH, jax.random.key(0))
        for system, values in ((adapted, params), (plain, folded))
    )
    np.testing.assert_allclose(one, two, rtol=1e-6)
    assert np.abs(one - apply(make_params(), BATCH["x"])).max() > 0.1


@pytest.mark.parametrize("trainable", ["lora/.*", "head/.*|lora/layers/.*"])
def test_ten_steps_move_what_trains_and_only_that_has_optimizer_state(trainable):
    system = lora.with_lora(make_system(), PATTERN, RANK, ALPHA)
    config = optimizers.OptimizerConfig(learning_rate=1e-2, schedule="constant")
    train = learner.make_learner(system, config, steps=10, trainable=trainable)
    state = jax.jit(train.init)(jax.random.key(8), BATCH)
    before, step = state.params, jax.jit(train.step)
    losses = []
    for _ in range(10):
        state, metrics = step(state, BATCH, jax.random.key(0))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.95 * losses[0]
    trains = paths.flatten(paths.mask(before, trainable))
    after = paths.flatten(state.params)
    for path, leaf in paths.flatten(before).items():
        assert np.array_equal(after[path], leaf) != trains[path], path
    moments = [leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    trained = sum(leaf.size for path, leaf in after.items() if trains[path])
    assert sum(moments) == 2 * trained


def test_factors_come_back_from_a_checkpoint(tmp_path, factors):
    params = {**make_params(), "lora": factors}
    checkpoints.save_params(tmp_path / "params", params, {"name": "adapted"})
    restored = checkpoints.restore_params(tmp_path / "params")
    assert jax.tree.structure(restored) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, restored, params)


@pytest.mark.parametrize(
    ("pattern", "rank", "message"),
    [
        ("layers/.*", 2, "also matches 'layers/bias'; let it end in '/kernel'"),
        ("tail/kernel", 2, "'tail/kernel' matches no parameter"),
        (PATTERN, 0, "rank of LoRA must be at least 1"),
    ],
)
def test_what_cannot_be_adapted_is_named(pattern, rank, message):
    with pytest.raises(ValueError, match=message):
        lora.init(jax.random.key(0), make_params(), pattern, rank)


def test_factors_that_do_not_fit_are_named(factors):
    with pytest.raises(ValueError, match="no kernel at 'layers/kernel'"):
        lora.merge({"head": make_params()["head"]}, factors, ALPHA)
    narrow = {"head": {"kernel": jnp.ones((DIM, 3))}}
    with pytest.raises(ValueError, match=r"update of shape \[6, 4\], but the kernel"):
        lora.merge(narrow, {"head": factors["head"]}, ALPHA)


def test_a_senseless_wrapping_is_refused():
    plain = make_system()
    for alpha in (0.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="alpha of LoRA must be finite"):
            lora.with_lora(plain, PATTERN, RANK, alpha)
    twice = lora.with_lora(lora.with_lora(plain, PATTERN), PATTERN)
    with pytest.raises(ValueError, match="a mapping without an entry 'lora'"):
        jax.eval_shape(twice.init, jax.random.key(0), BATCH)
    bare = dataclasses.replace(plain, init=lambda key, batch: [jnp.ones((2, 2))])
    with pytest.raises(ValueError, match="got list"):
        jax.eval_shape(lora.with_lora(bare, "0").init, jax.random.key(0), BATCH)
