"""Teacher forcing and generation tell the same story about the same network."""

import dataclasses

import jax
import numpy as np
import pytest

from m3jax.foundation import answering
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import vit
from m3jax.ops import losses

SIZES = sizes_lib.Sizes(
    decoder=sizes_lib.DecoderSizes(
        vocab_size=9, dim=16, num_heads=2, num_kv_heads=1, depth=1, ff_dim=24
    ),
)
BATCH, PREFIX, NUM_WORDS = 10, 3, 6
QUESTION = np.array([3, 4, 5, 0, 0], np.int32)
DECODER = decoder_lib.Decoder(SIZES.decoder_config())

answer_logits = jax.jit(answering.answer_logits, static_argnums=0)
generate_answer = jax.jit(answering.generate_answer, static_argnums=(0, 5))


@pytest.fixture(scope="module")
def case(random_params):
    """A random network, prefixes with gaps, and questions of different lengths."""
    rng = np.random.default_rng(0)
    prefix = 3 * rng.normal(size=(BATCH, PREFIX, SIZES.dim)).astype(np.float32)
    mask = rng.random((BATCH, PREFIX)) < 0.7
    question = np.tile(QUESTION, (BATCH, 1))
    question[1::2, 2] = answering.PAD
    params = random_params(DECODER, prefix, mask, gain=3.0)["params"]
    return params, prefix, mask, question


@pytest.fixture(scope="module")
def said(case):
    """The network's own answers, int32 [B, NUM_WORDS]."""
    return np.asarray(generate_answer(DECODER, *case, NUM_WORDS))


def test_answers_differ_and_some_end(said):
    assert len(np.unique(said, axis=0)) > 3
    assert (said == answering.EOS).any()


def test_teacher_forcing_finds_an_answer_right_if_and_only_if_it_is_generated(
    case, said
):
    """Half of the answers are spoilt in their first, last or a middle word."""
    lengths = (said != answering.PAD).sum(axis=1)
    answer = said.copy()
    for row in range(0, BATCH, 2):
        place = [0, lengths[row] - 1, lengths[row] // 2][row % 3]
        answer[row, place] = 3 + (answer[row, place] - 2) % 6  # another word, no PAD
    # A random network may say PAD before the end, which no answer of the data does.
    proper = [not said[i, :n].min() == answering.PAD for i, n in enumerate(lengths)]
    logits = answer_logits(DECODER, *case, answer)
    right = losses.score_answers(logits, answer)["answer_accuracy"]
    generated = (answer == said).all(axis=1)
    assert 1 < generated[proper].sum() < sum(proper) - 1
    np.testing.assert_array_equal(right[np.array(proper)], generated[proper])


def test_a_word_is_scored_by_what_comes_before_it_only(case, said):
    other = said.copy()
    other[:, 3:] = 8
    one, two = (answer_logits(DECODER, *case, a) for a in (said, other))
    np.testing.assert_allclose(one[:, :4], two[:, :4], rtol=1e-4, atol=1e-5)
    assert np.abs(one[:, 4:] - two[:, 4:]).max() > 0.1


def test_more_padding_of_the_question_changes_nothing(case, said):
    params, prefix, mask, question = case
    longer = np.pad(question, ((0, 0), (0, 3)))
    one = answer_logits(DECODER, params, prefix, mask, question, said)
    two = answer_logits(DECODER, params, prefix, mask, longer, said)
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_tokens_that_are_not_valid_are_not_read(case, said):
    params, prefix, mask, question = case
    assert not mask.all()
    spoilt = np.where(mask[..., None], prefix, 7.0)
    one = answer_logits(DECODER, params, prefix, mask, question, said)
    two = answer_logits(DECODER, params, spoilt, mask, question, said)
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_the_answer_depends_on_the_prefix_and_on_the_question(case, said):
    params, prefix, mask, question = case
    valid = np.ones_like(mask)
    plain = answer_logits(DECODER, params, prefix, valid, question, said)
    for changed in (
        (params, prefix[::-1], valid, question),
        (params, prefix, valid, np.where(question == 3, 6, question)),
    ):
        other = answer_logits(DECODER, *changed, said)
        assert (np.abs(other - plain).max(axis=(1, 2)) > 1e-2).all()


def test_encoders_read_floats_of_about_unit_scale():
    image = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
    image = jax.numpy.asarray(image)
    batch = {"image": image, "video": image[None], "audio": np.ones((1, 4, 5))}
    for modality in ("image", "video"):
        scaled = answering.encoder_input(batch, modality)
        assert scaled.shape == batch[modality].shape
        np.testing.assert_allclose(np.ravel(scaled), [-1, 1], atol=1e-6)
    assert answering.encoder_input(batch, "audio").shape == (1, 4, 5, 1)


@pytest.mark.parametrize(
    ("modality", "tokens"), [("image", 64), ("audio", 16), ("video", 64)]
)
def test_by_default_a_picture_or_clip_is_64_tokens_and_a_sound_16(modality, tokens):
    config = sizes_lib.Sizes().encoder_config(modality)
    assert vit.num_tokens(config) == tokens
    assert config.dim == sizes_lib.Sizes().decoder_config().dim


@pytest.mark.parametrize("modality", sizes_lib.ENCODED)
def test_an_encoder_has_sizes_of_its_own(modality):
    own = {
        "depth": 5,
        "dim": 24,
        "num_heads": 3,
        "mlp_dim": 7,
        "shape": (9, 8, 1),
        "patch": (4, 4),
        "stride": (2, 3),
        "num_class_tokens": 2,
    }
    plain = sizes_lib.Sizes()
    changed = sizes_lib.EncoderSizes(**own)
    sizes = dataclasses.replace(plain, **{modality: changed})
    expected = vit.ViTConfig(
        dim=24,
        depth=5,
        num_heads=3,
        mlp_dim=7,
        input_shape=(9, 8, 1),
        patch_shape=(4, 4),
        patch_stride=(2, 3),
        num_class_tokens=2,
        scan_unroll=5,
    )
    assert sizes.encoder_config(modality) == expected
    assert sizes.decoder_config() == plain.decoder_config()
    for other in set(sizes_lib.ENCODED) - {modality}:
        assert sizes.encoder_config(other) == plain.encoder_config(other)


def test_every_setting_of_the_decoder_can_be_given():
    settings = {
        "vocab_size": 11,
        "dim": 12,
        "num_heads": 6,
        "num_kv_heads": 3,
        "ff_dim": 5,
        "rope_theta": 7.0,
        "norm_eps": 0.5,
        "qkv_bias": False,
        "tie_embeddings": True,
        "embed_std": 0.25,
        "depth": 8,
    }
    shared = {"dtype": "bfloat16", "scan_unroll": 4}
    sizes = sizes_lib.Sizes(decoder=sizes_lib.DecoderSizes(**settings), **shared)
    assert sizes.decoder_config() == decoder_lib.DecoderConfig(**settings, **shared)
    default = sizes_lib.Sizes().decoder_config()
    left = {
        field.name
        for field in dataclasses.fields(default)
        if getattr(sizes.decoder_config(), field.name) == getattr(default, field.name)
    }
    assert left == {"head_dim", "moe"}


def test_an_unknown_modality_is_refused():
    with pytest.raises(ValueError, match="no encoder for 'smell'"):
        sizes_lib.Sizes().encoder_config("smell")
