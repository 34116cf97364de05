"""Batches filled up to one size."""

import numpy as np
import pytest

from m3jax.evals import padding


def test_smaller_batches_are_filled_up_and_only_their_examples_count():
    batches = [
        {"x": np.arange(4), "y": np.ones((4, 2))},
        {"x": [7, 8], "y": [[1], [2]]},
    ]
    (first, ones), (last, weights) = padding.to_first_size(batches)
    np.testing.assert_array_equal(first["x"], np.arange(4))
    np.testing.assert_array_equal(ones, np.ones(4))
    np.testing.assert_array_equal(weights, [1, 1, 0, 0])
    np.testing.assert_array_equal(last["x"], [7, 8, 8, 8])
    np.testing.assert_array_equal(last["y"], [[1], [2], [2], [2]])


@pytest.mark.parametrize(
    ("batches", "fault"),
    [
        (
            [{"x": np.zeros(2)}, {"x": np.zeros(3)}],
            "3 examples and the first one has 2",
        ),
        ([{"x": np.zeros(2), "y": np.zeros(3)}], "one length"),
        ([{"x": np.zeros(0)}], "one length"),
        ([{"x": np.float32(1.0)}], "one length"),
        ([{}], "one length"),
    ],
)
def test_bad_batches_are_refused(batches, fault):
    with pytest.raises(ValueError, match=fault):
        list(padding.to_first_size(batches))
