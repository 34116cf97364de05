"""Grids of config fields, and what of a grid is trained again."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax import base
from m3jax.data.edgescenes import dataset
from m3jax.evals import records
from m3jax.experiments import running as experiment
from m3jax.experiments import sweeping as sweeps
from m3jax.systems import tokcom
from m3jax.train import config as train_config
from m3jax.train import metrics, workdir

pytestmark = pytest.mark.usefixtures("quick_compilation")


def make_system(config):
    """One trained number beside TokCom's interface; compiles in no time."""

    def answer(params, batch, key):
        noise = jax.random.normal(key, batch["snr_db"].shape)
        heard = batch["tokens"] + noise * 10 ** (-batch["snr_db"] / 20)
        error = (params["w"] - heard) ** 2
        zeros = jnp.zeros_like(error)
        costs = {"channel_uses": zeros + config.num_reals, "bits": zeros}
        scores = {"answer_accuracy": error < 1, "word_accuracy": zeros, "nll": error}
        return {**scores, **costs}

    def loss(params, batch, key):
        target = batch["answer"][:, 0] + jax.random.normal(key)
        return jnp.mean((params["w"] - target) ** 2), {}

    return base.System(
        init=lambda key, batch: {"w": jax.random.normal(key)},
        loss=loss,
        predict={
            "answer": answer,
            "encode": lambda params, batch, key: batch["answer"][:, 0] * 1.0,
        },
    )


@pytest.fixture(scope="module")
def config(data_dir):
    return experiment.Experiment(
        system=tokcom.Config(num_reals=8),
        data=dataset.Config(config="smoke", data_dir=data_dir),
        train=train_config.TrainConfig(steps=3, batch_size=4, log_every=1),
    )


@pytest.mark.parametrize(
    ("texts", "axes"),
    [
        (["train.seed=0,1,2"], {"train.seed": (0, 1, 2)}),
        (["train.seed=7"], {"train.seed": (7,)}),
        ([" a.b = 1e-3, 2.5 "], {"a.b": (1e-3, 2.5)}),
        (["x=stride,window_pool"], {"x": ("stride", "window_pool")}),
        (["x=True,False", "y='a,b'"], {"x": (True, False), "y": ("a,b",)}),
        (["x=(1.0,2.0),(3.0,4.0)"], {"x": ((1.0, 2.0), (3.0, 4.0))}),
        (["x=None,3"], {"x": (None, 3)}),
        (["x=a=b"], {"x": ("a=b",)}),
    ],
)
def test_axes_are_read_as_typed(texts, axes):
    assert sweeps.parse_over(texts) == axes


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["train.seed"], "malformed; write path=value,value"),
        (["=1,2"], "malformed"),
        (["train.seed="], "malformed"),
        (["a=1", "a=2"], "names 'a' twice"),
        (["a=1,2,1"], "'a=1,2,1' has a value twice"),
    ],
)
def test_malformed_axes_are_refused(texts, told):
    with pytest.raises(ValueError, match=told):
        sweeps.parse_over(texts)


def test_fields_are_set_in_a_copy(config):
    changed = sweeps.with_fields(
        config,
        {
            "train.seed": 5,
            "train.optimizer.learning_rate": 1,  # a whole number where a float stands
            "system.train_snr_db": (0.0, 3.0),
            "system.link.block_length": 7,
            "start": "generalist",
        },
    )
    assert (changed.train.seed, changed.start) == (5, "generalist")
    rate = changed.train.optimizer.learning_rate
    assert rate == 1.0 and isinstance(rate, float)
    assert changed.system.train_snr_db == (0.0, 3.0)
    assert changed.system.link.block_length == 7
    assert config.train.seed == 0 and config.start == ""
    unset = sweeps.with_fields(config, {"system.link.block_length": None})
    assert unset.system.link.block_length is None
    assert config.system.link.block_length == 32


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("train.nope", 1, "no field 'train.nope'; see the fields of TrainConfig"),
        ("nope.seed", 1, "no field 'nope.seed'; see the fields of Experiment"),
        ("train.seed.deep", 1, "no field 'train.seed.deep'"),
        ("train.validate", 1, "no field 'train.validate'"),
        ("system.warm_start", 1, "no field 'system.warm_start'"),
        ("train.seed", None, "train.seed is int 0; it can't be None"),
        ("train.seed", "one", "train.seed is int 0; it can't be 'one'"),
        ("train.seed", 1.5, "train.seed is int 0; it can't be 1.5"),
        ("train.steps", True, "train.steps is int 3; it can't be True"),
        ("train.optimizer.b1", True, "b1 is float 0.9; it can't be True"),
        ("system.snr_conditioning", 1, "is bool True; it can't be 1"),
    ],
)
def test_fields_that_do_not_fit_are_refused(config, path, value, told):
    with pytest.raises(ValueError, match=told):
        sweeps.with_fields(config, {path: value})


