"""MSAO's system: pruned answers beside those of the whole model, and its training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.foundation import answering, generalist
from m3jax.systems import msao
from m3jax.systems.msao import parts
from m3jax.testing import tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = msao.Config(
    sizes=tiny.sizes(),
    num_image_tokens=4,
    num_audio_tokens=2,
    relevance_dim=4,
    retention=1.0,
    relevance_threshold=0.0,
)


@pytest.fixture(scope="module")
def case():
    batch = tiny.make_batch()
    system = CONFIG.make_system()
    params = jax.jit(system.init)(jax.random.key(1), batch)
    return params, batch


def _answer(config, params, batch):
    return jax.jit(config.make_system().predict["answer"])(params, batch, None)


def test_with_all_kept_it_answers_as_the_generalist_does(case):
    params, batch = case
    whole = generalist.Config(
        sizes=tiny.sizes(), num_image_tokens=4, num_audio_tokens=2
    ).make_system()
    expected = jax.jit(whole.predict["answer"])(params, batch, None)
    found = _answer(CONFIG, params, batch)
    np.testing.assert_allclose(found["nll"], expected["nll"], atol=1e-5)
    np.testing.assert_array_equal(found["sent_tokens"], 6.0)


def test_its_gradient_is_the_generalists_too(case):
    params, batch = case
    whole = generalist.Config(
        sizes=tiny.sizes(), num_image_tokens=4, num_audio_tokens=2
    ).make_system()
    shared = {
        n: p for n, p in params.items() if n.split("_")[0] in ("image", "audio")
    } | {"decoder": params["decoder"]}

    def gradient(system):
        def loss(shared):
            out = system.predict["answer"]({**params, **shared}, batch, None)
            return jnp.mean(out["nll"])

        return jax.jit(jax.grad(loss))(shared)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        gradient(CONFIG.make_system()),
        gradient(whole),
    )


def test_the_gated_program_of_training_answers_as_the_pruned_one(case):
    """Gates that keep just what the retention keeps, and the modality not left out."""
    params, batch = case
    half = dataclasses.replace(CONFIG, retention=0.5)
    made, system = parts.Parts(half), half.make_system()
    probe = jax.jit(system.predict["probe"])(params, batch, None)
    order = np.argsort(made.order)
    kept = np.asarray(probe["kept"]).reshape(4, -1)
    kept = kept[:, np.argsort(order)].reshape(4, 4, -1)
    assert (kept.all(-1) == kept.any(-1)).all()  # whole windows
    gate = jnp.asarray(kept.all(-1), jnp.float32)
    assert gate.sum(axis=1).tolist() == [2.0] * 4

    def gated(params, batch):
        early = made.early(params, batch)
        image = made.finish(params, "image", early["image"], gate=gate)
        audio = made.finish(params, "audio", early["audio"])
        prefix = jnp.concatenate([image, audio], axis=1)
        return answering.answer_logits(
            made.decoder, params["decoder"], prefix, jnp.ones(prefix.shape[:2], bool),
            batch["question"], batch["answer"],
            gate=jnp.concatenate([gate, jnp.ones(audio.shape[:2])], axis=1),
        )  # fmt: skip

    logits = jax.jit(gated)(params, batch)
    log_probs = jax.nn.log_softmax(logits)
    answer = jnp.asarray(batch["answer"])
    said = jnp.take_along_axis(log_probs, answer[..., None], axis=-1)[..., 0]
    valid = answer != answering.PAD
    nll = -jnp.sum(said * valid, axis=1) / jnp.sum(valid, axis=1)
    found = _answer(half, params, batch)
    np.testing.assert_allclose(found["nll"], nll, atol=1e-5)
    np.testing.assert_array_equal(found["sent_tokens"], 4.0)


def test_pixels_of_what_is_left_out_change_nothing(case):
    """Early features are of single patches here: no stem, no early layer."""
    params, batch = case
    half = dataclasses.replace(CONFIG, retention=0.5, pool=1)
    system = half.make_system()
    probe = jax.jit(system.predict["probe"])
    before = probe(params, batch, None)
    pixels = np.repeat(np.repeat(before["kept"], 4, axis=1), 4, axis=2)[..., None]
    # So little that the choice stays, which is checked.
    moved = np.where(pixels, batch["image"], batch["image"] ^ 1)
    changed = {**batch, "image": moved.astype(np.uint8)}
    np.testing.assert_array_equal(probe(params, changed, None)["kept"], before["kept"])
    assert (moved != batch["image"]).any()
    answer = jax.jit(system.predict["answer"])
    np.testing.assert_allclose(
        answer(params, changed, None)["nll"], answer(params, batch, None)["nll"],
        atol=1e-6,
    )  # fmt: skip


def test_a_modality_that_is_not_needed_is_neither_sent_nor_heard(case):
    params, batch = case
    relevance = jax.tree.map(jnp.zeros_like, params["relevance"])
    relevance["image"]["down"]["bias"] += 1.0
    relevance["audio"]["down"]["bias"] -= 1.0
    deaf = {**params, "relevance": relevance}
    config = dataclasses.replace(CONFIG, relevance_threshold=0.5)
    answer = jax.jit(config.make_system().predict["answer"])
    found = answer(deaf, batch, None)
    np.testing.assert_array_equal(found["sent_tokens"], 4.0)
    louder = {**batch, "audio": 3.0 - batch["audio"]}
    np.testing.assert_allclose(
        answer(deaf, louder, None)["nll"], found["nll"], atol=1e-6
    )
    assert np.abs(answer(params, louder, None)["nll"] - found["nll"]).max() > 1e-4


def test_fewer_windows_in_the_same_shapes(case):
    params, batch = case
    counts = np.array([1, 2, 4, 3], np.int32)
    found = _answer(CONFIG, params, {**batch, "num_windows": counts})
    np.testing.assert_array_equal(found["sent_tokens"], counts + 2.0)
    for row in range(2):
        own = dataclasses.replace(CONFIG, retention=counts[row] / 4)
        one = {name: array[row : row + 1] for name, array in batch.items()}
        expected = _answer(own, params, one)["nll"]
        np.testing.assert_allclose(found["nll"][row], expected[0], atol=1e-5)


def test_what_it_says_word_by_word_is_what_it_scores_highest(case):
    """Positions behind a gap are the same with a cache and without."""
    params, batch = case
    system = dataclasses.replace(CONFIG, retention=0.5).make_system()
    said = jax.jit(system.predict["generate"])(params, batch, None)
    found = system.predict["answer"](params, {**batch, "answer": said}, None)
    spoken = (np.asarray(said) == answering.EOS).any(axis=1)
    accuracy = np.asarray(found["word_accuracy"])
    np.testing.assert_allclose(accuracy[spoken | (said != 0).all(axis=1)], 1.0)


def test_a_budget_that_is_exceeded_lowers_the_gates(case):
    """With answers out of the way the penalty alone moves the head."""
    params, batch = case
    tight = dataclasses.replace(
        CONFIG, budget=0.1, budget_weight=1e3, modality_price=0.0
    ).make_system()
    grad = jax.jit(jax.grad(lambda p: tight.loss(p, batch, jax.random.key(0))[0]))
    assert float(grad(params)["spatial"]["importance"]["bias"][0]) > 0


def test_a_price_lowers_relevance(case):
    params, batch = case
    dear = dataclasses.replace(CONFIG, modality_price=1e3).make_system()
    grad = jax.jit(jax.grad(lambda p: dear.loss(p, batch, jax.random.key(0))[0]))
    found = grad(params)["relevance"]
    assert all(float(found[m]["down"]["bias"][0]) > 0 for m in parts.MODALITIES)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"retention": 0.0}, "system.retention"),
        ({"early_layers": 9}, "system.early_layers"),
        ({"num_image_tokens": 5}, "system.num_image_tokens"),
        ({"budget": 2.0}, "system.budget"),
        ({"modality_price": -1.0}, "system.modality_price"),
        ({"pool": 0}, "system.pool"),
    ],
)
def test_what_makes_no_sense_is_named(wrong, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(CONFIG, **wrong).make_system()
