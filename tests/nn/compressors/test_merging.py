"""Token merging against a reference in plain NumPy, and what merging conserves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import compressors, layers

pytestmark = pytest.mark.usefixtures("quick_compilation")

BATCH, LENGTH, DIM = 12, 13, 4
RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(BATCH, LENGTH, DIM)).astype(np.float32)
# From one valid token to all, in any place; the first example has none.
MASK = RNG.random((BATCH, LENGTH)).argsort(axis=1).argsort(axis=1) < np.minimum(
    np.arange(BATCH)[:, None] * LENGTH // (BATCH - 1), LENGTH
)

SIZES = RNG.integers(1, 5, size=(BATCH, LENGTH)).astype(np.float32)
BY_THREES = {"num_tokens": 6, "merges_per_step": 3}


def reference_step(clusters, num_tokens, metric=None, threshold=np.inf):
    """One step on ``[(members, size, token)]``, as the paper describes it."""
    vectors = [token for *_, token in clusters] if metric is None else metric
    vectors = [v / np.linalg.norm(v) for v in vectors]
    pairs = []
    for a in range(0, len(clusters), 2):
        similar = [vectors[a] @ vectors[b] for b in range(1, len(clusters), 2)]
        if similar:
            pairs.append((max(similar), a, 2 * int(np.argmax(similar)) + 1))
    pairs.sort(key=lambda pair: -pair[0])
    needed = len(clusters) - num_tokens
    merged = {a: b for i, (s, a, b) in enumerate(pairs) if i < needed or s > threshold}
    out = []
    for place, cluster in enumerate(clusters):
        if place in merged:
            continue
        group = [cluster] + [clusters[a] for a, b in merged.items() if b == place]
        size = sum(s for _, s, _ in group)
        token = sum(s * z for _, s, z in group) / size
        out.append((sum((list(m) for m, *_ in group), []), size, token))
    return out


def reference(tokens, mask, lengths, threshold=np.inf):
    clusters = [([p], 1, tokens[p].astype(float)) for p in np.flatnonzero(mask)]
    for length in lengths:
        clusters = reference_step(clusters, length, threshold=threshold)
    return clusters


@functools.cache
def compressor(**settings):
    merging = compressors.TokenMerging(**settings)
    return jax.jit(functools.partial(merging.apply, {}, method="compress"))


def assert_equal(out, clusters):
    """One example of ``Compressed`` against the clusters of the reference."""
    count = len(clusters)
    slots = np.full(LENGTH, -1)
    for slot, (members, _, _) in enumerate(clusters):
        slots[members] = slot
    np.testing.assert_array_equal(out.slots, slots)
    assert out.mask.tolist() == [True] * count + [False] * (len(out.mask) - count)
    np.testing.assert_array_equal(out.sizes[:count], [size for _, size, _ in clusters])
    for found, (_, _, token) in zip(out.tokens[:count], clusters, strict=True):
        np.testing.assert_allclose(found, token, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "lengths"),
    [
        ({"num_tokens": 1}, (7, 4, 2, 1)),
        (BY_THREES, (10, 7, 6)),
        ({"num_tokens": 5, "threshold": 0.8}, (7, 5)),
        ({"num_tokens": LENGTH, "threshold": 0.5}, (LENGTH,)),
    ],
)
def test_merging_equals_the_reference(settings, lengths):
    """Whatever is valid: padding counts neither as a token nor as a place."""
    out = jax.tree.map(np.asarray, compressor(**settings)(TOKENS, MASK))
    threshold = settings.get("threshold", np.inf)
    for row in range(BATCH):
        clusters = reference(TOKENS[row], MASK[row], lengths, threshold)
        assert_equal(jax.tree.map(lambda x, row=row: x[row], out), clusters)


def test_a_step_takes_sizes_and_another_metric():
    """As inside an encoder, where keys tell who is similar."""
    metric = RNG.normal(size=(BATCH, LENGTH, 3)).astype(np.float32)
    merge = jax.jit(compressors.merge_step, static_argnums=3)
    out = jax.tree.map(np.asarray, merge(TOKENS, MASK, SIZES, 8, metric))
    for row in range(BATCH):
        places = np.flatnonzero(MASK[row])
        clusters = [([p], SIZES[row, p], TOKENS[row, p]) for p in places]
        clusters = reference_step(clusters, 8, metric[row, places])
        assert_equal(jax.tree.map(lambda x, row=row: x[row], out), clusters)


def test_the_sum_of_tokens_by_size_is_conserved():
    out = compressor(**BY_THREES)(TOKENS, MASK)
    found = jnp.einsum("bm,bmd->bd", out.sizes, out.tokens)
    expected = np.where(MASK[..., None], TOKENS, 0).sum(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(out.sizes.sum(axis=1), MASK.sum(axis=1))


def test_unmerge_is_exact_where_nothing_merges():
    """Valid tokens that fit are kept to the bit, and go back to their places."""
    out = compressor(**BY_THREES)(TOKENS, MASK)
    back, filled = jax.jit(compressors.unmerge)(out.tokens, out.mask, out.slots)
    np.testing.assert_array_equal(filled, MASK)
    fits = MASK.sum(axis=1) <= 6
    assert fits.sum() > 5
    expected = np.where(MASK[..., None], TOKENS, 0)
    np.testing.assert_array_equal(np.asarray(back)[fits], expected[fits])


def test_equal_tokens_merge_without_loss():
    """Six tokens, each twice: six slots hold all there is."""
    distinct = np.eye(6, dtype=np.float32) * np.arange(1, 7)[:, None]
    tokens = np.repeat(distinct, 2, axis=0)[None]
    mask = np.ones((1, 12), bool)
    out = compressor(num_tokens=12, threshold=0.99)(tokens, mask)
    assert out.mask[0].tolist() == [True] * 6 + [False] * 6
    np.testing.assert_allclose(out.tokens[0, :6], distinct, rtol=1e-6)
    back, _ = compressors.unmerge(out.tokens, out.mask, out.slots)
    np.testing.assert_allclose(back, tokens, rtol=1e-6)


def test_order_is_kept_and_a_merged_token_stands_at_its_last_match():
    """In one step the token of B, at an odd place, gives its place to the pair."""
    tokens = jnp.array([[[1.0, 0], [0, 1], [0.1, 1], [-1, 0], [1, 0.1], [0.9, 0]]])
    out = compressor(num_tokens=3)(tokens, jnp.ones((1, 6), bool))
    assert out.slots.tolist() == [[2, 0, 0, 1, 2, 2]]


def test_proportional_attention_equals_attention_over_repeated_tokens():
    keys, values = RNG.normal(size=(2, 1, 4, 2, 3)).astype(np.float32)
    queries = RNG.normal(size=(1, 5, 4, 3)).astype(np.float32)
    sizes = np.array([[3.0, 1.0, 0.0, 5.0]])
    repeated = np.repeat(np.arange(4), sizes[0].astype(int))
    attend = jax.jit(layers.attention)
    expected = attend(queries, keys[:, repeated], values[:, repeated])
    mask = (sizes > 0)[:, None, :]
    found = attend(queries, keys, values, mask, compressors.size_bias(sizes))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = attend(queries, keys, values, mask)
    assert not np.allclose(plain, expected, atol=1e-2)


def test_bfloat16_tokens_stay_so_and_sizes_are_exact():
    """301 is none of the numbers that bfloat16 has."""
    tokens, mask = jnp.ones((1, 2, 3), jnp.bfloat16), jnp.ones((1, 2), bool)
    merge = jax.jit(compressors.merge_step, static_argnums=3)
    out = merge(tokens, mask, jnp.array([[200.0, 101.0]]), 1)
    assert out.tokens.dtype == jnp.bfloat16
    assert out.sizes.tolist() == [[301.0]]
    assert (out.tokens.astype(float) == 1).all()


def step(sizes=SIZES, num_tokens=7, metric=None):
    return compressors.merge_step(TOKENS, MASK, sizes, num_tokens, metric)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: step(num_tokens=6), "at most half of 13 tokens.* at least 7"),
        (lambda: step(sizes=SIZES[:, 1:]), "sizes must be one for each token"),
        (lambda: step(metric=TOKENS[:, 1:]), "metric must be one for each token"),
        (
            lambda: compressor(num_tokens=4, merges_per_step=0)(TOKENS, MASK),
            "merges_per_step",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call()
