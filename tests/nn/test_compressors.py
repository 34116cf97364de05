"""Token compressors: what is kept, in what order, and what padding may not do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import compressors
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

LENGTH, DIM = 8, 12
NAMES = {name: LENGTH if name == "identity" else 4 for name in compressors.NAMES}
# Summaries of learned queries have no place in the input; merged tokens have several.
WITH_PLACES = sorted(set(NAMES) - {"learned_queries"})
IN_ORDER = sorted(set(WITH_PLACES) - {"token_merging"})
# One for each piece of code that a gradient or a transformation goes through.
HARD = ("stride", "window_pool", "top_k_norm", "token_merging")

MASK = np.array(
    [[1, 1, 0, 0, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1], [0] * LENGTH], bool
)
TOKENS = np.random.default_rng(1).normal(size=(3, LENGTH, DIM)).astype(np.float32)
SCORES = np.random.default_rng(2).random((3, LENGTH)).astype(np.float32)
unmerge = jax.jit(compressors.unmerge)


class Case:
    """A compressor with its parameters; all are called in the same way."""

    def __init__(self, name, random_params):
        self.num_tokens = NAMES[name]
        self.module = compressors.make_compressor(name, self.num_tokens)
        learns = name == "learned_queries"
        self.variables = random_params(self.module, TOKENS, MASK) if learns else {}
        self.compress = jax.jit(functools.partial(self.run, self.variables))

    def run(self, variables, tokens, mask, method="compress"):
        extras = {"scores": SCORES, "key": jax.random.key(5)}
        return self.module.apply(variables, tokens, mask, **extras, method=method)


@pytest.fixture(scope="module")
def case_of(random_params):
    return functools.cache(lambda name: Case(name, random_params))


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_static_and_masked_outputs_zero(case_of, name):
    case = case_of(name)
    out = case.compress(TOKENS, MASK)
    assert out.tokens.shape == (3, case.num_tokens, DIM)
    assert out.mask.shape == out.sizes.shape == (3, case.num_tokens)
    assert out.slots.shape == (3, LENGTH)
    assert (out.mask.dtype, out.slots.dtype) == (jnp.bool_, jnp.int32)
    assert (np.asarray(out.tokens)[~np.asarray(out.mask)] == 0).all()
    assert out.mask[1].all()
    assert not out.mask[2].any()


@pytest.mark.parametrize("name", ["window_pool", "learned_queries"])
def test_a_call_returns_tokens_and_mask(case_of, name):
    case = case_of(name)
    call = functools.partial(case.run, case.variables, method="__call__")
    out = case.compress(TOKENS, MASK)
    for found, expected in zip(jax.jit(call)(TOKENS, MASK), out[:2], strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", WITH_PLACES)
def test_sizes_count_the_tokens_that_slots_send_to_each(case_of, name):
    case = case_of(name)
    out = jax.tree.map(np.asarray, case.compress(TOKENS, MASK))
    assert (out.slots[~MASK] == -1).all()
    assert ((out.sizes > 0) == out.mask).all()
    counts = [[(row == m).sum() for m in range(case.num_tokens)] for row in out.slots]
    np.testing.assert_array_equal(out.sizes, counts)


@pytest.mark.parametrize("name", WITH_PLACES)
def test_unmerge_gives_each_place_the_mean_that_it_went_into(case_of, name):
    out = case_of(name).compress(TOKENS, MASK)
    back, filled = unmerge(out.tokens, out.mask, out.slots)
    slots = np.asarray(out.slots)
    np.testing.assert_array_equal(filled, slots >= 0)
    for row, place in np.argwhere(slots >= 0):
        expected = TOKENS[row, slots[row] == slots[row, place]].mean(axis=0)
        np.testing.assert_allclose(back[row, place], expected, rtol=1e-5, atol=1e-6)
    assert (np.asarray(back)[slots < 0] == 0).all()


@pytest.mark.parametrize("name", IN_ORDER)
def test_order_is_kept(case_of, name):
    for row in np.asarray(case_of(name).compress(TOKENS, MASK).slots):
        assert (np.diff(row[row >= 0]) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_padding_holds_never_comes_out(case_of, name):
    compress = case_of(name).compress
    for garbage in (1e6, np.nan):
        dirty = np.where(MASK[..., None], TOKENS, np.float32(garbage))
        clean, soiled = compress(TOKENS, MASK), compress(dirty, MASK)
        jax.tree.map(np.testing.assert_array_equal, clean, soiled)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_and_none_reaches_padding(case_of, name):
    case = case_of(name)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(variables, tokens):
        return jnp.sum(jnp.sin(case.run(variables, tokens, MASK).tokens))

    dirty = np.where(MASK[..., None], TOKENS, np.float32(np.nan))
    params_gradient, tokens_gradient = gradient(case.variables, dirty)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(params_gradient))
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(params_gradient))
    assert np.isfinite(tokens_gradient).all()
    assert np.abs(tokens_gradient).max() > 0
    assert (np.asarray(tokens_gradient)[~MASK] == 0).all()


@pytest.mark.parametrize("name", HARD)
def test_gradients_are_the_slopes(case_of, name):
    """In float64, where no choice changes."""
    case = case_of(name)
    weights = np.random.default_rng(3).normal(size=(3, case.num_tokens, DIM))

    @jax.jit
    def loss(tokens):
        return jnp.sum(weights * case.run({}, tokens, MASK).tokens)

    gradients.check_against_finite_differences(loss, (TOKENS,))


@pytest.mark.parametrize("name", [*HARD, "learned_queries"])
def test_jit_equals_eager_and_vmap_a_loop(case_of, name):
    case = case_of(name)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    eager = case.run(case.variables, TOKENS, MASK)
    jax.tree.map(close, case.compress(TOKENS, MASK), eager)
    batches = np.stack([TOKENS, TOKENS[:, ::-1]])
    mapped = jax.jit(jax.vmap(case.compress, (0, None)))(batches, MASK)
    for i, batch in enumerate(batches):
        one = jax.tree.map(lambda x, i=i: x[i], mapped)
        jax.tree.map(close, one, case.compress(batch, MASK))


def test_summaries_of_learned_queries_have_no_place(case_of):
    out = case_of("learned_queries").compress(TOKENS, MASK)
    assert (out.slots == -1).all()
    np.testing.assert_array_equal(out.sizes, out.mask)
    assert not unmerge(out.tokens, out.mask, out.slots)[1].any()


def test_stride_of_any_number_spaces_evenly_and_keeps_the_first():
    """As the public code of TokCom does with 3137 tokens for 128 places."""
    tokens = jnp.arange(7.0)[None, :, None]
    made = compressors.Stride(3).compress(tokens, jnp.ones((1, 7), bool))
    assert made.tokens.ravel().tolist() == [0.0, 2.0, 4.0]
    assert made.slots.tolist() == [[0, -1, 1, -1, 2, -1, -1]]


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
        ("window_pool", 3, r"equal windows; choose one of \[1, 2, 4, 8\]"),
        ("window_pool", 0, "between 1"),
        ("window_pool", 5, r"equal windows; choose one of \[1, 2, 4, 8\]"),
        ("learned_queries", 9, "between 1 and the number of input tokens, 8"),
        ("top_k_norm", 9, "between 1 and the number of input tokens, 8"),
        ("token_merging", 9, "between 1 and the number of input tokens, 8"),
        ("random", 4, "call it with key="),
        ("top_k_attention", 4, "needs scores= .*layers.attention_received"),
    ],
)
def test_a_bad_choice_is_refused(name, num_tokens, message):
    with pytest.raises(ValueError, match=message):
        compressors.make_compressor(name, num_tokens).init(
            jax.random.key(0), jnp.zeros((3, LENGTH, DIM)), MASK
        )


def test_only_some_can_put_the_most_important_token_first():
    made = [
        compressors.make_compressor(name, 4, progressive=True)
        for name in compressors.PROGRESSIVE
    ]
    assert [module.progressive for module in made[:3]] == [True] * 3
    with pytest.raises(
        ValueError, match=r"'stride' has no order .*\['learned_queries'"
    ):
        compressors.make_compressor("stride", 4, progressive=True)


@pytest.mark.parametrize("mask", [MASK[:2], MASK.astype(int)])
def test_a_mask_of_another_shape_or_type_is_refused(mask):
    with pytest.raises(ValueError, match="expects tokens .* and a bool mask"):
        compressors.WindowPool(2).apply({}, jnp.zeros((3, LENGTH, DIM)), mask)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="num_heads=5 must divide"):
        compressors.LearnedQueries(2, num_heads=5).init(
            jax.random.key(0), jnp.zeros((3, LENGTH, DIM)), MASK
        )
