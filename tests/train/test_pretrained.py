"""Starting points are found by name and come back as float32."""

import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.train import cards, pretrained


def test_saved_starting_point_comes_back_rounded_to_bfloat16(tmp_path):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(16, 8)).astype(np.float32)
    params = {"net": {"kernel": kernel, "table": np.arange(3)}}
    pretrained.save(tmp_path / "eye", params, {"command": "make eye", "accuracy": 0.9})

    found, card = pretrained.load("eye", tmp_path)
    assert found["net"]["kernel"].dtype == np.float32
    rounded = kernel.astype(jnp.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(found["net"]["kernel"], rounded)
    np.testing.assert_array_equal(found["net"]["table"], np.arange(3))
    assert (card["command"], card["accuracy"]) == ("make eye", 0.9)
    assert cards.describe(tmp_path / "eye")["num_bytes"] == 2 * 16 * 8 + 8 * 3


def test_unknown_name_lists_those_there_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="'ear'; there are: none"):
        pretrained.load("ear", tmp_path)
    for name in ("eye", "mouth"):
        pretrained.save(tmp_path / name, {"a": np.zeros(1)}, {})
    assert pretrained.names(tmp_path) == ["eye", "mouth"]
    with pytest.raises(FileNotFoundError, match="'ear'; there are: eye, mouth"):
        pretrained.load("ear", tmp_path)


@pytest.mark.parametrize("name", pretrained.names())
def test_every_shipped_starting_point_loads(name):
    params, card = pretrained.load(name)
    assert params
    assert card["tree"]
