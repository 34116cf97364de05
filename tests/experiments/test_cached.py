"""A cache of features is what the encoders make, and is found again by what made it."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset
from m3jax.experiments import cached, running, supervised
from m3jax.foundation import generalist
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import lora
from m3jax.systems import tokcom
from m3jax.train import config as train_config

SIZES = sizes_lib.Sizes(
    decoder=sizes_lib.DecoderSizes(dim=8, ff_dim=8, depth=1),
    image=sizes_lib.image(depth=1, stem=(), mlp_dim=8),
    audio=sizes_lib.audio(depth=1, mlp_dim=8),
)
CONFIG = tokcom.Config(sizes=SIZES, num_reals=4, receiver_dim=8)


@pytest.fixture(scope="module")
def made(data_dir):
    system = tokcom.make_system(CONFIG)
    params = jax.jit(system.init)(jax.random.key(0), {})
    return system, params, dataset.Config(config="smoke", data_dir=data_dir)


def load(made, params=None, limit=24):
    system, first, data = made
    return cached.load(
        system,
        first if params is None else params,
        data,
        "validation",
        ("question", "skill", "image_caption"),
        limit=limit,
        show_progress=False,
    )


def test_it_holds_what_the_encoders_make(made):
    system, params, data = made
    found = load(made)
    arrays = pipeline.as_arrays(data.source("validation"), 24)
    encoded = jax.jit(lambda b: system.predict["encode"](params, b, None))(arrays)
    assert set(found["tokens"]) == {"image", "audio"}
    for name, tokens in found["tokens"].items():
        assert tokens.dtype == np.float16
        np.testing.assert_allclose(tokens, encoded[name], rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(found["question"], arrays["question"])
    assert found["image_caption"].shape == (24, 24)


def test_the_encoders_run_once_and_again_only_if_something_changed(made, monkeypatch):
    load(made)
    calls = []
    really = cached._prepared
    monkeypatch.setattr(
        cached, "_prepared", lambda *args: calls.append(1) or really(*args)
    )
    load(made)
    assert not calls
    system, params, _ = made
    other = jax.tree.map(lambda leaf: leaf + 0.1, params["audio_encoder"])
    load(made, {**params, "audio_encoder": other})
    load(made, limit=12)
    assert len(calls) == 2
    load(made, {**params, "decoder": {}})
    assert len(calls) == 2, "the decoder does not matter"
    decoder = dataclasses.replace(SIZES.decoder, num_heads=2)
    sizes = dataclasses.replace(SIZES, decoder=decoder)
    heads = tokcom.make_system(dataclasses.replace(CONFIG, sizes=sizes))
    load((heads, params, made[2]))
    assert len(calls) == 3, "the same parameters, read by other heads"


def test_a_full_disk_leaves_no_half_cache(made, monkeypatch, tmp_path):
    system, params, data = made

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cached.np, "save", full)
    with pytest.raises(
        OSError, match="the cache of features .No space left on device.; make room"
    ):
        load(made, limit=7)
    monkeypatch.undo()
    assert len(load(made, limit=7)["question"]) == 7


def test_adapters_of_the_decoder_do_not_hinder(made, monkeypatch, tmp_path):
    _, params, data = made
    started_from(monkeypatch, params)
    system = dataclasses.replace(CONFIG, lora=lora.LoraConfig(rank=2))
    config = make_experiment(data, system=system, learner=trains("lora"))
    assert int(running.train(config, tmp_path / "run").step) == 2
    everywhere = lora.LoraConfig(rank=2, pattern=".*/kernel")
    config.system = dataclasses.replace(CONFIG, lora=everywhere)
    with pytest.raises(ValueError, match="lora/.*_encoder.* trains"):
        running.train(config, tmp_path / "other")


def trains(pattern):
    return train_config.LearnerConfig(batch_size=4, trainable=pattern)


def make_experiment(data, **changes):
    settings = {
        "system": CONFIG,
        "data": data,
        "train": train_config.TrainConfig(steps=2, log_every=1),
        "learner": trains("transceiver"),
        "start": "generalist",
        "cache": True,
    }
    return supervised.Supervised(**(settings | changes))


def started_from(monkeypatch, params):
    """Puts parameters in the place of those that a start gives."""
    monkeypatch.setattr(supervised.Supervised, "_warm_start", lambda self, own: params)


def test_training_reads_the_cache_in_place_of_pictures(made, monkeypatch, tmp_path):
    system, params, data = made
    started_from(monkeypatch, params)
    seen = []
    really = cached.pipeline.batches

    def watched(source, **options):
        seen.append(set(source[0]))
        return really(source, **options)

    monkeypatch.setattr(cached.pipeline, "batches", watched)
    state = running.train(make_experiment(data), tmp_path / "run")
    assert int(state.step) == 2
    assert "tokens" in seen[0] and not {"image", "audio"} & seen[0]
    before, after = params["image_encoder"], state.params["image_encoder"]
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_encoders_that_train_are_not_cached(made, monkeypatch, tmp_path):
    _, params, data = made
    started_from(monkeypatch, params)
    config = make_experiment(data, learner=trains(".*"))
    with pytest.raises(ValueError, match="_encoder.* trains; set learner.trainable"):
        running.train(config, tmp_path / "run")


def test_a_cache_needs_parameters_to_start_from(made):
    with pytest.raises(ValueError, match="cache needs parameters to start from"):
        make_experiment(made[2], start="").validate()


def test_a_cache_needs_something_to_prepare(made):
    system = generalist.Config(sizes=SIZES)
    with pytest.raises(ValueError, match="generalist prepares nothing"):
        make_experiment(made[2], system=system).validate()


def test_what_preparation_touches_is_told_by_its_program(made):
    system, params, data = made
    touched = cached.touched(system, params, data)
    assert touched and all("_encoder/" in path for path in touched)


def flip(path):
    changed = bytearray(path.read_bytes())
    changed[-3] ^= 16
    path.write_bytes(bytes(changed))


HURT = {
    "a flipped bit": flip,
    "NaN": lambda path: np.save(path, np.full_like(np.load(path), np.nan)),
    "another shape": lambda path: np.save(path, np.load(path)[:3]),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:99]),
    "gone": lambda path: path.unlink(),
    "no sums": lambda path: (path.parent / "sums.json").unlink(),
    "torn sums": lambda path: (path.parent / "sums.json").write_text("{"),
}


@pytest.mark.parametrize("hurt", HURT)
def test_a_damaged_cache_is_made_anew(made, hurt):
    before = load(made)["tokens"]["image"]
    HURT[hurt](pathlib.Path(before.filename))
    want = np.array(before) if hurt == "no sums" else None
    found = load(made)["tokens"]["image"]
    assert np.isfinite(found).all() and len(found) == 24
    again = load(made)["tokens"]["image"]
    np.testing.assert_array_equal(found, again)
    if want is not None:
        np.testing.assert_array_equal(found, want)
