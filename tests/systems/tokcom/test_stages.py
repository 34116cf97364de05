"""TokCom's stages and options: what each sends, what each trains, what it refuses."""

import dataclasses
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import links
from m3jax.nn import lora
from m3jax.ops import paths
from m3jax.systems import tokcom
from m3jax.testing import gradients, tiny, traces
from m3jax.train import learner

pytestmark = pytest.mark.usefixtures("quick_compilation")

BATCH = tiny.make_batch()
CAPTIONS = {
    "image_caption": np.array([[5, 6, 2, 0], [7, 2, 0, 0], [5, 6, 2, 0], [2, 0, 0, 0]]),
    "audio_caption": np.array([[3, 2], [4, 2], [5, 2], [3, 2]]),
}
WORDS = (BATCH["question"] != 0).sum(axis=1)
REALS = 4


def make(**changes):
    settings = {
        "sizes": tiny.sizes(),
        "num_image_tokens": 4,
        "num_audio_tokens": 2,
        "num_reals": REALS,
        "receiver_dim": 8,
    }
    config = tokcom.Config(**(settings | changes))
    return config, tokcom.make_system(config)


def at(snr_db, **more):
    snrs_db = np.full(len(BATCH["answer"]), snr_db, np.float32)
    return {**BATCH, "snr_db": snrs_db, **more}


