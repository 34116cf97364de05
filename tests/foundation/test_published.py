"""Published sizes against published counts; no array of such a size is ever made."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from m3jax.foundation import published
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import vit
from m3jax.train import typed_json


def _count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@functools.cache
def _decoder():
    """Parameters and logits of Qwen2.5-1.5B for a prefix of 5 tokens, as shapes."""
    decoder = decoder_lib.Decoder(published.qwen2_5_1_5b())

    def run(key):
        mask = jnp.ones((1, 5), bool)
        (hidden, _), made = decoder.init_with_output(
            key, jnp.zeros((1, 5, decoder.config.dim)), mask
        )
        return decoder.apply(made, hidden, method="logits"), made["params"]

    return jax.eval_shape(run, jax.random.key(0))


@pytest.mark.parametrize(
    ("config", "patches", "millions"),
    [(published.vivit_b_16x2(), 3136, 88.6), (published.ast(), 1212, 86.2)],
    ids=["vivit", "ast"],
)
def test_encoders_have_the_published_tokens_and_parameters(config, patches, millions):
    """A ViT-B has 7,087,872 parameters a layer, whatever it reads."""
    model = vit.ViT(config)
    x = jax.ShapeDtypeStruct((1, *config.input_shape), jnp.float32)
    tokens, made = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    length = patches + config.num_class_tokens
    assert tokens.shape == (1, length, 768)
    inputs = {3136: 2 * 16 * 16 * 3, 1212: 16 * 16}[patches]
    ends = (inputs + 1) * 768 + (length + config.num_class_tokens) * 768 + 2 * 768
    assert _count(made) == 12 * 7_087_872 + ends
    assert round(_count(made) / 1e6, 1) == millions


def test_a_spectrogram_with_mels_first_has_as_many_tokens():
    config = published.ast()
    other = dataclasses.replace(config, input_shape=(128, 1024, 1))
    assert vit.grid_shape(config) == (101, 12)
    assert vit.grid_shape(other) == (12, 101)
    assert vit.num_tokens(config) == vit.num_tokens(other) == 1214


def test_the_decoder_has_the_published_parameters():
    """1.54 billion, of which 1.31 are not the embedding table (table 1)."""
    logits, params = _decoder()
    assert logits.shape == (1, 5, 151_936)
    table = _count(params["embedder"])
    assert table == 151_936 * 1536
    assert _count(params) == 1_543_714_304
    assert round((_count(params) - table) / 1e9, 2) == 1.31


def test_the_decoder_has_the_tensors_of_published_weights_and_no_other():
    _, params = _decoder()
    layer = params["layers"]
    shapes = {
        "/".join(key.key for key in path): leaf.shape[1:]
        for path, leaf in jax.tree.leaves_with_path(layer)
    }
    assert set(params) == {"embedder", "layers", "final_norm"}  # the head is tied
    assert shapes == {
        "attention/q/kernel": (1536, 1536),
        "attention/q/bias": (1536,),
        "attention/k/kernel": (1536, 256),
        "attention/k/bias": (256,),
        "attention/v/kernel": (1536, 256),
        "attention/v/bias": (256,),
        "attention/o/kernel": (1536, 1536),
        "attention_norm/scale": (1536,),
        "mlp/gate/kernel": (1536, 8960),
        "mlp/up/kernel": (1536, 8960),
        "mlp/down/kernel": (8960, 1536),
        "mlp_norm/scale": (1536,),
    }


def test_the_sizes_of_tokcom_are_those_of_its_three_models():
    sizes = published.tokcom()
    assert sizes.decoder_config() == published.qwen2_5_1_5b()
    assert sizes.encoder_config("video") == published.vivit_b_16x2()
    assert sizes.encoder_config("audio") == published.ast()
    assert typed_json.from_json(typed_json.to_json(sizes)) == sizes
