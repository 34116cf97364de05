"""Selections: against argsort, by chance, and in order of importance."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.nn import compressors
from m3jax.nn.compressors import selection

pytestmark = pytest.mark.usefixtures("quick_compilation")

BATCH, LENGTH, DIM = 16, 11, 3
RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(BATCH, LENGTH, DIM)).astype(np.float32)
SCORES = RNG.normal(size=(BATCH, LENGTH)).astype(np.float32)
MASK = RNG.random((BATCH, LENGTH)) < np.linspace(0, 1, BATCH)[:, None]

select = jax.jit(selection.select, static_argnums=(3, 4))


def best_places(scores, mask, num_tokens):
    """The valid places of the highest scores, best first; ties to the earlier."""
    places = np.flatnonzero(mask)
    return places[np.argsort(-scores[places], kind="stable")][:num_tokens]


@pytest.mark.parametrize("progressive", [False, True])
def test_the_highest_scores_are_kept(progressive):
    """For any number of valid tokens, from none to all, and with ties."""
    scores = np.round(SCORES, 0)
    out = select(TOKENS, MASK, scores, 4, progressive)
    for row in range(BATCH):
        places = best_places(scores[row], MASK[row], 4)
        places = places if progressive else np.sort(places)
        count = len(places)
        assert out.mask[row].tolist() == [True] * count + [False] * (4 - count)
        np.testing.assert_array_equal(out.tokens[row, :count], TOKENS[row, places])
        assert np.asarray(out.slots)[row, places].tolist() == list(range(count))
        assert (np.asarray(out.slots)[row] >= 0).sum() == count


def test_a_prefix_of_the_progressive_tokens_is_the_best_of_its_length():
    long = select(TOKENS, MASK, SCORES, 6, True)
    for num_tokens in (1, 4):
        short = select(TOKENS, MASK, SCORES, num_tokens, True)
        np.testing.assert_array_equal(short.tokens, long.tokens[:, :num_tokens])
        np.testing.assert_array_equal(short.mask, long.mask[:, :num_tokens])


@pytest.mark.parametrize("worst", [-np.inf, np.nan])
def test_padding_is_never_chosen_before_a_valid_token(worst):
    """Even where all valid tokens have the worst score there is."""
    scores = np.where(MASK, np.float32(worst), np.float32(9))
    out = select(TOKENS, MASK, scores, 4, False)
    np.testing.assert_array_equal(out.mask.sum(1), np.minimum(MASK.sum(1), 4))
    assert (np.asarray(out.slots)[~MASK] == -1).all()


def test_top_k_norm_keeps_the_largest_norms():
    norms = np.linalg.norm(TOKENS, axis=-1)
    apply = jax.jit(functools.partial(compressors.TopKNorm(4, True).apply, {}))
    tokens, mask = apply(TOKENS, MASK)
    for row in range(BATCH):
        places = best_places(norms[row], MASK[row], 4)
        np.testing.assert_array_equal(tokens[row, : len(places)], TOKENS[row, places])
        assert mask[row].sum() == len(places)


def test_top_k_attention_keeps_the_highest_scores():
    apply = jax.jit(functools.partial(compressors.TopKAttention(4).apply, {}))
    tokens, _ = apply(TOKENS, MASK, scores=SCORES)
    np.testing.assert_array_equal(tokens, select(TOKENS, MASK, SCORES, 4).tokens)


def test_random_subsets_are_equally_likely_and_blind_to_content():
    """All 6 pairs of 4 valid tokens in 5, over 24,000 draws: a chi-square test."""
    num_draws = 24_000
    mask = np.tile([True, False, True, True, True], (num_draws, 1))

    @jax.jit
    def draw(key, tokens):
        random = compressors.Random(2)
        return random.apply({}, tokens, mask, key=key, method="compress").slots >= 0

    first = np.asarray(draw(jax.random.key(0), jnp.ones((num_draws, 5, 1))))
    ramp = jnp.arange(5.0 * num_draws).reshape(num_draws, 5, 1)
    np.testing.assert_array_equal(first, draw(jax.random.key(0), ramp))
    assert (first != np.asarray(draw(jax.random.key(1), ramp))).any()
    codes = first @ (1 << np.arange(5))
    pairs = [(1 << a) + (1 << b) for a, b in itertools.combinations((0, 2, 3, 4), 2)]
    counts = [(codes == pair).sum() for pair in pairs]
    assert sum(counts) == num_draws
    assert stats.chisquare(counts).pvalue > 1e-5


def test_the_order_of_random_tokens_is_random_only_where_asked():
    mask = np.ones((2_000, 2), bool)
    tokens = np.zeros((2_000, 2, 1), np.float32)
    for progressive in (False, True):
        random = compressors.Random(2, progressive)
        compress = functools.partial(random.apply, {}, method="compress")
        slots = jax.jit(compress)(tokens, mask, key=jax.random.key(0)).slots
        swapped = np.mean(np.asarray(slots)[:, 0] == 1)
        # Five standard errors of a fair coin.
        assert abs(swapped - 0.5 * progressive) <= 5 * 0.5 / 2_000**0.5 * progressive


def test_the_choice_has_no_gradient():
    def total(scores):
        return selection.select(TOKENS, MASK, scores, 4).tokens.sum()

    assert (jax.jit(jax.grad(total))(SCORES) == 0).all()


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"one for each token, \[16, 11\]"):
        selection.select(TOKENS, MASK, SCORES[:, 1:], 4)


@pytest.mark.parametrize(
    "dtype", ["int8", "int32", "uint8", "uint16", "uint32", "bool", "float16"]
)
def test_scores_of_any_type_choose_what_their_numbers_do(dtype):
    """The least and the greatest of a type too, whose negatives wrap round."""
    if dtype == "float16":
        ends = [-np.inf, np.inf]
    elif dtype == "bool":
        ends = [False, True]
    else:
        ends = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    scores = RNG.integers(0, 2 if dtype == "bool" else 100, (BATCH, LENGTH))
    scores = scores.astype(dtype)
    scores[:, 3:5] = ends
    exact = scores.astype(np.float64)
    for row, (mask, found) in enumerate(
        zip(
            MASK, select(TOKENS, MASK, jnp.asarray(scores), 4, True).tokens, strict=True
        )
    ):
        places = best_places(exact[row], mask, 4)
        np.testing.assert_array_equal(found[: len(places)], TOKENS[row, places])


def test_a_score_of_nan_is_the_lowest():
    scores = np.where(np.arange(LENGTH) % 2, np.float32(np.nan), SCORES)
    found = select(TOKENS, np.ones_like(MASK), scores, 6, True)
    for row in range(BATCH):
        places = best_places(SCORES[row], np.arange(LENGTH) % 2 == 0, 6)
        np.testing.assert_array_equal(found.tokens[row], TOKENS[row, places])


@pytest.mark.parametrize("name", ["top_k_norm", "token_merging"])
def test_what_is_kept_or_merged_does_not_depend_on_the_scale(name):
    compressor = compressors.make_compressor(name, 4)

    @jax.jit
    def slots(tokens):
        return compressor.apply({}, tokens, MASK, method="compress").slots

    for scale in (2.0**-100, 2.0**100):
        np.testing.assert_array_equal(slots(TOKENS * scale), slots(TOKENS))
