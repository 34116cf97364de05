"""Tables over all subsets against loops over members."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops import subsets

pytestmark = pytest.mark.usefixtures("quick_compilation")

MASKS = subsets.masks(5)


def test_masks_are_all_subsets_and_numbers_invert():
    expected = {
        chosen for n in range(6) for chosen in itertools.combinations(range(5), n)
    }
    assert {tuple(np.flatnonzero(row)) for row in MASKS} == expected
    index = subsets.index(jnp.asarray(MASKS))
    np.testing.assert_array_equal(index, np.arange(32))
    back = jax.vmap(lambda i: subsets.members(i, 5))(index)
    np.testing.assert_array_equal(back, MASKS)


def test_nested_subsets_are_all_pairs_of_a_subset_and_a_part_of_it():
    pairs = subsets.nested(4, most=4)
    assert len({pair.tobytes() for pair in pairs}) == len(pairs) == 3**4 - 2**4
    assert (pairs[:, 0] >= pairs[:, 1]).all() and pairs.any(-1).all()
    few = subsets.nested(5, most=2)
    assert few[:, 0].sum(-1).max() == 2 and len(few) == 5 + 10 * 3


def test_too_many_members_are_refused():
    with pytest.raises(ValueError, match="0 to 16 members"):
        subsets.masks(17)
    with pytest.raises(ValueError, match="at most 16"):
        subsets.sums(jnp.zeros(17))


def test_sums_and_maxima_are_those_of_a_loop(key):
    values = np.asarray(jax.random.normal(key, (3, 5)))
    sums = [[row[m].sum() for m in MASKS] for row in values]
    np.testing.assert_allclose(subsets.sums(values), sums, rtol=1e-5, atol=1e-6)
    maxima = [[row[m].max(initial=-9.0) for m in MASKS] for row in values]
    np.testing.assert_allclose(subsets.maxima(values, empty=-9.0), maxima)


@pytest.mark.parametrize("num_members", [1, 2, 5])
def test_mean_maxima_are_means_of_maxima(key, num_members):
    samples = jax.random.exponential(key, (2, 7, num_members))
    expected = np.mean(subsets.maxima(samples, empty=0.0), axis=1)
    np.testing.assert_allclose(subsets.mean_maxima(samples), expected, rtol=1e-6)


def test_of_eight_equal_exponential_delays_two_seconds_allow_three(key):
    # E[max] of n of mean 1 s is the harmonic number: 1, 1.5, 1.83, 2.08, ..., 2.72.
    table = subsets.mean_maxima(jax.random.exponential(key, (20_000, 8)))
    sizes = subsets.masks(8).sum(axis=1)
    harmonic = np.append(0.0, np.cumsum(1.0 / np.arange(1, 9)))
    np.testing.assert_allclose(table, harmonic[sizes], atol=0.05)
    assert sizes[np.asarray(table) <= 2.0].max() == 3
    assert (np.asarray(table)[sizes == 3] <= 2.0).all()


def test_maximal_sets_are_those_in_no_other(key):
    costs = np.asarray(jax.random.uniform(key, (5,)))
    family = MASKS @ costs <= 0.6 * costs.sum()
    expected = [
        held
        and not any(
            family[r] and (MASKS[r] > m).any() and (MASKS[r] >= m).all()
            for r in range(32)
        )
        for m, held in zip(MASKS, family, strict=True)
    ]
    np.testing.assert_array_equal(subsets.maximal(family), expected)
    assert not subsets.maximal(np.zeros(32, bool)).any()


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4])
def test_front_is_that_of_a_double_loop(num_objectives):
    rng = np.random.default_rng(num_objectives)
    points = rng.integers(0, 6, (80, num_objectives)).astype(float)  # with equal ones
    points[7, 0] = np.inf
    expected = [
        np.isfinite(p).all()
        and not any((q <= p).all() and (q < p).any() for q in points)
        for p in points
    ]
    np.testing.assert_array_equal(subsets.pareto_front(points), expected)
