"""Attention, rotary positions and norms against references written in NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import layers


def _normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _naive_attention(queries, keys, values, mask):
    """Multi-head attention one head and one query at a time."""
    out = np.zeros_like(queries)
    group = queries.shape[2] // keys.shape[2]
    for b, i, h in np.ndindex(queries.shape[:3]):
        seen = np.flatnonzero(mask[b, i])
        scores = keys[b, seen, h // group] @ queries[b, i, h]
        weights = np.exp(scores / np.sqrt(queries.shape[-1]))
        out[b, i, h] = (weights / weights.sum()) @ values[b, seen, h // group]
    return out


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
def test_attention_equals_the_naive_reference(num_kv_heads):
    queries = _normal(0, 2, 5, 4, 6)
    keys, values = _normal(1, 2, 7, num_kv_heads, 6), _normal(2, 2, 7, num_kv_heads, 6)
    mask = np.random.default_rng(3).random((2, 5, 7)) < 0.5
    mask[..., 2] = True
    actual = jax.jit(layers.attention)(queries, keys, values, mask)
    expected = _naive_attention(queries, keys, values, mask)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_no_mask_means_all_is_seen():
    queries, keys = _normal(0, 1, 3, 2, 4), _normal(1, 1, 5, 2, 4)
    np.testing.assert_array_equal(
        layers.attention(queries, keys, keys),
        layers.attention(queries, keys, keys, jnp.ones((1, 3, 5), bool)),
    )


def test_a_query_that_sees_nothing_is_finite_with_finite_gradient():
    queries, keys = _normal(0, 1, 3, 2, 4), _normal(1, 1, 5, 2, 4)
    mask = jnp.zeros((1, 3, 5), bool)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def attend(queries, keys):
        return layers.attention(queries, keys, keys, mask).sum()

    value, gradients = attend(queries, keys)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)


def test_rope_turns_pairs_as_complex_numbers():
    x, positions = _normal(0, 2, 5, 3, 8), np.array([[0, 1, 2, 3, 9]] * 2)
    pairs = x[..., :4] + 1j * x[..., 4:]
    frequencies = 100.0 ** (-np.arange(4) / 4)
    turned = pairs * np.exp(1j * positions[..., None, None] * frequencies)
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    actual = layers.apply_rope(x, layers.rope_tables(positions, 8, 100.0))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_rope_scores_depend_on_distance_only():
    query, key = _normal(0, 1, 1, 1, 8), _normal(1, 1, 1, 1, 8)

    def score(query_position, key_position):
        def turn(x, position):
            tables = layers.rope_tables(jnp.array([[position]]), 8, 10_000.0)
            return layers.apply_rope(x, tables)

        return float(jnp.vdot(turn(query, query_position), turn(key, key_position)))

    assert score(7, 3) == pytest.approx(score(104, 100), abs=1e-4)
    assert score(7, 3) != pytest.approx(score(7, 4), abs=1e-2)


def test_rms_norm_equals_its_formula():
    x, scale = _normal(0, 3, 8) * 50, _normal(1, 8)
    actual = layers.RMSNorm(eps=1e-3).apply({"params": {"scale": scale}}, x)
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * scale
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_self_attention_ignores_masked_tokens(random_params):
    x, other = _normal(0, 1, 6, 8), _normal(1, 1, 6, 8)
    mask = np.array([[True, True, False, True, False, True]])
    layer = layers.SelfAttention(2, layers.residual_init(2))
    params = random_params(layer, x, mask)
    apply = jax.jit(layer.apply)
    masked, valid = np.asarray(apply(params, x, mask)), mask[0]
    changed = apply(params, np.where(mask[..., None], x, other), mask)
    np.testing.assert_array_equal(masked[:, valid], np.asarray(changed)[:, valid])
    assert not np.allclose(masked, apply(params, x, np.ones_like(mask)), atol=1e-3)


def test_swiglu_equals_its_formula(random_params):
    x = _normal(0, 3, 4)
    layer = layers.SwiGlu(6, layers.residual_init(1))
    variables = random_params(layer, x)
    gate, up, down = (
        np.asarray(variables["params"][name]["kernel"])
        for name in ("gate", "up", "down")
    )
    gated = x @ gate
    expected = (gated / (1 + np.exp(-gated)) * (x @ up)) @ down
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7)])
def test_dense_has_the_gradients_of_flax(shape):
    x, cotangent = _normal(0, *shape), _normal(1, *shape[:-1], 5)
    params = nn.Dense(5).init(jax.random.key(0), x)
    found = []
    for dense in (nn.Dense(5), layers.Dense(5)):
        y, vjp = jax.vjp(dense.apply, params, x)
        found.append((y, vjp(cotangent)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), *found)


def test_a_bias_multiplies_what_a_key_gets():
    """``softmax(l + log w) = w e^l / sum w e^l``: a weight of 0 hides the key."""
    queries, keys = _normal(0, 2, 3, 4, 6), _normal(1, 2, 5, 2, 6)
    weights = np.array([[1.0, 2.0, 0.0, 0.5, 3.0], [0.0, 1.0, 1.0, 1.0, 1.0]])
    bias = np.log(np.maximum(weights, 1e-30))[:, None]
    actual = jax.jit(layers.attention)(queries, keys, keys, bias=bias)
    for b in range(2):
        logits = np.einsum("qhd,khd->qhk", queries[b], keys[b].repeat(2, axis=1))
        shares = weights[b] * np.exp(logits / np.sqrt(6))
        shares /= shares.sum(-1, keepdims=True)
        expected = np.einsum("qhk,khd->qhd", shares, keys[b].repeat(2, axis=1))
        np.testing.assert_allclose(actual[b], expected, atol=1e-5)


def test_attention_received_is_the_mean_of_what_queries_give():
    """Read off attention itself, with the unit vectors as values."""
    queries, keys = _normal(0, 2, 5, 4, 6), _normal(1, 2, 6, 2, 6)
    mask = np.random.default_rng(3).random((2, 1, 6)) < 0.6
    mask[..., 2] = True
    query_mask = np.array([[True, False, True, True, False], [False] * 5])
    values = np.broadcast_to(np.eye(6, dtype=np.float32)[:, None], (2, 6, 2, 6))
    given = jax.jit(layers.attention)(queries, keys, values, mask)
    given = np.asarray(given).mean(axis=2)
    received = jax.jit(layers.attention_received)
    np.testing.assert_allclose(
        received(queries, keys, mask), given.mean(axis=1), atol=1e-6
    )
    counted = received(queries, keys, mask, query_mask)
    np.testing.assert_allclose(
        counted[0], given[0, query_mask[0]].mean(axis=0), atol=1e-6
    )
    np.testing.assert_allclose(counted.sum(axis=1), [1, 0], atol=1e-6)
