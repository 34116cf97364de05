"""A decoder of experts: its cache, its records, selections layer by layer."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation, moe

CONFIG = decoder_lib.DecoderConfig(
    vocab_size=11,
    dim=16,
    depth=2,
    num_heads=2,
    num_kv_heads=1,
    moe=moe.MoeConfig(num_experts=4, top_k=2, ff_dim=12),
)
DECODER = decoder_lib.Decoder(CONFIG)


@pytest.fixture(scope="module")
def case(random_params):
    rng = np.random.default_rng(1)
    embeds = rng.normal(size=(2, 7, 16)).astype(np.float32)
    mask = np.array([[0, 1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]], bool)
    return random_params(DECODER, embeds, mask), embeds, mask


@functools.partial(jax.jit, static_argnames="select")
def _apply(variables, embeds, mask, cache=None, select=None, data=None):
    return DECODER.apply(
        variables,
        embeds,
        mask,
        cache,
        select=select,
        select_data=data,
        with_routing=True,
    )


def test_reading_in_parts_through_the_cache_equals_reading_at_once(case):
    variables, embeds, mask = case
    expected, none, whole = _apply(variables, embeds, mask)
    assert none is None
    cache = decoder_lib.init_cache(CONFIG, 2, 9)
    parts, counts = [], 0
    for start, size in ((0, 3), (3, 1), (4, 3)):
        part = slice(start, start + size)
        hidden, cache, routing = _apply(
            variables, embeds[:, part], mask[:, part], cache
        )
        parts.append(hidden)
        counts = counts + routing.counts
    actual, expected = np.concatenate(parts, axis=1), np.asarray(expected)
    np.testing.assert_allclose(actual[mask], expected[mask], atol=1e-5)
    np.testing.assert_array_equal(counts, whole.counts)


def test_the_records_of_all_layers_are_stacked_and_count_no_padding(case):
    variables, embeds, mask = case
    hidden, _, routing = _apply(variables, embeds, mask)
    shapes = jax.tree.map(jnp.shape, routing)
    assert shapes == moe.Routing(
        (2, 2, 7, 4), (2, 2, 7, 4), (2, 2, 7, 2), (2, 2, 7, 2), (2, 4), (2, 4)
    )
    np.testing.assert_array_equal(routing.counts.sum(axis=1), 2 * mask.sum())
    assert moe.load_balance_loss(routing, mask).shape == (2,)
    alone, none = jax.jit(DECODER.apply)(variables, embeds, mask)
    np.testing.assert_allclose(alone, hidden, atol=1e-6)
    assert none is None


def _allowed(probs, mask, allowed):
    del mask
    return moe.renormalise(moe.limit(jnp.where(allowed, probs, 0), 2))


def test_a_selection_gets_the_data_of_its_own_layer(case):
    variables, embeds, mask = case
    allowed = np.array([[1, 0, 1, 0], [0, 1, 0, 1]], bool)
    _, _, routing = _apply(variables, embeds, mask, select=_allowed, data=allowed)
    expected = np.where(allowed, mask.sum(), 0)
    np.testing.assert_array_equal(routing.counts, expected)


def test_an_expert_nobody_may_ask_has_no_part_in_the_output(case):
    variables, embeds, mask = case
    allowed = np.array([[1, 1, 1, 0], [1, 1, 1, 0]], bool)
    hidden, *_ = _apply(variables, embeds, mask, select=_allowed, data=allowed)
    changed = jax.tree.map(np.array, variables)
    for name in ("gate", "up", "down"):
        changed["params"]["layers"]["moe"][name]["kernel"][:, 3] = 50.0
    again, *_ = _apply(changed, embeds, mask, select=_allowed, data=allowed)
    np.testing.assert_array_equal(again, hidden)
    free, *_ = _apply(changed, embeds, mask)
    assert np.abs(np.asarray(free) - np.asarray(hidden)).max() > 0.1


def test_generation_equals_the_argmax_of_repeated_full_passes(case):
    variables, embeds, mask = case
    answer = jax.jit(generation.generate, static_argnums=(0, 4))(
        DECODER, variables["params"], embeds, mask, 4
    )

    @jax.jit
    def next_word(words, seen):
        told = DECODER.apply(variables, words, method="embed")
        hidden, _ = DECODER.apply(
            variables,
            jnp.concatenate([embeds, told], axis=1),
            jnp.concatenate([mask, seen], axis=1),
        )
        return DECODER.apply(variables, hidden, method="logits").argmax(axis=-1)

    words = np.zeros((2, 5), np.int32)
    words[:, 0] = 1
    for step in range(4):
        seen = np.broadcast_to(np.arange(5) <= step, (2, 5))
        words[:, step + 1] = next_word(words, seen)[:, 7 + step]
    for row, expected in zip(np.asarray(answer), words[:, 1:], strict=True):
        ended = np.flatnonzero(expected == 2)
        length = ended[0] + 1 if len(ended) else 4
        np.testing.assert_array_equal(row[:length], expected[:length])


def test_generation_keeps_to_the_selection(case):
    variables, embeds, mask = case
    seen = []

    def watched(probs, mask, allowed):
        weights = _allowed(probs, mask, allowed)
        jax.debug.callback(lambda w: seen.append(np.asarray(w)), weights)
        return weights

    allowed = np.array([[1, 0, 1, 0], [0, 1, 0, 1]], bool)
    run = functools.partial(generation.generate, DECODER, select=watched)
    run = jax.jit(run, static_argnums=3)
    run(variables["params"], embeds, mask, 3, select_data=allowed)
    jax.effects_barrier()
    assert len(seen) == 2 * 3  # layers, words
    used = {tuple(np.flatnonzero(weights.any(axis=0))) for weights in seen}
    assert used == {(0, 2), (1, 3)}


def test_every_gradient_is_finite_and_reaches_router_and_experts(case):
    variables, embeds, mask = case

    @jax.jit
    @jax.grad
    def gradient(variables):
        hidden, _, routing = _apply(variables, embeds, mask)
        even = jnp.mean(moe.load_balance_loss(routing, mask))
        return jnp.sum(jnp.where(mask[..., None], jnp.sin(hidden), 0)) + even

    for path, leaf in jax.tree.leaves_with_path(
        gradient(variables)["params"]["layers"]
    ):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


def test_a_decoder_without_experts_has_nothing_to_select():
    plain = decoder_lib.Decoder(dataclasses.replace(CONFIG, moe=None))
    embeds, mask = jnp.zeros((1, 2, 16)), jnp.ones((1, 2), bool)
    with pytest.raises(ValueError, match=r"need experts: set DecoderConfig\.moe"):
        plain.init(jax.random.key(0), embeds, mask, with_routing=True)
