"""Starting points are found by name and come back as float32."""

import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.train import cards, pretrained


@pytest.fixture(autouse=True)
def own_models(tmp_path, monkeypatch):
    monkeypatch.setenv("M3JAX_MODELS_DIR", str(tmp_path))


def test_an_export_comes_back_rounded_to_bfloat16(tmp_path):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(16, 8)).astype(np.float32)
    params = {"net": {"kernel": kernel, "table": np.arange(3)}}
    pretrained.export("eye", params, {"command": "make eye", "accuracy": 0.9})

    found, card = pretrained.load("eye")
    assert found["net"]["kernel"].dtype == np.float32
    rounded = kernel.astype(jnp.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(found["net"]["kernel"], rounded)
    np.testing.assert_array_equal(found["net"]["table"], np.arange(3))
    measured = pretrained.as_exported(params)
    np.testing.assert_array_equal(found["net"]["kernel"], measured["net"]["kernel"])
    assert (card["command"], card["accuracy"]) == ("make eye", 0.9)
    assert cards.describe(tmp_path / "eye")["num_bytes"] == 2 * 16 * 8 + 8 * 3


def test_unknown_name_lists_shipped_and_exported():
    pretrained.export("eye", {"a": np.zeros(1)}, {})
    assert {"eye", *pretrained.shipped()} == set(pretrained.names())
    for name in ("ear", "../eye", ""):
        with pytest.raises(FileNotFoundError, match="there are: edge_base, .*, eye"):
            pretrained.load(name)


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "-x", "generalist"])
def test_an_export_takes_no_place_but_its_own(name, tmp_path):
    with pytest.raises(ValueError, match="--export="):
        pretrained.export(name, {"a": np.zeros(1)}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", pretrained.shipped())
def test_every_shipped_starting_point_loads(name):
    params, card = pretrained.load(name)
    assert params
    assert card["tree"]


def test_an_export_replaces_nothing_unasked_and_follows_no_link(tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match="'old' is there already.*give --replace"):
        pretrained.check_name("old", tmp_path, replace=False)
    pretrained.check_name("old", tmp_path, replace=True)
    pretrained.check_name("new", tmp_path, replace=False)
    (tmp_path / "link").symlink_to(tmp_path.parent)
    for name in ("link", "../x", "/etc", "a/b", ".."):
        with pytest.raises(ValueError, match="--export="):
            pretrained.check_name(name, tmp_path)
