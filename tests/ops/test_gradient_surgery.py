"""Gradient surgery against geometry by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from m3jax.ops import gradient_surgery

RNG = np.random.default_rng(0)


def make(rows):
    """A pytree whose flattened rows are given, cut into two leaves."""
    rows = np.asarray(rows, np.float32)
    return {"a": jnp.asarray(rows[:, :1]), "b": jnp.asarray(rows[:, 1:, None])}


def flat(tree):
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.reshape(x, (len(x), -1)) for x in leaves], axis=1)


def test_cosines_are_those_of_the_flattened_gradients():
    rows = RNG.normal(size=(3, 5))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(
        gradient_surgery.cosines(make(rows)), unit @ unit.T, atol=1e-6
    )


def test_a_zero_gradient_has_no_angle():
    found = gradient_surgery.cosines(make([[0, 0, 0], [1, 2, 3]]))
    np.testing.assert_allclose(found, [[0, 0], [0, 1]], atol=1e-6)


def test_gradients_that_agree_stay_as_they_are():
    rows = np.array([[1.0, 0.0, 1.0], [0.5, 2.0, 0.0]])
    found = gradient_surgery.project_conflicting(make(rows))
    np.testing.assert_array_equal(flat(found), rows)


def test_what_conflicts_becomes_orthogonal_to_the_other_as_it_was():
    rows = np.array([[1.0, 1.0, 0.0], [-1.0, 0.5, 0.0]])
    found = flat(gradient_surgery.project_conflicting(make(rows)))
    np.testing.assert_allclose(found[0] @ rows[1], 0.0, atol=1e-6)
    np.testing.assert_allclose(found[1] @ rows[0], 0.0, atol=1e-6)
    by_hand = rows[0] - (rows[0] @ rows[1]) / (rows[1] @ rows[1]) * rows[1]
    np.testing.assert_allclose(found[0], by_hand, atol=1e-6)


def test_three_objectives_are_projected_in_turn():
    rows = RNG.normal(size=(3, 4)).astype(np.float32)
    expected = []
    for i in range(3):
        g = rows[i].copy()
        for j in range(3):
            if j != i and g @ rows[j] < 0:
                g -= (g @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
        expected.append(g)
    found = flat(gradient_surgery.project_conflicting(make(rows)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
