"""Runs of a router: kept, resumed bit for bit, restored; and the published sizes."""

import dataclasses
import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from m3jax import routing
from m3jax.systems.m3llm import ce_sac, playing
from m3jax.train import loop

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "m3llm.py"

pytestmark = pytest.mark.usefixtures("quick_compilation")


def get_config(variant):
    spec = importlib.util.spec_from_file_location("m3llm_config", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


@pytest.mark.slow
def test_a_run_that_was_broken_off_ends_like_an_unbroken_one(tmp_path, monkeypatch):
    config = get_config("smoke")
    whole = routing.train(config, tmp_path / "whole", show_progress=False)
    fit = loop.fit

    def half(learner, batches, settings, **kwargs):
        """Stops after two steps as a crash would, with their checkpoint on disk."""
        return fit(learner, batches, dataclasses.replace(settings, steps=2), **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "fit", half)
        routing.train(config, tmp_path / "parts", show_progress=False)
    parts = routing.train(config, tmp_path / "parts", resume=True, show_progress=False)
    assert int(parts.step) == config.train.steps
    jax.tree.map(np.testing.assert_array_equal, parts, whole)

    router = routing.restore(tmp_path / "parts")
    player = playing.make_player(router.env, router.act, 2, 3)
    played = player(router.actor, router.params, jax.random.key(0))
    np.testing.assert_allclose(played.weights.sum(-1), 1.0, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, router.actor, whole.params["actor"])


def test_one_chunk_of_the_published_sizes_runs():
    config = get_config("paper")
    sac = config.router.sac
    assert (sac.discount, sac.learning_rate) == (0.99, 7e-4)
    assert config.router.last_temperature == 0.1
    # A thousand steps take their time; two are enough to see that all fits.
    sac.chunk, sac.capacity, sac.warmup = 2, 64, 8
    config.world.num_examples = 2
    env, params = routing.experiment.make_routing(config)
    space = env.observation_space(params)
    assert space["observation"].shape == (1852,)
    assert env.action_space(params).shape == (2, 7)
    learner = ce_sac.make_learner(config.router, env, params)

    def chunk(key):
        return learner.step(learner.init(key), (), key)

    state, metrics = jax.jit(chunk)(jax.random.key(0))
    assert state.extra.replay.items.obs["observation"].shape == (64, 1852)
    assert np.isfinite(list(map(float, metrics.values()))).all()
