"""The exit of a generalist as a system: what it starts from, learns and gives."""

import dataclasses

import jax
import numpy as np
import pytest

from m3jax.foundation import early_exit, generalist
from m3jax.testing import tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")

BATCH = tiny.make_batch()
OWN = generalist.Config(sizes=tiny.sizes(), num_image_tokens=4, num_audio_tokens=2)
LAYERS = OWN.sizes.decoder.depth
CONFIG = early_exit.Config(OWN, depth=LAYERS)


@pytest.fixture(scope="module")
def params():
    """Random parameters, drawn by NumPy so that nothing is compiled."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(OWN.make_system().init, jax.random.key(0), BATCH)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) * 0.5, shapes
    )


def test_an_exit_behind_all_layers_starts_as_the_generalist(params):
    """Same scores, no loss, and all words agreed on; the parties read as it does."""
    started = CONFIG.warm_start(params)
    system = CONFIG.make_system()
    loss, metrics = jax.jit(system.loss)(started, BATCH, None)
    found = jax.jit(system.predict["answer"])(started, BATCH, None)
    expected = jax.jit(OWN.make_system().predict["answer"])(params, BATCH, None)
    assert abs(float(loss)) < 1e-5 and float(metrics["agreement"]) == 1.0
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)
    assert (np.asarray(found["agreement"]) == 1.0).all()


def test_another_exit_says_other_things(params):
    started = CONFIG.warm_start(params)
    started["exit"] = jax.tree.map(lambda leaf: leaf[..., ::-1], started["exit"])
    found = jax.jit(CONFIG.make_system().predict["answer"])(started, BATCH, None)
    assert np.mean(found["agreement"]) < 0.7


def test_a_start_that_has_an_exit_is_kept(params):
    started = CONFIG.warm_start(params)
    assert set(started) == {*params, "exit"}
    assert set(started["exit"]) == {"final_norm", "head"}
    assert CONFIG.warm_start(started) is started


@pytest.mark.parametrize("depth", [0, LAYERS + 1])
def test_a_layer_that_there_is_not_has_no_exit(depth):
    with pytest.raises(ValueError, match=f"system.depth is {depth}; the generalist"):
        dataclasses.replace(CONFIG, depth=depth).validate()
