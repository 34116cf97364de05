"""The generalist's loss: answers, and naming what patches show and what is heard."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.foundation import answering
from m3jax.foundation import generalist as generalist_lib
from m3jax.testing import tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")

BATCH = tiny.make_batch()
CONFIG = generalist_lib.Config(
    sizes=tiny.sizes(),
    num_image_tokens=4,
    num_audio_tokens=2,
    patch_weight=0.5,
    sound_weight=0.25,
    patch_words=((0, 3, 4, 5), (0, 6, 7, 8)),
    sound_words=((3, 4, 5), (6, 7, 8), (9, 10, 11)),
)


@pytest.fixture(scope="module")
def params():
    """Random parameters, drawn by NumPy so that nothing is compiled."""
    rng = np.random.default_rng(0)
    system = generalist_lib.make_system(CONFIG)
    shapes = jax.eval_shape(system.init, jax.random.key(0), BATCH)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) * 0.5, shapes
    )


def test_the_loss_is_the_weighted_sum_and_agrees_with_the_predictions(params):
    system = generalist_lib.make_system(CONFIG)

    @jax.jit
    def both(params, batch):
        return system.loss(params, batch, None), system.predict["answer"](
            params, batch, None
        )

    (loss, metrics), scores = both(params, BATCH)
    parts = [metrics[f"{name}_loss"] for name in ("answer", "patch", "sound")]
    np.testing.assert_allclose(loss, np.dot(parts, [1, 0.5, 0.25]), rtol=1e-5)
    assert all(part > 0 for part in parts)
    np.testing.assert_allclose(metrics["answer_loss"], scores["nll"].mean(), rtol=1e-5)
    right = scores["answer_accuracy"]
    np.testing.assert_allclose(metrics["answer_accuracy"], right.mean())


def test_naming_is_free_at_the_right_word_and_costs_a_guess_where_nothing_is_known():
    words = 20 * jnp.eye(5, 8)
    labels = jnp.array([[0, 3, 4]])
    decoder = {"embedder": {"embedding": words}}

    def loss(tokens):
        return answering.naming_loss(decoder, tokens, [range(5)], [labels])

    known, wrong = loss(words[labels]), loss(words[(labels + 1) % 5])
    unknown = loss(jnp.zeros((1, 3, 8)))
    assert known < 1e-6
    assert wrong > 50
    np.testing.assert_allclose(unknown, np.log(5), rtol=1e-6)


@pytest.mark.parametrize("field", ["patch_words", "sound_words"])
def test_without_words_to_name_by_there_is_no_loss(params, field):
    config = dataclasses.replace(CONFIG, **{field: ()})
    system = generalist_lib.make_system(config)
    with pytest.raises(ValueError, match="labels need as many sets of words"):
        jax.eval_shape(system.loss, params, BATCH, None)
