"""Fields of a config by path, and grids of them as people type them."""

import pytest

from m3jax.data.edgescenes import dataset
from m3jax.experiments import fields, supervised
from m3jax.systems import tokcom
from m3jax.train import config as train_config


@pytest.fixture
def config():
    return supervised.Supervised(
        system=tokcom.Config(num_reals=8),
        data=dataset.Config(config="smoke"),
        train=train_config.TrainConfig(steps=3),
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
    assert fields.parse_over(texts) == axes


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
        fields.parse_over(texts)


def test_fields_are_set_in_a_copy(config):
    changed = fields.replace(
        config,
        {
            "train.seed": 5,
            "learner.optimizer.learning_rate": 1,  # whole, where a float stands
            "system.train_snr_db": (0.0, 3.0),
            "system.link.block_length": 7,
            "start": "generalist",
        },
    )
    assert (changed.train.seed, changed.start) == (5, "generalist")
    rate = fields.get(changed, "learner.optimizer.learning_rate")
    assert rate == 1.0 and isinstance(rate, float)
    assert changed.system.train_snr_db == (0.0, 3.0)
    assert changed.system.link.block_length == 7
    assert config.train.seed == 0 and config.start == ""
    unset = fields.replace(config, {"system.link.block_length": None})
    assert unset.system.link.block_length is None
    assert config.system.link.block_length == 32


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("train.nope", 1, "no field 'train.nope'; see the fields of TrainConfig"),
        ("nope.seed", 1, "no field 'nope.seed'; see the fields of Supervised"),
        ("train.seed.deep", 1, "no field 'train.seed.deep'"),
        ("train.validate", 1, "no field 'train.validate'"),
        ("system.warm_start", 1, "no field 'system.warm_start'"),
        ("train.seed", None, "train.seed is int 0; it can't be None"),
        ("train.seed", "one", "train.seed is int 0; it can't be 'one'"),
        ("train.seed", 1.5, "train.seed is int 0; it can't be 1.5"),
        ("train.steps", True, "train.steps is int 3; it can't be True"),
        ("learner.optimizer.b1", True, "b1 is float 0.9; it can't be True"),
        ("system.snr_conditioning", 1, "is bool True; it can't be 1"),
    ],
)
def test_fields_that_do_not_fit_are_refused(config, path, value, told):
    with pytest.raises(ValueError, match=told):
        fields.replace(config, {path: value})
