"""Pictures of what is kept: what they show, and what they refuse."""

import io

import numpy as np
import pytest

from m3jax.evals import sparsity_plots

IMAGES = np.zeros((2, 8, 8, 3), np.uint8)
IMPORTANCE = np.linspace(0, 1, 32).reshape(2, 4, 4)
KEPT = IMPORTANCE > 0.5


def test_a_column_a_picture_with_its_map_and_a_frame_for_each_kept_patch():
    fig = sparsity_plots.overlays(IMAGES, IMPORTANCE, KEPT, ["one", "two"])
    panels = np.array(fig.axes[:6]).reshape(3, 2)
    assert [ax.get_title() for ax in panels[0]] == ["one", "two"]
    for column in range(2):
        shown = panels[1, column].images[-1].get_array()
        np.testing.assert_array_equal(shown, IMPORTANCE[column])
        assert len(panels[2, column].patches) == KEPT[column].sum()
        dark = panels[2, column].images[-1].get_array()[..., 3] > 0
        np.testing.assert_array_equal(dark, ~KEPT[column])
    fig.savefig(io.BytesIO())


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ((IMAGES[:0], IMPORTANCE[:0], KEPT[:0]), "no picture"),
        ((IMAGES, IMPORTANCE[:1], KEPT), "need importance and kept"),
        ((IMAGES, IMPORTANCE, KEPT, ["one"]), "as many titles"),
    ],
)
def test_what_is_missing_is_named(args, match):
    with pytest.raises(ValueError, match=match):
        sparsity_plots.overlays(*args)
