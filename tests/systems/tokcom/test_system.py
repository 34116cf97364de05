"""TokCom end to end: gradients through the link, costs, and what the SNR may change."""

import dataclasses
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import links
from m3jax.evals import snr_sweep
from m3jax.foundation import generalist as generalist_lib
from m3jax.ops import paths
from m3jax.systems import tokcom
from m3jax.testing import gradients, tiny, traces
from m3jax.train import learner

pytestmark = pytest.mark.usefixtures("quick_compilation")

BATCH = tiny.make_batch()
PARTS = (
    *("image_encoder", "image_compressor", "image_transmitter", "image_receiver"),
    *("audio_encoder", "audio_compressor", "audio_transmitter", "audio_receiver"),
    "decoder",
)
SNRS_DB = (-20, -10, 0, 10, 20, 30, 40, math.inf)
TOKENS, REALS = 4 + 2, 4


def make_config(**changes):
    kind = changes.pop("kind", "analog")
    fading = changes.pop("fading", "rayleigh")
    settings = {
        "sizes": tiny.sizes(),
        "compressor": "learned_queries",
        "num_image_tokens": 4,
        "num_audio_tokens": 2,
        "num_reals": REALS,
        "receiver_dim": 8,
        "link": links.LinkConfig(kind, fading, block_length=4, bits=3, qam_order=4),
    }
    return tokcom.Config(**(settings | changes))


@pytest.fixture(scope="module")
def params():
    """Random parameters, drawn by NumPy so that nothing is compiled."""
    rng = np.random.default_rng(0)
    system = tokcom.make_system(make_config())
    shapes = jax.eval_shape(system.init, jax.random.key(0), BATCH)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape).astype(np.float32)
        return 1 + 0.2 * values if path[-1].key == "scale" else 0.5 * values

    return jax.tree.map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def analog():
    """The answers of the analog system, jitted, and how often they were traced."""
    counted = traces.CountTraces(tokcom.make_system(make_config()).predict["answer"])
    return jax.jit(counted), counted


def at(snr_db):
    return {**BATCH, "snr_db": np.full(len(BATCH["answer"]), snr_db, np.float32)}


