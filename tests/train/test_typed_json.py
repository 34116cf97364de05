"""Configs survive JSON; JSON stays strict and whole."""

import dataclasses
import doctest
import json
import math

import numpy as np
import pytest

from m3jax.channels import links
from m3jax.train import config, optimizers, typed_json


@dataclasses.dataclass(frozen=True)
class Inner:
    snr_db: float | None = None
    size: int = 3


@dataclasses.dataclass
class Outer:
    name: str = "inf"
    range_db: tuple[float, float] = (-math.inf, 20.0)
    grid: tuple[tuple[int, ...], ...] = ((1, 2), ())
    inner: Inner | None = None
    parts: tuple[Inner, ...] = ()
    weights: dict[str, float] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    "value",
    [
        config.TrainConfig(),
        config.LearnerConfig(
            batch_size=3, optimizer=optimizers.OptimizerConfig(clip_norm=math.inf)
        ),
        Outer(),
        Outer(inner=Inner(snr_db=math.inf), parts=(Inner(), Inner(size=4))),
        Outer(inner=Inner(snr_db=-1.5), weights={"a": 0.5}),
    ],
)
def test_config_comes_back_equal(value):
    text = typed_json.dumps(typed_json.to_json(value))
    back = typed_json.from_json(json.loads(text, parse_constant=pytest.fail))
    assert back == value
    assert type(back) is type(value)


def test_examples_run():
    assert doctest.testmod(typed_json).attempted > 0
    assert doctest.testmod(typed_json).failed == 0


def test_unknown_field_is_named_with_those_there_are():
    value = typed_json.to_json(config.TrainConfig()) | {"stpes": 4}
    with pytest.raises(ValueError, match="has no field stpes; it has .*steps"):
        typed_json.from_json(value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("os:system", "give --package=os"),
        ("never.imported:Config", "give --package=never"),
        ("m3jaxx.train.config:TrainConfig", "give --package=m3jaxx"),
        ("m3jax.train.checkpoints:ocp.CheckpointManagerOptions", "not a dataclass"),
        ("m3jax.train.config:optimizers.OptimizerConfig", "not a dataclass"),
        ("orbax.checkpoint:CheckpointManagerOptions", "give --package=orbax"),
        ("m3jax.train.config:dataclasses.Field", "not a dataclass"),
        ("m3jax.experiment:Experiment", "older version is restored by that version"),
        ("m3jax.train.config:NoConfig", "not in this version"),
        ("m3jax.train.nothing:NoConfig", "not in this version"),
        ("m3jax.train.loop:fit", "not a dataclass"),
    ],
)
def test_a_file_never_decides_which_code_is_loaded(name, complaint):
    with pytest.raises(ValueError, match=complaint):
        typed_json.from_json({"type": name})


def test_a_type_that_could_not_be_found_again_is_refused(monkeypatch):
    monkeypatch.setattr(Inner, "__module__", "elsewhere.configs")
    with pytest.raises(ValueError, match="'elsewhere.configs' can't be found again"):
        typed_json.to_json(Outer(inner=Inner()))


def test_the_shortest_public_name_is_stored():
    stored = typed_json.to_json(links.LinkConfig())
    assert stored["type"] == "m3jax.channels.links:LinkConfig"


def test_a_trusted_package_may_be_imported(tmp_path, monkeypatch):
    package = tmp_path / "trusted_one"
    package.mkdir()
    (package / "__init__.py").write_text("")
    source = (
        "import dataclasses\n@dataclasses.dataclass\nclass Config:\n  size: int = 1\n"
    )
    (package / "system.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    value = {"type": "trusted_one.system:Config", "size": 5}
    with pytest.raises(ValueError, match="give --package=trusted_one"):
        typed_json.from_json(value)
    typed_json.trust("trusted_one")
    assert typed_json.from_json(value).size == 5
    with pytest.raises(ValueError, match="--package='nobody_has_this'"):
        typed_json.trust("nobody_has_this")


def test_list_in_a_config_is_refused_as_it_would_not_come_back():
    with pytest.raises(ValueError, match="tuples, not lists"):
        typed_json.to_json(Outer(grid=[1, 2]))


def test_numpy_and_non_finite_values_become_strict_json():
    value = {"a": np.float32(0.5), "b": np.arange(2), "c": [math.nan, -math.inf]}
    text = typed_json.dumps(value)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": 0.5,
        "b": [0, 1],
        "c": ["nan", "-inf"],
    }


def test_what_json_has_no_place_for_is_named():
    with pytest.raises(ValueError, match="set has no place in JSON"):
        typed_json.dumps({"a": {1}})
    with pytest.raises(ValueError, match="keys are strings"):
        typed_json.dumps({1: 2})


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "config.json"
    typed_json.write(path, {"a": 1})
    with pytest.raises(ValueError, match="no place in JSON"):
        typed_json.write(path, {"a": object()})
    assert typed_json.read(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_file_cut_short_is_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a": ')
    with pytest.raises(ValueError, match="config.json is not whole JSON"):
        typed_json.read(path)


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a.b: [1, 2] and [1, 3]"),
        ({"a": 1}, {"a": 1, "c": 2}, "c: nothing and 2"),
    ],
)
def test_first_difference_is_named_by_its_path(first, second, found):
    assert typed_json.first_difference(first, second) == found
