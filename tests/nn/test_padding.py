"""What padding holds reaches no valid token, be it NaN: not in values nor gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import (
    alignment_head,
    compressors,
    decoder,
    generation,
    layers,
    moe,
    vit,
    vit_stages,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = decoder.DecoderConfig(11, dim=16, depth=2, ff_dim=8)
MOE = dataclasses.replace(CONFIG, moe=moe.MoeConfig(num_experts=3, top_k=2, ff_dim=4))
MASK = jnp.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 0]], bool)
TOKENS = jnp.asarray(
    np.random.default_rng(0).normal(size=(*MASK.shape, 16)).astype(np.float32)
)
BROKEN = [np.nan, np.inf]


def spoilt(value, x=TOKENS, mask=MASK):
    return jnp.where(mask[..., None], x, value)


def mixture(path):
    return moe.MoeLayer(dataclasses.replace(MOE.moe, path=path))


NETS = {
    "self_attention": layers.SelfAttention(2, layers.residual_init(1)),
    "alignment_head": alignment_head.AlignmentHead(num_features=4),
    "decoder": decoder.Decoder(CONFIG),
    "decoder_moe": decoder.Decoder(MOE),
    "moe_dense": mixture("dense"),
    "moe_buckets": mixture("buckets"),
    "identity": compressors.make_compressor("identity", 5),
    "window_pool": compressors.make_compressor("window_pool", 1),
}
NETS |= {
    name: compressors.make_compressor(name, 3)
    for name in ("stride", "token_merging", "top_k_norm", "learned_queries")
}


SLOW = ("decoder_moe", "moe_dense", "identity", "window_pool", "stride", "top_k_norm")


def marked(names):
    slow = pytest.mark.slow
    return [pytest.param(n, marks=slow) if n in SLOW else n for n in names]


@pytest.mark.parametrize("name", marked(NETS))
def test_networks_give_what_they_give_for_zeros_in_the_padding(name):
    net = NETS[name]
    params = jax.jit(net.init)(jax.random.key(0), TOKENS, MASK)

    def run(params, tokens):
        out = jax.tree.leaves(net.apply(params, tokens, MASK))[0]
        if out.shape[:2] == MASK.shape:  # what stands at padding means nothing
            out = jnp.where(MASK[..., None], out, 0.0)
        return jnp.sum(jnp.sin(out)), out

    both = jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True))
    (_, clean), wanted = both(params, spoilt(0.0))
    assert np.abs(jax.tree.leaves(clean)[0]).max() > 0
    for value in BROKEN:
        (_, out), slopes = both(params, spoilt(value))
        np.testing.assert_array_equal(out, clean)
        jax.tree.map(np.testing.assert_array_equal, slopes, wanted)
        np.testing.assert_array_equal(np.asarray(slopes[1])[~np.asarray(MASK)], 0.0)


def test_later_layers_of_an_encoder_do_not_see_it():
    encoder = vit.ViT(vit.ViTConfig(16, 2, 2, 8, (8, 8, 1), (4, 4)))
    picture = jnp.ones((1, 8, 8, 1))
    params = jax.jit(encoder.init)(jax.random.key(0), picture)["params"]
    late = jax.jit(
        lambda tokens: vit_stages.late(encoder, params, tokens, 1, mask=MASK)
    )
    mask = np.asarray(MASK)
    clean = np.asarray(late(spoilt(0.0)))[mask]
    for value in BROKEN:
        np.testing.assert_array_equal(np.asarray(late(spoilt(value)))[mask], clean)


@pytest.mark.parametrize(
    "config",
    [CONFIG, pytest.param(MOE, marks=pytest.mark.slow)],
    ids=["plain", "moe"],
)
def test_generation_and_caches_do_not_see_it(config):
    net = decoder.Decoder(config)
    params = jax.jit(net.init)(jax.random.key(0), TOKENS, MASK)["params"]
    run = jax.jit(lambda x: generation.generate(net, params, x, MASK, 3, eos=-1))
    for value in BROKEN:
        np.testing.assert_array_equal(run(spoilt(value)), run(spoilt(0.0)))

    def read(tokens, unused):
        """A prefix, then a token; slots not written yet hold anything."""
        cache = decoder.init_cache(config, 2, 8)
        cache = cache._replace(k=cache.k + unused, v=cache.v + unused)
        variables = {"params": params}
        _, cache = net.apply(variables, tokens, MASK, cache)
        return net.apply(variables, tokens[:, :1], MASK[:, :1], cache)[0]

    read = jax.jit(read)
    for value in BROKEN:
        found = read(spoilt(value), value)
        np.testing.assert_array_equal(found, read(spoilt(0.0), 0.0))


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("which", ["keys", "values"])
def test_attention_breaks_for_those_queries_alone_that_see_what_is_broken(value, which):
    """Causal: the third token of five is broken, the first two do not see it."""
    heads = TOKENS.reshape(2, 5, 4, 4)
    broken = heads.at[:, 2].set(value)
    keys, values = (broken, heads) if which == "keys" else (heads, broken)
    causal = jnp.tril(jnp.ones((5, 5), bool))[None]
    found = jax.jit(layers.attention)(heads, keys, values, causal)
    clean = layers.attention(heads, heads, heads, causal)
    np.testing.assert_allclose(found[:, :2], clean[:, :2], rtol=1e-5, atol=1e-6)
    assert np.isnan(found[:, 2:]).all()


@pytest.mark.parametrize("value", BROKEN)
def test_attention_received_does_not_see_it(value):
    heads, hidden = TOKENS.reshape(2, 5, 4, 4), ~MASK[..., None, None]
    broken = jnp.where(hidden, value, heads)
    found = layers.attention_received(broken, broken, MASK[:, None], MASK)
    clean = layers.attention_received(heads, heads, MASK[:, None], MASK)
    np.testing.assert_allclose(found, clean, rtol=1e-5, atol=1e-7)


def test_experts_do_not_see_it_in_the_losses_of_their_router():
    layer = moe.MoeLayer(MOE.moe)
    params = jax.jit(layer.init)(jax.random.key(0), TOKENS, MASK)

    def loss(params, tokens):
        routing = layer.apply(params, tokens, MASK)[1]
        return moe.load_balance_loss(routing, MASK) + moe.router_z_loss(routing, MASK)

    both = jax.jit(jax.value_and_grad(loss))
    jax.tree.map(
        np.testing.assert_array_equal,
        both(params, spoilt(np.nan)),
        both(params, spoilt(0.0)),
    )


def test_a_gate_tells_shares_whatever_its_scale():
    heads = TOKENS.reshape(2, 5, 4, 4)
    gate = jnp.array([[1.0, 0.5, 0.0, 2.0, 1.0]] * 2)
    clean = layers.attention(heads, heads, heads, gate=gate)
    for scale in (1e-25, 1e25):
        found = layers.attention(heads, heads, heads, gate=gate * scale)
        np.testing.assert_allclose(found, clean, rtol=1e-5, atol=1e-6)
    nothing = layers.attention(heads, heads, heads, gate=0 * gate)
    np.testing.assert_array_equal(nothing, 0.0)
