"""Token compressors: what is kept, in what order, and what padding may not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import compressors

LENGTH, NUM_TOKENS, DIM = 8, 4, 12
NAMES = {"identity": LENGTH, "stride": 4, "window_pool": 4, "learned_queries": 4}
MASK = np.array(
    [[1, 1, 0, 0, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1], [0] * LENGTH], bool
)


@pytest.fixture(scope="module", params=NAMES)
def case(request, random_params):
    num_tokens = NAMES[request.param]
    module = compressors.make_compressor(request.param, num_tokens)
    tokens = np.random.default_rng(1).normal(size=(3, LENGTH, DIM))
    tokens = tokens.astype(np.float32)
    return module, random_params(module, tokens, MASK), tokens, num_tokens


@pytest.fixture(scope="module")
def apply(case):
    return jax.jit(case[0].apply)


def test_shapes_are_static_and_masked_outputs_zero(case, apply):
    _, variables, tokens, num_tokens = case
    out, mask = apply(variables, tokens, MASK)
    assert out.shape == (3, num_tokens, DIM)
    assert mask.shape == (3, num_tokens)
    assert mask.dtype == jnp.bool_
    assert (np.asarray(out)[~np.asarray(mask)] == 0).all()
    assert mask[1].all()
    assert not mask[2].any()


@pytest.mark.parametrize("garbage", [1e6, np.nan])
def test_what_padding_holds_never_comes_out(case, apply, garbage):
    _, variables, tokens, _ = case
    dirty = np.where(MASK[..., None], tokens, np.float32(garbage))
    np.testing.assert_array_equal(
        apply(variables, tokens, MASK)[0], apply(variables, dirty, MASK)[0]
    )


def test_gradients_are_finite_and_none_reaches_padding(case):
    module, variables, tokens, _ = case

    @jax.jit
    def gradient(tokens, mask):
        def loss(variables, tokens):
            return jnp.sum(jnp.sin(module.apply(variables, tokens, mask)[0]))

        return jax.grad(loss, argnums=(0, 1))(variables, tokens)

    params_gradient, tokens_gradient = gradient(tokens, MASK)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(params_gradient))
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(params_gradient))
    assert np.isfinite(tokens_gradient).all()
    assert np.abs(tokens_gradient).max() > 0
    assert (np.asarray(tokens_gradient)[~MASK] == 0).all()


def test_jit_equals_eager(case, apply):
    module, variables, tokens, _ = case
    eager, _ = module.apply(variables, tokens, MASK)
    jitted, _ = apply(variables, tokens, MASK)
    np.testing.assert_allclose(eager, jitted, atol=1e-5)


def test_stride_keeps_the_first_token_of_each_window_in_order():
    tokens = jnp.arange(1.0, 9.0).reshape(1, 8, 1)
    out, mask = compressors.Stride(4).apply({}, tokens, jnp.asarray(MASK[:1]))
    assert out.ravel().tolist() == [1, 0, 0, 7]
    assert mask[0].tolist() == [True, False, False, True]


def test_window_pool_is_the_mean_of_the_valid_tokens_of_each_window():
    tokens = jnp.arange(1.0, 9.0).reshape(1, 8, 1)
    out, mask = compressors.WindowPool(4).apply({}, tokens, jnp.asarray(MASK[:1]))
    assert out.ravel().tolist() == [1.5, 0, 6, 7]
    assert mask[0].tolist() == [True, False, True, True]


def test_learned_queries_do_not_mind_the_order_of_their_input(random_params):
    module = compressors.LearnedQueries(3, num_heads=2)
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(1, LENGTH, DIM)).astype(np.float32)
    variables = random_params(module, tokens, MASK[:1])
    order = rng.permutation(LENGTH)
    apply = jax.jit(module.apply)
    out, _ = apply(variables, tokens, MASK[:1])
    shuffled, _ = apply(variables, tokens[:, order], MASK[:1, order])
    np.testing.assert_allclose(out, shuffled, atol=1e-5)
    assert not np.allclose(out[:, 0], out[:, 1], atol=1e-2)


@pytest.mark.parametrize(
    ("name", "num_tokens", "message"),
    [
        ("magic", 4, r"'magic'; known are \['identity', 'learned_queries',"),
        ("identity", 4, "asked for 4 tokens of 8"),
        ("stride", 16, "between 1 and the number of input tokens, 8"),
        ("stride", 3, r"equal windows; choose one of \[1, 2, 4, 8\]"),
        ("window_pool", 0, "between 1"),
        ("window_pool", 5, r"equal windows; choose one of \[1, 2, 4, 8\]"),
        ("learned_queries", 9, "between 1 and the number of input tokens, 8"),
    ],
)
def test_a_bad_choice_is_refused(name, num_tokens, message):
    with pytest.raises(ValueError, match=message):
        compressors.make_compressor(name, num_tokens).init(
            jax.random.key(0), jnp.zeros((3, LENGTH, DIM)), MASK
        )


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="expects tokens"):
        compressors.WindowPool(2).apply({}, jnp.zeros((3, LENGTH, DIM)), MASK[:2])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="num_heads=5 must divide"):
        compressors.LearnedQueries(2, num_heads=5).init(
            jax.random.key(0), jnp.zeros((3, LENGTH, DIM)), MASK
        )