@pytest.fixture(scope="module")
def swept(config, tmp_path_factory):
    """A grid of two variants and two seeds: its folder and its records."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "make_system", make_system)
        return folder, run_grid(config, folder)


def run_grid(config, folder):
    return sweeps.run(
        config,
        {"system.num_reals": (8, 16), "train.seed": (0, 1)},
        folder,
        snrs_db=(0.0, 20.0),
        num_seeds=3,
        num_examples=26,
    )


def test_every_point_of_the_grid_is_a_run_of_its_own(swept):
    folder, _ = swept
    names = {f"num_reals={reals},seed={seed}" for reals in (8, 16) for seed in (0, 1)}
    assert {path.name for path in folder.iterdir()} == names
    for name in names:
        made = workdir.load_config(folder / name)
        assert name == f"num_reals={made.system.num_reals},seed={made.train.seed}"
        assert len(metrics.read(folder / name)) == 3
        assert {r.seed for r in records.read(folder / name)} == {0, 1, 2}


def test_records_average_over_noise_and_keep_the_training_seed(swept):
    folder, rows = swept
    picked = records.select(rows, metric="nll", snr_db=0.0, skill=None)
    assert {(r.variant, r.seed) for r in picked} == {
        (f"num_reals={reals}", seed) for reals in (8, 16) for seed in (0, 1)
    }
    for row in picked:
        noisy = records.read(folder / f"{row.variant},seed={row.seed}")
        noisy = records.select(noisy, metric="nll", snr_db=0.0, skill=None)
        np.testing.assert_allclose(row.value, np.mean([r.value for r in noisy]))
    uses = records.select(rows, metric="channel_uses", snr_db=20.0, seed=1, skill=None)
    assert {r.variant: r.value for r in uses} == {"num_reals=8": 8, "num_reals=16": 16}
    floor = {r.variant for r in rows if "snr_db" not in dict(r.at)}
    assert floor == {"question only", "chance"}


def test_what_is_done_is_not_trained_again(config, swept, monkeypatch):
    """One of four runs is lost: it alone is trained, and the records are the same."""
    folder, rows = swept
    (folder / "num_reals=8,seed=1").rename(folder.parent / f"{folder.name}-lost")
    before = {path: path.read_text() for path in folder.glob("*/metrics.jsonl")}
    assert len(before) == 3
    monkeypatch.setattr(experiment, "make_system", make_system)
    again = run_grid(config, folder)
    after = {path: path.read_text() for path in folder.glob("*/metrics.jsonl")}
    assert len(after) == 4
    assert {path: after[path] for path in before} == before
    assert again == rows


def test_a_grid_with_one_bad_point_trains_nothing(config, tmp_path):
    with pytest.raises(ValueError, match="train.steps must be"):
        sweeps.run(
            config, {"train.steps": (3, 0)}, tmp_path, snrs_db=(0.0,), num_seeds=1
        )
    assert not list(tmp_path.iterdir())


def test_the_config_of_a_point_says_what_it_was(swept):
    folder, _ = swept
    text = (folder / "num_reals=16,seed=1" / "config.json").read_text()
    saved = json.loads(text)
    assert (saved["system"]["num_reals"], saved["train"]["seed"]) == (16, 1)
