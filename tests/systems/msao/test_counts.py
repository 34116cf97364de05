"""Counted operations, against every product of matrices that the programs hold."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import flops, moe, vit
from m3jax.systems import msao
from m3jax.systems.msao import counts, parts
from m3jax.testing import tiny

TINY = msao.Config(
    sizes=tiny.sizes(), num_image_tokens=4, num_audio_tokens=2, relevance_dim=4
)
DEEP = dataclasses.replace(
    TINY,
    sizes=dataclasses.replace(
        TINY.sizes,
        image=sizes_lib.image(
            depth=3, shape=(16, 16, 3), patch=(4, 4), stem=(4, 8), mlp_dim=8
        ),
    ),
    early_layers=1,
)


def _products(jaxpr) -> int:
    """Operations of all products of matrices in a traced program, loops unrolled."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            inner = math.prod(shape[axis] for axis in contract)
            total += 2 * inner * math.prod(eqn.outvars[0].aval.shape)
        if eqn.primitive.name == "kernel_product":
            inner = eqn.invars[0].aval.shape[-1]
            total += 2 * inner * math.prod(eqn.outvars[0].aval.shape)
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        for inner in core.jaxprs_in_params(eqn.params):
            total += times * _products(getattr(inner, "jaxpr", inner))
    return total


def _traced(fn, *args) -> int:
    return _products(jax.make_jaxpr(fn)(*args).jaxpr)


def _system(config, batch_size=1):
    system = config.make_system()
    batch = tiny.make_batch(batch_size=batch_size)
    params = jax.eval_shape(system.init, jax.random.key(0), batch)
    return system, params, batch


@pytest.mark.parametrize("config", [TINY, DEEP], ids=["tiny", "deep"])
@pytest.mark.parametrize("retention", [0.25, 0.5, 1.0])
def test_an_answer_takes_the_products_that_are_counted(config, retention):
    """Additions of pooling and means are no products, hence taken off again."""
    config = dataclasses.replace(config, retention=retention)
    system, params, batch = _system(config)
    found = _traced(lambda p, b: system.predict["answer"](p, b, None), params, batch)
    counted = counts.operations(config, question=tiny.QUESTION, answer=tiny.ANSWER)
    num = {m: vit.num_tokens(config.sizes.encoder_config(m)) for m in parts.MODALITIES}
    width = config.sizes.dim
    additions = width * (num["image"] * (1 + config.pool**2) + num["audio"])
    assert found == counted.total - additions


def test_what_is_cut_is_what_the_later_stages_save():
    whole, half = (counts.operations(DEEP, n, question=4, answer=3) for n in (4, 2))
    assert whole.early == half.early and whole.probes == half.probes
    encoder = DEEP.sizes.encoder_config("image")
    saved = flops.vit_layers(encoder, 2, 16) - flops.vit_layers(encoder, 2, 8)
    projected = flops.dense(2, encoder.dim, DEEP.sizes.dim)
    assert whole.later - half.later == saved + projected


def test_xla_counts_about_as_much():
    """Its analysis adds norms, activations and softmax, a few per cent.

    At the shipped sizes; programs are compiled and not run.
    """
    config = dataclasses.replace(msao.Config(), retention=0.5)
    for retention in (0.5, 1.0):
        config = dataclasses.replace(config, retention=retention)
        made = parts.Parts(config)
        params = jax.eval_shape(made.init, jax.random.key(0))
        tokens = jax.ShapeDtypeStruct((1, 4 * config.num_windows, 96), jnp.float32)
        compiled = (
            jax.jit(lambda p, t, made=made: made.finish(p, "image", t))
            .lower(params, tokens)
            .compile()
        )
        counted = counts.operations(
            config, question=10, answer=16, modalities=("image",)
        ).later
        ratio = compiled.cost_analysis()["flops"] / counted
        assert 1.0 <= ratio < 1.15


@pytest.mark.parametrize("stem", [(), (4, 8)])
def test_an_encoder_is_counted_exactly(stem):
    config = vit.ViTConfig(
        dim=8, depth=2, num_heads=2, mlp_dim=12, input_shape=(16, 16, 3),
        patch_shape=(4, 4), stem_dims=stem, num_class_tokens=0 if stem else 1,
    )  # fmt: skip
    encoder = vit.ViT(config)
    x = jnp.zeros((1, 16, 16, 3))
    variables = jax.eval_shape(encoder.init, jax.random.key(0), x)
    assert _traced(encoder.apply, variables, x) == flops.vit_encoder(config)


@pytest.mark.parametrize("tied", [True, False])
def test_a_decoder_is_counted_exactly_with_and_without_a_cache(tied):
    config = decoder_lib.DecoderConfig(
        vocab_size=11, dim=16, depth=2, num_heads=4, num_kv_heads=2, ff_dim=24,
        head_dim=6, tie_embeddings=tied,
    )  # fmt: skip
    decoder = decoder_lib.Decoder(config)
    embeds, mask = jnp.zeros((1, 5, 16)), jnp.ones((1, 5), bool)
    variables = jax.eval_shape(decoder.init, jax.random.key(0), embeds, mask)

    def call(variables, cache):
        hidden, _ = decoder.apply(variables, embeds, mask, cache)
        return decoder.apply(variables, hidden[:, -2:], method="logits")

    assert _traced(lambda v: call(v, None), variables) == flops.decoder(config, 5, 2)
    cache = decoder_lib.init_cache(config, 1, 9)
    found = _traced(lambda v: call(v, cache), variables)
    assert found == flops.decoder(config, 5, 2, num_slots=9)


def test_experts_are_not_counted_as_one_network():
    config = decoder_lib.DecoderConfig(vocab_size=3, moe=moe.MoeConfig())
    with pytest.raises(ValueError, match="routing"):
        flops.decoder(config, 4)


def test_the_probes_cost_less_than_two_per_cent_of_the_model():
    config = msao.Config(retention=1.0)
    cost = counts.operations(config, question=10, answer=16)
    assert cost.probes < 0.02 * (cost.total - cost.probes)
    # Nor does hashing, beside the picture's layers that it would spare.
    encoder = flops.vit_encoder(config.sizes.encoder_config("image"))
    assert counts.hashing_operations(config) < 0.02 * encoder


def test_bits_are_those_of_the_tokens_that_are_sent():
    sent = np.array([0, 4, 16])
    found = counts.sent_bits(TINY, sent, 0, bits_per_real=8)
    np.testing.assert_array_equal(found, sent * 8 * 8 + 4 + 2)
