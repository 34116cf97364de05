"""m3jax and NumPy choose the same subsets in the benchmark of selection."""

import numpy as np
import pytest

from benchmarks import selection

(TINY,) = selection.WORKLOADS["tiny"]


def test_all_sides_choose_the_same_subsets():
    given = TINY.draw()
    sides = {
        selection.OURS: selection.m3jax_side(*given),
        **selection.numpy_sides(*given),
    }
    expected = sides[selection.NUMPY]()
    assert (expected == 0).any() and len(set(expected.tolist())) > 4
    for name, solve in sides.items():
        selection.check(name, solve(), expected, given[0])


def test_other_subsets_are_seen():
    losses = np.array([np.inf, 1.0, 2.0, 1.0])
    selection.check("mine", np.array([1, 2]), np.array([3, 2]), losses)
    with pytest.raises(RuntimeError, match="mine: in 1 of 2 states"):
        selection.check("mine", np.array([1, 1]), np.array([1, 2]), losses)