def drawn(system):
    """Random parameters, drawn by NumPy so that nothing is compiled."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(system.init, jax.random.key(0), BATCH)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape).astype(np.float32)
        return 1 + 0.2 * values if path[-1].key == "scale" else 0.3 * values

    return jax.tree.map_with_path(draw, shapes)


def answer(system, params, batch, key=0):
    return jax.jit(system.predict["answer"])(params, batch, jax.random.key(key))


@pytest.mark.parametrize("reconstruction", ["words", "decoder"])
def test_alignment_reaches_transceivers_and_temperature_but_no_other_stage(
    reconstruction,
):
    _, system = make(
        stage="alignment",
        alignment=tokcom.AlignmentConfig(reconstruction=reconstruction),
    )
    params = drawn(system)
    grad = jax.jit(jax.grad(learner.training_loss(system), has_aux=True))
    grads, metrics = grad(params, {**BATCH, **CAPTIONS}, jax.random.key(1))
    gradients.assert_finite(grads, "gradient")
    gradients.check_gradients_reach(
        grads,
        (
            "(image|audio)_(transmitter|receiver)",
            "alignment/(image|audio)/loss/log_scale",
        ),
    )
    assert {"image_contrastive_loss", "audio_text_loss"} <= set(metrics)


def test_alignment_without_captions_says_what_is_missing():
    _, system = make(stage="alignment")
    params = jax.eval_shape(system.init, jax.random.key(0), BATCH)
    with pytest.raises(ValueError, match="the batch has no image_caption"):
        jax.eval_shape(learner.training_loss(system), params, BATCH, jax.random.key(1))


def test_alignment_without_noise_learns_to_tell_captions_apart():
    """A few steps of gradient descent bring the right pairs together."""
    config, system = make(stage="alignment", channel_in_training=False)
    batch = {**BATCH, **CAPTIONS}
    trainable = paths.expand("transceiver|alignment", config.PARTS)

    @jax.jit
    def step(params, key):
        (loss, _), grads = jax.value_and_grad(
            learner.training_loss(system), has_aux=True
        )(params, batch, key)
        trains = paths.mask(params, trainable)
        move = jax.tree.map(
            lambda p, g, on: p - 0.1 * g if on else p, params, grads, trains
        )
        return move, loss

    params = jax.jit(system.init)(jax.random.key(0), BATCH)
    losses = []
    for number in range(30):
        params, loss = step(params, jax.random.key(number))
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 1.0


def test_a_later_stage_starts_from_the_earlier_one():
    _, first = make(stage="alignment")
    config, second = make(lora=lora.LoraConfig(rank=2))
    aligned = drawn(first)
    params = paths.overlay(drawn(second), config.warm_start(aligned))
    assert set(params) == (set(aligned) - {"alignment"}) | {"lora"}
    for name in set(aligned) - {"alignment"}:
        jax.tree.map(np.testing.assert_array_equal, params[name], aligned[name])


def test_names_of_parts_choose_what_trains():
    config, system = make(lora=lora.LoraConfig(rank=2))
    shapes = jax.eval_shape(system.init, jax.random.key(0), BATCH)
    chosen = paths.mask(shapes, paths.expand("transceiver|lora", config.PARTS))
    groups = {path.split("/")[0] for path, on in paths.flatten(chosen).items() if on}
    assert groups == {
        *("image_transmitter", "image_receiver"),
        *("audio_transmitter", "audio_receiver", "lora"),
    }


def test_fresh_adapters_change_nothing():
    _, plain = make()
    _, adapted = make(lora=lora.LoraConfig(rank=2))
    bare = drawn(plain)
    # Only what is fresh is compiled.
    fresh = jax.jit(lambda key: adapted.init(key, BATCH)["lora"])(jax.random.key(0))
    params = {**bare, "lora": fresh}
    one, two = answer(plain, bare, at(5.0)), answer(adapted, params, at(5.0))
    np.testing.assert_allclose(one["nll"], two["nll"], rtol=1e-5)


def test_a_question_that_is_sent_costs_its_words_and_no_padding():
    """Weakness A.3-1 of the public code: padding must take no power and no noise."""
    _, system = make(modalities=("image", "text"))
    params = drawn(system)
    out = answer(system, params, at(10.0))
    assert out["channel_uses"].tolist() == ((4 + WORDS) * REALS // 2).tolist()
    np.testing.assert_allclose(out["energy"], out["channel_uses"], rtol=1e-4)
    said = jax.jit(system.predict["generate"])(params, at(10.0), jax.random.key(0))
    assert said.shape == BATCH["answer"].shape


def test_what_padding_of_a_sent_question_holds_does_not_matter():
    _, system = make(modalities=("text",))
    params = drawn(system)
    longer = np.pad(BATCH["question"], ((0, 0), (0, 3)))
    quiet = dict.fromkeys(("snr_db",), np.full(4, np.inf, np.float32))
    one = answer(system, params, {**BATCH, **quiet})
    two = answer(system, params, {**BATCH, **quiet, "question": longer})
    np.testing.assert_allclose(one["nll"], two["nll"], rtol=1e-4)


def test_a_clip_crosses_the_link():
    _, system = make(modalities=("video", "audio"), num_video_tokens=4)
    clip = np.zeros((4, 8, 32, 32, 3), np.uint8)
    out = answer(system, drawn(system), at(10.0, video=clip))
    assert out["channel_uses"].tolist() == [(4 + 2) * REALS // 2] * 4


@pytest.mark.parametrize("name", ["random", "top_k_attention"])
def test_any_number_of_the_most_important_tokens_can_be_sent(name):
    _, system = make(compressor=name, progressive=True)
    params = drawn(system)
    counted = traces.CountTraces(system.predict["answer"])
    run = jax.jit(counted)
    for count in (0, 1, 4):
        lengths = {"image": np.full(4, count), "audio": np.full(4, min(count, 2))}
        out = run(params, at(10.0, num_tokens=lengths), jax.random.key(0))
        uses = (count + min(count, 2)) * REALS // 2
        assert out["channel_uses"].tolist() == [uses] * 4
        assert np.isfinite(out["nll"]).all()
    assert counted.count == 1
    _, metrics = jax.jit(learner.training_loss(system))(
        params, BATCH, jax.random.key(2)
    )
    assert REALS <= metrics["channel_uses"] <= 6 * REALS // 2


def test_the_decoder_is_not_shown_what_was_lost():
    """With every packet lost the answer is that to the question alone."""
    lost = links.LinkConfig("erasure", probability=1.0, bits=None)
    _, system = make(link=lost)
    params = drawn(system)
    one = answer(system, params, at(10.0))
    other = tiny.make_batch(seed=1)
    swapped = {name: other[name] for name in ("image", "audio")}
    two = answer(system, params, at(10.0, **swapped))
    np.testing.assert_array_equal(one["nll"], two["nll"])


def test_scoring_by_the_first_word_ignores_the_rest():
    _, system = make(scoring="first_word")
    params = drawn(system)
    loss = jax.jit(learner.training_loss(system))
    first = loss(params, BATCH, jax.random.key(0))[0]
    answers = BATCH["answer"].copy()
    answers[:, 1:] = 0
    second = loss(params, {**BATCH, "answer": answers}, jax.random.key(0))[0]
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_choosing_among_answers_scores_each_as_a_whole():
    """The nats of a whole answer are its words times the mean nats a word."""
    _, system = make(modalities=("image",))
    params, batch = drawn(system), at(np.inf)
    found = jax.jit(system.predict["choose"])(params, batch, jax.random.key(0))
    words = (BATCH["answer"] != 0).sum(axis=1)
    own = answer(system, params, batch)["nll"] * words
    np.testing.assert_allclose(np.diag(found), -own, rtol=1e-4)


def test_tokens_of_half_precision_serve_as_a_cache():
    _, system = make(compressor="top_k_attention")
    params = drawn(system)
    encoded = jax.jit(system.predict["encode"])(params, BATCH, None)
    assert set(encoded) == {"image", "image_scores", "audio", "audio_scores"}
    half = jax.tree.map(lambda x: np.asarray(x, np.float16), encoded)
    rest = {name: BATCH[name] for name in ("question", "answer")}
    snr_db = np.full(4, np.inf, np.float32)
    cached = answer(system, params, {**rest, "tokens": half, "snr_db": snr_db})
    whole = answer(system, params, at(np.inf))
    np.testing.assert_allclose(cached["nll"], whole["nll"], rtol=2e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": ("image", "smell")}, "system.modalities"),
        ({"modalities": ("image", "image")}, "once"),
        ({"modalities": ()}, "system.modalities"),
        ({"stage": "both"}, "system.stage must be one of"),
        ({"compressor": "zip"}, "system.compressor must be one of"),
        ({"scoring": "last_word"}, "system.scoring must be one of"),
        ({"lora": lora.LoraConfig(rank=-1)}, "system.lora.rank is -1"),
        (
            {"alignment": tokcom.AlignmentConfig(reconstruction="x")},
            "system.alignment.reconstruction",
        ),
        ({"receiver": "magic"}, "Receiver.kind"),
        ({"progressive": True}, "no order of importance"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_the_published_sizes_have_the_published_shapes():
    """Abstractly: nothing of this size is made."""
    path = pathlib.Path(__file__).parents[3] / "configs" / "tokcom.py"
    spec = importlib.util.spec_from_file_location("tokcom_config", path)
    configs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(configs)
    config = configs.get_config("paper").system
    system = tokcom.make_system(config)
    params = jax.eval_shape(system.init, jax.random.key(0), {})
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(part))
        for name, part in params.items()
    }
    assert 1.5e9 < sizes["decoder"] < 1.6e9
    assert 8.4e7 < sizes["audio_encoder"] < 9e7
    assert 8.6e7 < sizes["video_encoder"] < 9e7
    # Rank 4 on q [1536, 1536] and v [1536, 256] of 28 layers.
    assert sizes["lora"] == 28 * 4 * (1536 + 1536 + 1536 + 256)
    assert params["audio_transmitter"]["symbols"]["kernel"].shape == (768, 1536)
    assert params["audio_receiver"]["up"]["kernel"].shape == (1536, 1024)
    batch = {
        "video": jax.ShapeDtypeStruct((2, 32, 224, 224, 3), jnp.uint8),
        "audio": jax.ShapeDtypeStruct((2, 1024, 128), jnp.float32),
        "question": jax.ShapeDtypeStruct((2, 32), jnp.int32),
        "answer": jax.ShapeDtypeStruct((2, 4), jnp.int32),
    }
    loss, metrics = jax.eval_shape(
        learner.training_loss(system), params, batch, jax.random.key(0)
    )
    assert loss.shape == () and set(metrics) >= {"answer_loss", "channel_uses"}
    literal = dataclasses.replace(config, stage="alignment", lora=lora.LoraConfig())
    tokcom.make_system(literal)
