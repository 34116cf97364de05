"""Weights: masks, the product of two heads, and enumerations against itertools."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.data.edgescenes import scenes
from m3jax.envs.expert_routing import routing, tasks

pytestmark = pytest.mark.usefixtures("quick_compilation")

ALL = np.ones(4, bool)


def test_weights_of_failed_experts_go_to_the_others_in_proportion():
    live = np.array([True, False, True, True])
    w = routing.normalise(np.array([0.1, 0.6, 0.3, 0.0], np.float32), live)
    np.testing.assert_allclose(w, [0.25, 0, 0.75, 0], rtol=1e-6)


def test_without_any_valid_weight_all_live_experts_are_used():
    live = np.array([False, True, True, False])
    for given in ([1.0, 0, 0, 0], [0.0] * 4, [-1.0] * 4):
        w = routing.normalise(np.array(given, np.float32), live)
        np.testing.assert_allclose(w, [0, 0.5, 0.5, 0])


def test_the_product_in_logarithms_is_the_normalised_product(key):
    a, b = jax.random.dirichlet(key, jnp.ones(4), (2,))
    live = np.array([True, True, False, True])
    product = np.asarray(a * b) * live
    np.testing.assert_allclose(
        routing.combine(a, b, live), product / product.sum(), rtol=1e-4
    )


def test_heads_that_disagree_share_where_the_printed_product_vanishes():
    first, second = np.eye(4, dtype=np.float32)[:2]
    joined = routing.combine(first, second, ALL)
    np.testing.assert_allclose(joined, [0.5, 0.5, 0, 0], atol=1e-6)
    assert float(routing.literal_product(first, second, ALL).sum()) == 0.0


def test_the_printed_product_loses_mass_to_epsilon():
    tiny = np.full(4, 1e-3, np.float32)
    total = float(routing.literal_product(tiny, tiny, ALL).sum())
    assert total == pytest.approx(4e-6 / 5e-6, rel=1e-4)


def test_actions_are_all_nonempty_subsets():
    rows = routing.subset_actions(4)
    assert rows.shape == (15, 4) and rows.any(axis=1).all()


def test_too_many_experts_for_subsets_are_refused():
    with pytest.raises(ValueError, match="actions='weights'"):
        routing.subset_actions(13)


def test_shares_are_all_compositions():
    rows = routing.shares(3, 5)
    assert len(rows) == len(set(map(tuple, rows))) == math.comb(7, 2)
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, rtol=1e-6)


def test_specialists_are_those_of_edgescenes():
    given = tasks.specialists()
    assert tasks.EXPERTS == scenes.EXPERTS
    for task, skill in enumerate(scenes.EXPERTS):
        truth = scenes._truth(skill)
        np.testing.assert_array_equal(given.core[task], truth["core_experts"])
        np.testing.assert_array_equal(
            given.irrelevant[task], truth["irrelevant_experts"]
        )


@pytest.mark.parametrize(
    ("core", "irrelevant", "competence", "message"),
    [
        (np.eye(2), np.eye(2), None, "both core and irrelevant"),
        (np.eye(2), np.zeros((2, 3)), None, "one shape"),
        (np.eye(2), np.zeros((2, 2)), np.full((2, 2), 1.1), "probabilities"),
    ],
)
def test_tasks_that_make_no_sense_are_refused(core, irrelevant, competence, message):
    with pytest.raises(ValueError, match=message):
        tasks.make_tasks(core, irrelevant, competence)
