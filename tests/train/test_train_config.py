"""The config takes overrides from the command line and names what makes no sense."""

import sys

import pytest
from absl import flags
from ml_collections import config_flags

from m3jax.train import config


@pytest.fixture
def parse(monkeypatch):
    """Parses command-line overrides of a LearnerConfig, as launchers do."""

    def parse(*overrides):
        arguments = ["program", *overrides]
        monkeypatch.setattr(sys, "argv", arguments)
        values = flags.FlagValues()
        config_flags.DEFINE_config_dataclass(
            "config", config.LearnerConfig(), flag_values=values
        )
        values(arguments)
        return values.config

    return parse


def test_overrides_reach_nested_fields(parse):
    got = parse("--config.batch_size=5", "--config.optimizer.learning_rate=0.25")
    assert (got.batch_size, got.optimizer.learning_rate) == (5, 0.25)
    got.validate()


@pytest.mark.parametrize(
    "override", ["batch_size=many", "optimizer.learning_rate=fast"]
)
def test_ill_typed_override_is_refused(parse, override):
    with pytest.raises((flags.IllegalFlagValueError, ValueError)):
        parse(f"--config.{override}")


def test_unknown_override_is_refused(parse):
    with pytest.raises((KeyError, flags.Error), match="learnin_rate"):
        parse("--config.optimizer.learnin_rate=1.0")


@pytest.mark.parametrize(
    "field",
    [
        {"steps": 0},
        {"log_every": 0},
        {"checkpoint_every": 0},
        {"evaluate_every": -1},
        {"keep": 0},
        {"seed": -1},
        {"steps": 1.5},
    ],
)
def test_senseless_field_is_named(field):
    with pytest.raises(ValueError, match=f"train.{next(iter(field))} must be"):
        config.TrainConfig(**field).validate()


def test_a_seed_that_no_key_can_hold_is_named():
    with pytest.raises(ValueError, match="train.seed is .*below 2"):
        config.TrainConfig(seed=10**30).validate()


def test_a_senseless_learner_is_named():
    with pytest.raises(ValueError, match="learner.batch_size must be"):
        config.LearnerConfig(batch_size=-1).validate()


def test_default_configs_are_sensible():
    config.TrainConfig().validate()
    config.LearnerConfig().validate()