@pytest.mark.parametrize(
    ("kind", "uses"),
    [
        ("analog", TOKENS * REALS // 2),  # two reals make a symbol
        ("digital", TOKENS * REALS * 3 // 2),  # 3 bits a real, 2 bits a symbol
    ],
)
def test_the_loss_reaches_every_part_at_every_snr(params, kind, uses):
    """With one trace for all SNRs, and the same number of channel uses."""
    system = tokcom.make_system(make_config(kind=kind))
    calls = [(params, at(snr_db), jax.random.key(1)) for snr_db in SNRS_DB]
    grad = jax.grad(learner.training_loss(system), has_aux=True)
    for grads, metrics in traces.assert_no_retrace(grad, calls):
        gradients.check_gradients_reach(grads, PARTS)
        gradients.assert_finite(grads, "gradient")
        assert metrics["channel_uses"] == uses


def test_the_snr_is_data(analog, params):
    """Shapes and dtypes stay, answers change, and nothing is traced again."""
    answer, counted = analog
    outputs = [answer(params, at(s), jax.random.key(2)) for s in SNRS_DB]
    specs = [jax.tree.map(lambda x: (x.shape, x.dtype), out) for out in outputs]
    assert all(spec == specs[0] for spec in specs)
    assert counted.count == 1
    assert len({tuple(out["nll"].tolist()) for out in outputs}) == len(SNRS_DB)


def test_each_example_crosses_the_link_at_its_own_snr(analog, params):
    answer, _ = analog
    mixed = np.array([-10.0, 0.0, 20.0, math.inf], np.float32)
    out = answer(params, {**BATCH, "snr_db": mixed}, jax.random.key(2))
    for row, snr_db in enumerate(mixed):
        alone = answer(params, at(snr_db), jax.random.key(2))
        np.testing.assert_allclose(out["nll"][row], alone["nll"][row], rtol=1e-5)


def test_more_noise_changes_answers_more_and_no_noise_leaves_them(analog, params):
    def spread(snr_db):
        keys = jax.random.split(jax.random.key(3), 8)
        nll = [analog[0](params, at(snr_db), key)["nll"] for key in keys]
        return np.std(nll, axis=0).mean()

    assert spread(math.inf) < 1e-5 < spread(40.0) < spread(20.0) < spread(0.0)


def test_an_analog_link_sends_symbols_of_unit_energy_and_no_bits(analog, params):
    out = analog[0](params, at(10.0), jax.random.key(0))
    assert out["channel_uses"].tolist() == [TOKENS * REALS // 2] * 4
    np.testing.assert_allclose(out["energy"], TOKENS * REALS // 2, rtol=1e-4)
    assert out["bits"].tolist() == [0] * 4


def test_encoding_first_gives_the_same_answers(analog, params):
    """What no SNR touches can be computed once; the rest needs no picture or sound."""
    system = tokcom.make_system(make_config())
    whole = at(5.0)
    tokens = jax.jit(system.predict["encode"])(params, whole, None)
    assert {m: x.shape for m, x in tokens.items()} == {
        "image": (4, 16, 8),
        "audio": (4, 4, 8),
    }
    rest = {name: whole[name] for name in ("question", "answer", "snr_db")}
    key = jax.random.key(4)
    split = jax.jit(system.predict["answer"])(params, {**rest, "tokens": tokens}, key)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        split,
        analog[0](params, whole, key),
    )


def test_generated_answers_are_those_that_teacher_forcing_finds_right(analog, params):
    system = tokcom.make_system(make_config())
    key, batch = jax.random.key(5), at(10.0)
    said = jax.jit(system.predict["generate"])(params, batch, key)
    assert said.shape == BATCH["answer"].shape and said.dtype == jnp.int32
    scores = analog[0](params, {**batch, "answer": said}, key)
    complete = np.asarray(said != 0).all(axis=1)  # a random network may say PAD
    assert complete.any()
    assert np.asarray(scores["answer_accuracy"])[complete].all()
    assert (np.asarray(scores["nll"])[complete] < math.log(12)).all()


@pytest.mark.parametrize(
    ("changes", "snr_db"),
    [({"train_snr_db": (7.0, 7.0)}, 7.0), ({"channel_in_training": False}, math.inf)],
)
def test_training_draws_snrs_from_its_range(analog, params, changes, snr_db):
    """From a range of one point: that SNR; without the channel: no noise."""
    key = jax.random.key(6)
    loss, metrics = jax.jit(
        learner.training_loss(tokcom.make_system(make_config(**changes)))
    )(params, BATCH, key)
    expected = analog[0](params, at(snr_db), jax.random.split(key)[1])
    np.testing.assert_allclose(loss, expected["nll"].mean(), rtol=1e-5)
    assert metrics["channel_uses"] == TOKENS * REALS // 2


def test_link_settings_are_those_that_make_a_link():
    fields = [field.name for field in dataclasses.fields(links.LinkConfig)]
    assert fields == list(inspect.signature(links.make_link).parameters)


def test_a_learned_codebook_is_trained_with_the_rest(params):
    """Its parameters are the only new ones, and its loss is part of the loss."""
    link = links.LinkConfig("vq", num_codewords=4, group_size=2, qam_order=4)
    system = tokcom.make_system(make_config(link=link))
    shapes = jax.eval_shape(system.init, jax.random.key(0), BATCH)
    assert {*shapes} - {*params} == {"image_link", "audio_link"}
    rng = np.random.default_rng(1)
    learned = {
        m: {"codewords": rng.normal(size=shapes[m]["codewords"].shape)}
        for m in ("image_link", "audio_link")
    }

    def loss(learned):
        return learner.training_loss(system)(params | learned, BATCH, jax.random.key(7))

    (total, metrics), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(learned)
    gradients.check_gradients_reach(grads, ["image_link", "audio_link"])
    parts = metrics["answer_loss"] + metrics["codebook_loss"]
    np.testing.assert_allclose(total, parts, rtol=1e-5)
    assert metrics["codebook_loss"] > 0
    # 2 groups of 2 bits a token are 2 symbols.
    assert metrics["channel_uses"] == TOKENS * 2


def test_a_generalist_fits_into_the_system(params):
    generalist = generalist_lib.make_system(generalist_lib.Config(sizes=tiny.sizes()))
    shapes = jax.eval_shape(generalist.init, jax.random.key(0), BATCH)
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    # Raises if a path or a shape of the one is not in the other.
    started = paths.overlay(params, make_config().warm_start(ones))
    assert np.all(started["decoder"]["final_norm"]["scale"] == 1)
    assert np.all(started["image_receiver"]["linear"]["bias"] == 1)


@pytest.mark.parametrize("num_reals", [4, 12])
def test_the_projector_is_split_into_its_best_factors(num_reals):
    """What is missing are its smallest singular values, at the link's unit power."""
    kernel = np.random.default_rng(0).normal(size=(8, 8))
    projector = {"kernel": kernel, "bias": np.zeros(8)}
    names = [
        f"{m}_{part}" for m in ("image", "audio") for part in ("encoder", "projector")
    ]
    given = make_config(num_reals=num_reals).warm_start(
        dict.fromkeys((*names, "decoder"), projector)
    )
    sent = given["image_transmitter"]["symbols"]["kernel"]
    received = given["image_receiver"]["linear"]["kernel"]
    assert (sent.shape, received.shape) == ((8, num_reals), (num_reals, 8))
    power = np.mean(np.sum(sent**2, axis=0))  # of a real, for tokens of unit variance
    values = np.linalg.svd(kernel, compute_uv=False)
    missing = np.sum((sent / np.sqrt(power) @ received - kernel) ** 2)
    np.testing.assert_allclose(missing, np.sum(values[num_reals:] ** 2), atol=1e-9)


def test_without_an_snr_there_is_no_prediction(params):
    predict = tokcom.make_system(make_config()).predict["answer"]
    with pytest.raises(ValueError, match="the batch needs snr_db"):
        jax.eval_shape(predict, params, BATCH, jax.random.key(0))


def test_an_snr_that_is_not_a_number_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="snr_db must not be NaN"):
        snr_sweep.sweep(
            tokcom.make_system(make_config()).predict["answer"],
            {},
            [],
            snrs_db=(0.0, math.nan),
            num_seeds=1,
            key=jax.random.key(0),
        )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train_snr_db": (5.0, 1.0)}, "system.train_snr_db is .*a low and a high"),
        ({"train_snr_db": (0.0, math.inf)}, "channel_in_training=False"),
        ({"train_snr_db": (math.nan, 1.0)}, "system.train_snr_db is .*nan"),
        ({"train_snr_db": (1.0,)}, "system.train_snr_db is"),
        ({"compressor": "zip"}, "zip"),
        (
            {
                "link": links.LinkConfig("erasure", probability=0.1),
                "channel_in_training": False,
            },
            "link.probability loses as much at every SNR",
        ),
        (
            {"link": links.LinkConfig("vq", group_size=3)},
            "group_size=3 must divide .* R=4",
        ),
        ({"kind": "smoke"}, "link kind must be one of .*'smoke'"),
        ({"fading": "fog"}, "fading must be one of .*'fog'"),
        ({"num_reals": 3}, "num_reals.*even and positive"),
        ({"num_image_tokens": 99}, "num_tokens=99 must be between 1 and .* 16"),
        ({"num_image_tokens": 5, "compressor": "window_pool"}, "does not divide"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(changes, told):
    with pytest.raises(ValueError, match=told):
        tokcom.make_system(make_config(**changes))


def test_the_public_codes_compressor_fits_the_system():
    system = tokcom.make_system(make_config(compressor="stride"))
    shapes = jax.eval_shape(system.init, jax.random.key(0), BATCH)
    loss, _ = jax.eval_shape(
        learner.training_loss(system), shapes, BATCH, jax.random.key(0)
    )
    assert loss.shape == ()
