"""Attention, rotary positions and norms against references written in NumPy."""

import functools

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
