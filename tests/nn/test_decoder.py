"""The decoder against a Llama written in NumPy, and the promises of its cache."""

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import decoder as decoder_lib

CONFIG = decoder_lib.DecoderConfig(
    vocab_size=11, dim=16, depth=2, num_heads=4, num_kv_heads=2, ff_dim=24
)


def _setup(config, random_params):
    decoder = decoder_lib.Decoder(config)
    rng = np.random.default_rng(1)
    embeds = rng.normal(size=(2, 7, config.dim)).astype(np.float32)
    mask = np.ones((2, 7), bool)
    return decoder, random_params(decoder, embeds, mask), embeds, mask


@pytest.fixture(scope="module")
def small(random_params):
    return _setup(CONFIG, random_params)


@pytest.fixture(scope="module")
def apply(small):
    return jax.jit(small[0].apply)


def _llama(config, params, embeds):
    """Hidden states of one sequence [L, D] with no padding, in float64."""
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    x = np.asarray(embeds, np.float64)
    size = config.size_per_head

    def norm(x, p):
        return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * p["scale"]

    def rotate(x):  # [L, H, Dh], each position and pair by itself
        out = np.empty_like(x)
        for position, i in np.ndindex(len(x), size // 2):
            angle = position * config.rope_theta ** (-2 * i / size)
            matrix = np.array(
                [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            )
            pair = x[position][:, [i, i + size // 2]]
            out[position][:, [i, i + size // 2]] = pair @ matrix.T
        return out

    for depth in range(config.depth):
        layer = jax.tree.map(operator.itemgetter(depth), params["layers"])
        normed, p = norm(x, layer["attention_norm"]), layer["attention"]
        q, k, v = (
            (normed @ p[n]["kernel"] + p[n].get("bias", 0)).reshape(len(x), -1, size)
            for n in "qkv"
        )
        q, k = rotate(q), rotate(k)
        heads = []
        for head in range(config.num_heads):
            kv_head = head // (config.num_heads // config.num_kv_heads)
            scores = q[:, head] @ k[:, kv_head].T / np.sqrt(size)
            scores[np.triu_indices(len(x), 1)] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            heads.append(weights @ v[:, kv_head])
        x = x + np.concatenate(heads, -1) @ p["o"]["kernel"]
        normed, p = norm(x, layer["mlp_norm"]), layer["mlp"]
        gate = normed @ p["gate"]["kernel"]
        gated = gate / (1 + np.exp(-gate)) * (normed @ p["up"]["kernel"])
        x = x + gated @ p["down"]["kernel"]
    return norm(x, params["final_norm"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_kv_heads": 4, "qkv_bias": False, "tie_embeddings": False},
        {"num_kv_heads": 1, "head_dim": 6, "rope_theta": 50.0},
    ],
)
def test_equals_a_llama_written_in_numpy(changes, random_params):
    config = dataclasses.replace(CONFIG, **changes)
    decoder, variables, embeds, mask = _setup(config, random_params)
    hidden, cache = jax.jit(decoder.apply)(variables, embeds, mask)
    assert cache is None
    params = variables["params"]
    expected = np.stack([_llama(config, params, e) for e in embeds])
    np.testing.assert_allclose(hidden, expected, atol=2e-4)
    logits = jax.jit(functools.partial(decoder.apply, method="logits"))(
        variables, hidden
    )
    head = (
        np.asarray(params["embedder"]["embedding"]).T
        if config.tie_embeddings
        else np.asarray(params["head"]["kernel"])
    )
    np.testing.assert_allclose(logits, expected @ head, atol=2e-3)


@pytest.mark.parametrize("chunks", [(1,) * 7, (3, 1, 3)])
def test_reading_in_parts_through_the_cache_equals_reading_at_once(
    small, apply, chunks
):
    _, variables, embeds, _ = small
    mask = np.array([[0, 1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]], bool)
    expected, _ = apply(variables, embeds, mask)
    cache = decoder_lib.init_cache(CONFIG, 2, 9)
    parts, start = [], 0
    for size in chunks:
        part = slice(start, start + size)
        hidden, cache = apply(variables, embeds[:, part], mask[:, part], cache)
        parts.append(hidden)
        start += size
    actual = np.concatenate(parts, axis=1)
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual[mask], expected[mask], atol=1e-5)
    np.testing.assert_array_equal(cache.lengths, mask.sum(axis=1))
    np.testing.assert_array_equal(cache.mask[:, :7], mask)
    assert int(cache.index) == 7


@pytest.mark.parametrize(
    "places", [(0, 1, 2, 3), (3, 4, 5, 6), (0, 2, 3, 6)], ids=["right", "left", "both"]
)
def test_padding_anywhere_changes_nothing(small, apply, places):
    _, variables, embeds, _ = small
    alone, _ = apply(variables, embeds[:, :4], np.ones((2, 4), bool))
    places = np.array(places)
    padded, mask = np.full_like(embeds, 7.0), np.zeros((2, 7), bool)
    padded[:, places], mask[:, places] = embeds[:, :4], True
    hidden = np.asarray(apply(variables, padded, mask)[0])
    np.testing.assert_allclose(hidden[:, places], alone, atol=1e-5)
    assert np.isfinite(hidden).all()


def test_no_output_depends_on_what_follows(small):
    decoder, variables, embeds, mask = small

    @jax.jit
    @jax.jacobian
    def jacobian(embeds):
        return decoder.apply(variables, embeds, mask[:1])[0].sum(axis=(0, 2))

    influence = np.abs(jacobian(embeds[:1])[:, 0]).max(axis=-1)
    assert (influence[np.triu_indices(7, 1)] == 0).all()
    assert (influence[np.tril_indices(7)] > 0).all()


def test_every_gradient_is_finite_and_not_zero_though_a_row_is_all_padding(small):
    decoder, variables, _, mask = small
    mask = np.stack([np.zeros(7, bool), mask[1]])
    tokens = np.arange(14).reshape(2, 7) % 11

    @jax.jit
    @jax.grad
    def gradient(variables):
        embeds = decoder.apply(variables, tokens, method="embed")
        hidden, _ = decoder.apply(variables, embeds, mask)
        logits = decoder.apply(variables, hidden, method="logits")
        return jnp.sum(jnp.sin(logits))

    for path, leaf in jax.tree.leaves_with_path(gradient(variables)):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


def test_jit_equals_eager(small, apply):
    decoder, variables, embeds, mask = small
    hidden, _ = decoder.apply(variables, embeds, mask)
    np.testing.assert_allclose(hidden, apply(variables, embeds, mask)[0], atol=1e-5)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_parameter_count_is_the_textbook_number(tie_embeddings):
    config = dataclasses.replace(CONFIG, tie_embeddings=tie_embeddings)
    variables = jax.eval_shape(
        decoder_lib.Decoder(config).init,
        jax.random.key(0),
        jnp.zeros((1, 1, 16)),
        jnp.ones((1, 1), bool),
    )
    attention = 2 * 16 * 16 + 2 * 16 * 8 + (16 + 2 * 8)
    layer = attention + 3 * 16 * 24 + 2 * 16
    tables = 11 * 16 * (1 if tie_embeddings else 2)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == tables + 2 * layer + 16


def test_an_untrained_decoder_is_nearly_undecided():
    decoder = decoder_lib.Decoder(CONFIG)
    embeds = np.random.default_rng(0).normal(size=(4, 8, 16)).astype(np.float32)

    @jax.jit
    def mean_surprise(key):
        (hidden, _), variables = decoder.init_with_output(
            key, embeds, np.ones((4, 8), bool)
        )
        logits = decoder.apply(variables, hidden, method="logits")
        return -jax.nn.log_softmax(logits).mean()

    surprise = mean_surprise(jax.random.key(0, impl="rbg"))  # compiles sooner
    assert surprise == pytest.approx(np.log(11), rel=0.02)


def test_bfloat16_computes_close_to_float32(small, apply):
    _, variables, embeds, mask = small
    half = decoder_lib.Decoder(dataclasses.replace(CONFIG, dtype="bfloat16"))
    cache = decoder_lib.init_cache(half.config, 2, 7)
    hidden, cache = jax.jit(half.apply)(variables, embeds, mask, cache)
    assert hidden.dtype == cache.k.dtype == jnp.bfloat16
    expected, _ = apply(variables, embeds, mask)
    np.testing.assert_allclose(hidden.astype(jnp.float32), expected, atol=0.3)
    logits = jax.eval_shape(
        lambda *args: half.apply(*args, method="logits"), variables, hidden
    )
    assert logits.dtype == jnp.float32


def test_a_full_cache_is_an_error_where_its_index_is_known(small):
    decoder, variables, embeds, mask = small
    cache = decoder_lib.init_cache(CONFIG, 2, 9)._replace(index=jnp.int32(5))
    with pytest.raises(ValueError, match="9 slots, 5 in use, and cannot take 7 more"):
        decoder.apply(variables, embeds, mask, cache)
    with pytest.raises(ValueError, match="6 slots"):
        jax.eval_shape(
            decoder.apply,
            variables,
            embeds,
            mask,
            decoder_lib.init_cache(CONFIG, 2, 6),
        )


def test_a_full_cache_gives_nan_where_its_index_is_traced(small, apply):
    _, variables, embeds, mask = small
    cache = decoder_lib.init_cache(CONFIG, 2, 9)._replace(index=jnp.int32(5))
    assert np.isnan(apply(variables, embeds, mask, cache)[0]).all()
    fits = cache._replace(index=jnp.int32(2))
    assert np.isfinite(apply(variables, embeds, mask, fits)[0]).all()


@pytest.mark.parametrize(
    ("embeds_shape", "mask", "message"),
    [
        ((2, 7, 15), np.ones((2, 7), bool), r"embeds \[B, L, 16\]"),
        ((2, 7, 16), np.ones((2, 6), bool), r"bool mask \[2, 7\]"),
        ((2, 7, 16), np.ones((2, 7), np.int32), "got int32"),
        ((3, 7, 16), np.ones((3, 7), bool), "cache holds 2 sequences"),
    ],
)
def test_a_bad_input_is_refused(small, embeds_shape, mask, message):
    decoder, variables, _, _ = small
    cache = decoder_lib.init_cache(CONFIG, 2, 9)
    with pytest.raises(ValueError, match=message):
        decoder.apply(variables, np.zeros(embeds_shape, np.float32), mask, cache)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kv_heads": 3}, "num_kv_heads=3 must divide"),
        ({"num_heads": 6}, "num_heads=6 must divide dim=16"),
        ({"head_dim": 5}, "must be even"),
        ({"vocab_size": 0}, "vocab_size must be at least 1"),
    ],
)
def test_a_bad_config_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **changes)


def test_where_tokens_are_left_out_the_others_may_keep_their_places(small):
    """As if those stood there and counted for nothing; whole and through a cache."""
    decoder, variables, embeds, valid = small
    run = jax.jit(decoder.apply)
    kept = np.array([0, 2, 5, 6])
    positions = np.broadcast_to(kept, (2, 4))
    gate = np.isin(np.arange(7), kept).astype(np.float32)
    gate = jnp.asarray(np.broadcast_to(gate, (2, 7)))
    expected, _ = run(variables, embeds, valid, gate=gate)
    some, mask = embeds[:, kept], valid[:, :4]
    found, _ = run(variables, some, mask, positions=positions)
    np.testing.assert_allclose(found, expected[:, kept], atol=1e-5)
    counted, _ = run(variables, some, mask)
    assert np.abs(counted - found).max() > 1e-3  # places matter
    cache = decoder_lib.init_cache(CONFIG, 2, 5)
    _, cache = run(
        variables, some[:, :3], mask[:, :3], cache, positions=positions[:, :3]
    )
    assert cache.lengths.tolist() == [6, 6]  # the next one stands behind the last
    last, _ = run(variables, some[:, 3:], mask[:, 3:], cache)
    np.testing.assert_allclose(last, expected[:, 6:], atol=1e-5)


def test_a_gate_and_a_cache_are_refused(small):
    decoder, variables, embeds, mask = small
    cache = decoder_lib.init_cache(CONFIG, len(embeds), 9)
    with pytest.raises(ValueError, match="without a cache"):
        decoder.apply(variables, embeds, mask, cache, gate=jnp.ones(mask.shape))
