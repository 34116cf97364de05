"""Parts of a tree are found, taken out and put back by path."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops import paths


def make_tree():
    return {
        "encoder": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)},
        "layers": (jnp.ones(1), jnp.zeros(1)),
        "head": {"kernel": jnp.ones((3, 1))},
    }


def test_examples_run():
    assert doctest.testmod(paths).attempted > 0
    assert doctest.testmod(paths).failed == 0


def test_paths_join_keys_attributes_and_indices():
    assert set(paths.flatten(make_tree())) == {
        "encoder/kernel",
        "encoder/bias",
        "layers/0",
        "layers/1",
        "head/kernel",
    }


@pytest.mark.parametrize(
    ("pattern", "marked"),
    [
        (
            ".*",
            {"encoder/kernel", "encoder/bias", "layers/0", "layers/1", "head/kernel"},
        ),
        (".*kernel", {"encoder/kernel", "head/kernel"}),
        ("encoder/.*|layers/1", {"encoder/kernel", "encoder/bias", "layers/1"}),
    ],
)
def test_mask_marks_whole_matches(pattern, marked):
    found = paths.flatten(paths.mask(make_tree(), pattern))
    assert {path for path, kept in found.items() if kept} == marked


def test_pattern_without_a_match_lists_top_level_paths():
    with pytest.raises(ValueError, match="'kernel' matches no.*encoder, head, layers"):
        paths.mask(make_tree(), "kernel")


def test_pattern_that_is_no_regular_expression_is_named():
    with pytest.raises(ValueError, match=r"'\(' is not a regular expression"):
        paths.mask(make_tree(), "(")


def test_merge_undoes_select():
    tree = make_tree()
    keep = paths.mask(tree, "encoder/.*")
    part = paths.select(tree, keep)
    assert len(jax.tree.leaves(part)) == 2
    merged = paths.merge(part, tree)
    assert jax.tree.structure(merged) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, merged, tree)


def test_overlay_replaces_what_is_given_and_keeps_dtypes():
    over = {"encoder": {"bias": np.arange(3, dtype=np.float64)}}
    tree = paths.overlay(make_tree(), over)
    np.testing.assert_array_equal(tree["encoder"]["bias"], [0, 1, 2])
    assert tree["encoder"]["bias"].dtype == jnp.float32
    np.testing.assert_array_equal(tree["encoder"]["kernel"], np.ones((2, 3)))


@pytest.mark.parametrize(
    ("over", "complaint"),
    [
        ({"decoder": {"bias": np.zeros(3)}}, "'decoder/bias' is not a path"),
        ({"encoder": {"bias": np.zeros(4)}}, r"shape \(4,\).*wants \(3,\)"),
    ],
)
def test_overlay_that_does_not_fit_is_named(over, complaint):
    with pytest.raises(ValueError, match=complaint):
        paths.overlay(make_tree(), over)
