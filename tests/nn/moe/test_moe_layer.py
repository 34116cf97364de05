"""The layer against Mixtral by a plain loop, its record, selection and losses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import moe

CONFIG = moe.MoeConfig(num_experts=5, top_k=2, ff_dim=10)
B, L, D = 3, 7, 6


@pytest.fixture(scope="module")
def case(random_params):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, L, D)).astype(np.float32)
    mask = rng.random((B, L)) < 0.8
    return random_params(moe.MoeLayer(CONFIG), x, gain=2.0), x, mask


@functools.partial(jax.jit, static_argnames=("config", "select"))
def _apply(variables, x, mask=None, data=None, config=CONFIG, select=None):
    return moe.MoeLayer(config).apply(variables, x, mask, select, data)


def _mixtral(variables, x, mask, config, capacity=None):
    """``(out, counts, dropped)``, token by token, in float64."""
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), variables["params"])
    gate, up, down = (params[name]["kernel"] for name in ("gate", "up", "down"))
    flat = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    out, counts, taken = np.zeros_like(flat), np.zeros(5, int), np.zeros(5, int)
    for t in np.flatnonzero(mask):
        logits = flat[t] @ params["router"]["kernel"]
        chosen = np.argsort(-logits)[: config.top_k]
        exps = np.exp(logits)
        total = exps[chosen].sum() if config.renormalise else exps.sum()
        for i in chosen:
            counts[i] += 1
            if capacity is not None and taken[i] == capacity:
                continue
            taken[i] += 1
            g = flat[t] @ gate[i]
            answer = (g / (1 + np.exp(-g)) * (flat[t] @ up[i])) @ down[i]
            out[t] += exps[i] / total * answer
    return out.reshape(x.shape), counts, counts - taken


@pytest.mark.parametrize("path", ["dense", "grouped", "buckets"])
@pytest.mark.parametrize("changes", [{}, {"renormalise": False, "top_k": 3}])
def test_equals_mixtral_by_a_loop(path, changes, case):
    variables, x, mask = case
    config = dataclasses.replace(CONFIG, path=path, **changes)
    out, routing = _apply(variables, x, mask, config=config)
    expected, counts, _ = _mixtral(variables, x, mask, config)
    np.testing.assert_allclose(out, expected, atol=5e-5)
    np.testing.assert_array_equal(routing.counts, counts)
    assert not routing.dropped.any()


@pytest.mark.parametrize("path", ["dense", "buckets"])
def test_capacity_leaves_out_the_later_tokens_and_counts_them(path, case):
    variables, x, mask = case
    config = dataclasses.replace(CONFIG, path=path, capacity_factor=0.6)
    capacity = config.capacity(B * L)
    assert capacity == 6  # 0.6 * 21 * 2 / 5 = 5.04
    out, routing = _apply(variables, x, mask, config=config)
    expected, counts, dropped = _mixtral(variables, x, mask, config, capacity)
    np.testing.assert_allclose(out, expected, atol=5e-5)
    np.testing.assert_array_equal(routing.counts, counts)
    np.testing.assert_array_equal(routing.dropped, dropped)
    assert dropped.sum() > 2


def test_weights_sum_to_one_and_padding_asks_nobody(case):
    variables, x, mask = case
    out, routing = _apply(variables, x, mask)
    np.testing.assert_allclose(routing.weights.sum(axis=-1), mask, atol=1e-6)
    assert (np.asarray(out)[~mask] == 0).all()
    assert routing.counts.sum() == 2 * mask.sum()
    changed = np.where(mask[..., None], x, 1e3)
    other, record = _apply(variables, changed.astype(np.float32), mask)
    np.testing.assert_array_equal(other, out)
    np.testing.assert_array_equal(record.counts, routing.counts)


def test_the_record_names_the_most_probable_experts(case):
    variables, x, _ = case
    _, routing = _apply(variables, x)
    order = np.argsort(-np.asarray(routing.probs), axis=-1)[..., :2]
    np.testing.assert_array_equal(routing.experts, order)
    np.testing.assert_allclose(routing.probs, jax.nn.softmax(routing.logits))
    assert routing.weights.shape == (B, L, 2)


def test_of_equally_probable_experts_the_first_are_asked(case):
    variables, x, _ = case
    variables = jax.tree.map(jnp.asarray, variables)
    variables["params"]["router"]["kernel"] *= 0
    _, routing = _apply(variables, x)
    np.testing.assert_array_equal(routing.experts, np.broadcast_to([0, 1], (B, L, 2)))
    np.testing.assert_allclose(routing.weights, 0.5)
    np.testing.assert_array_equal(routing.counts, [B * L, B * L, 0, 0, 0])


def _fast_enough(probs, mask, latencies):
    """Top two, of which the second is asked only if it is fast."""
    del mask
    best = moe.limit(probs, 1)
    weights = jnp.where((best > 0) | (latencies < 1), moe.limit(probs, 2), 0)
    return moe.renormalise(weights)


def test_a_selection_that_drops_slow_experts_equals_one_by_hand(case):
    variables, x, mask = case
    latencies = np.array([0.5, 2.0, 0.5, 2.0, 0.5], np.float32)
    out, routing = _apply(variables, x, mask, latencies, select=_fast_enough)
    params = variables["params"]
    probs, weights = np.asarray(routing.probs), np.zeros((B, L, 5))
    for place in np.argwhere(mask):
        b, t = place
        first, second = np.argsort(-probs[b, t])[:2]
        weights[b, t, first] = 1.0
        if latencies[second] < 1:
            pair = probs[b, t, [first, second]]
            weights[b, t, [first, second]] = pair / pair.sum()
    gates = jax.nn.silu(np.einsum("bld,ndf->blnf", x, params["gate"]["kernel"]))
    hidden = gates * np.einsum("bld,ndf->blnf", x, params["up"]["kernel"])
    answers = np.einsum("blnf,nfd->blnd", hidden, params["down"]["kernel"])
    expected = np.einsum("bln,blnd->bld", weights, answers)
    np.testing.assert_allclose(out, expected, atol=1e-4)
    np.testing.assert_array_equal(routing.counts, (weights > 0).sum(axis=(0, 1)))
    ones = (weights > 0).sum(axis=-1)[mask] == 1
    assert 0 < ones.sum() < ones.size


def test_a_selection_that_asks_for_too_many_is_cut_and_counted(case):
    variables, x, mask = case
    out, routing = _apply(variables, x, mask, select=lambda probs, mask: probs)
    plain = dataclasses.replace(CONFIG, renormalise=False)
    expected, _ = _apply(variables, x, mask, config=plain)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    np.testing.assert_array_equal(routing.counts, mask.sum())
    assert routing.dropped.sum() == 3 * mask.sum()


def test_gradients_reach_the_router_alike_on_all_paths(case):
    variables, x, mask = case

    @functools.partial(jax.jit, static_argnums=0)
    @functools.partial(jax.grad, argnums=(1, 2))
    def gradient(config, variables, x):
        out, routing = moe.MoeLayer(config).apply(variables, x, mask)
        even = moe.load_balance_loss(routing, mask)
        return jnp.sum(jnp.sin(out)) + even + moe.router_z_loss(routing, mask)

    wanted = gradient(dataclasses.replace(CONFIG, path="dense"), variables, x)
    for path in ("grouped", "buckets"):
        found = gradient(dataclasses.replace(CONFIG, path=path), variables, x)
        close = functools.partial(np.testing.assert_allclose, atol=2e-4)
        jax.tree.map(close, found, wanted)
    assert np.abs(wanted[0]["params"]["router"]["kernel"]).max() > 0.01


def _routing(probs, top_k, mask):
    weights = moe.select_top_k(probs, mask, top_k=top_k)
    counts = (weights != 0).sum(axis=0)
    return moe.Routing(jnp.log(probs), probs, None, weights, counts, 0 * counts)


def test_the_balance_loss_is_1_for_an_even_router_and_n_for_a_collapsed_one():
    mask = np.arange(12) < 9
    even = _routing(jnp.full((12, 4), 0.25), 2, mask)
    assert moe.load_balance_loss(even, mask) == pytest.approx(1.0)
    one = jnp.tile(jnp.array([0.0, 1.0, 0.0, 0.0]), (12, 1))
    for top_k in (1, 2):  # the second choice has weight zero: it is not asked
        collapsed = _routing(one, top_k, mask)
        assert moe.load_balance_loss(collapsed, mask) == pytest.approx(4.0)


def test_the_losses_equal_their_definitions_over_valid_tokens_and_layers():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 12, 4)).astype(np.float32)
    mask = rng.random(12) < 0.6
    records = [_routing(jax.nn.softmax(layer), 1, mask) for layer in logits]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *records)
    stacked = stacked._replace(logits=logits)
    balance = moe.load_balance_loss(stacked, mask)
    squares = moe.router_z_loss(stacked, mask)
    for layer in range(2):
        valid = np.asarray(logits[layer], np.float64)[mask]
        probs = np.exp(valid) / np.exp(valid).sum(axis=-1, keepdims=True)
        shares = np.bincount(probs.argmax(axis=-1), minlength=4) / len(valid)
        expected = 4 * np.sum(shares * probs.mean(axis=0))
        assert balance[layer] == pytest.approx(expected, rel=1e-5)
        expected = np.mean(np.log(np.exp(valid).sum(axis=-1)) ** 2)
        assert squares[layer] == pytest.approx(expected, rel=1e-5)
    nobody = moe.load_balance_loss(_routing(records[0].probs, 1, mask & False), mask)
    assert nobody == 0


def test_each_expert_is_drawn_at_the_scale_of_one_network():
    layer = moe.MoeLayer(moe.MoeConfig(num_experts=6, top_k=1, ff_dim=300))
    key = jax.random.key(0, impl="rbg")  # compiles sooner
    params = jax.jit(layer.init)(key, np.zeros((1, 1, 200)))["params"]
    for name, fan_in in {"gate": 200, "up": 200, "down": 300}.items():
        stds = np.std(params[name]["kernel"], axis=(1, 2))
        np.testing.assert_allclose(stds, fan_in**-0.5, rtol=0.05)
    assert not np.allclose(params["gate"]["kernel"][0], params["gate"]["kernel"][1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts": 0}, "num_experts must be at least 1"),
        ({"ff_dim": 0}, "ff_dim must be at least 1"),
        ({"top_k": 6}, "top_k=6 must be at most num_experts=5"),
        ({"capacity_factor": 0.0}, "capacity_factor must be positive or None"),
        ({"path": "fast"}, "path must be one of auto, dense, .*'fast'"),
    ],
)
def test_a_bad_config_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **changes)


def test_a_bad_input_is_refused(case):
    variables, x, mask = case
    with pytest.raises(ValueError, match=r"bool mask \[3, 7\], got bool \[3, 6\]"):
        _apply(variables, x, mask[:, 1:])
    with pytest.raises(ValueError, match=r"must return weights \[21, 5\]"):
        _apply(variables, x, mask, select=lambda probs, mask: probs[:, :2])
    _, routing = _apply(variables, x, mask)
    with pytest.raises(ValueError, match=r"shape of the tokens, \[3, 7\]"):
        moe.load_balance_loss(routing, mask[0])
    parallel = dataclasses.replace(CONFIG, path="parallel")
    with pytest.raises(ValueError, match=r"axis 'expert', got \[\]: call it within"):
        _apply(variables, x, mask, config=parallel)
