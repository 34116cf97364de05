"""Sets of experts: means of maxima, sums, and what keeps a budget."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.costs import budgets, grids, responses, servers
from m3jax.ops import subsets

pytestmark = pytest.mark.usefixtures("quick_compilation")

N = 8
MASKS = subsets.masks(N)
SIZES = MASKS.sum(axis=1)


@pytest.fixture(scope="module")
def drawn():
    workload = responses.Workload()
    draw = jax.jit(lambda key: responses.draw(key, servers.TABLE_I, workload, 4000))
    return draw(jax.random.key(0))


def _responses(delays, energies, **fields):
    """Responses of one phase's delays ``[K, N]``."""
    delays = jnp.asarray(delays, jnp.float32)
    given = {
        "delays_s": jnp.stack([delays, jnp.zeros_like(delays)], axis=1),
        "energies_j": jnp.broadcast_to(jnp.asarray(energies), delays.shape),
        "answer_tokens": jnp.ones(len(delays)),
        "application": jnp.zeros(len(delays), jnp.int32),
        "gate_s": jnp.zeros(()),
    }
    return responses.Responses(**(given | fields))


def test_of_eight_exponential_delays_three_fit_two_seconds(key):
    delays = jax.random.exponential(key, (20_000, N))
    found = budgets.expected_max(delays)
    harmonic = np.cumsum(1 / np.arange(1, N + 1))
    np.testing.assert_allclose(found[1:], harmonic[SIZES[1:] - 1], rtol=0.02)
    fits = budgets.feasible(_responses(delays, np.ones(N)), budgets.Budget(tau_s=2.0))
    # Each passes alone and no four pass together: 1 + 1/2 + 1/3 + 1/4 = 2.083.
    np.testing.assert_array_equal(fits.within, SIZES <= 3)


def test_certain_delays_are_a_plain_maximum_and_a_knapsack():
    delays, energies = np.array([1.0, 4.0, 2.0]), np.array([7.0, 1.0, 5.0])
    given = _responses(delays[None], energies)
    masks = subsets.masks(3)
    found = budgets.feasible(given, budgets.Budget(tau_s=3.0, energy_j=9.0))
    maxima = [max(delays[row], default=0.0) for row in masks]
    sums = [energies[row].sum() for row in masks]
    np.testing.assert_allclose(found.spent, np.stack([maxima, sums], axis=1))
    expected = (np.array(maxima) <= 3.0) & (np.array(sums) <= 9.0)
    np.testing.assert_array_equal(found.within, expected)


def test_the_lattice_is_the_plain_maximum_of_every_set(drawn):
    by_lattice = budgets.expected_max(drawn.delays_s)
    delays = np.asarray(drawn.delays_s)
    plain = [np.where(row, delays, 0.0).max(axis=2).sum(axis=1).mean() for row in MASKS]
    np.testing.assert_allclose(by_lattice, plain, rtol=1e-5)
    few = drawn._replace(delays_s=drawn.delays_s[:100])
    found = responses.set_delays(few, MASKS).mean(axis=1)
    np.testing.assert_allclose(found, budgets.expected_max(few.delays_s), rtol=1e-5)
    by_masks = budgets.expected_max(drawn.delays_s, MASKS)
    np.testing.assert_allclose(by_lattice, by_masks, rtol=1e-5)
    samples = responses.phases_as_samples(drawn)
    np.testing.assert_allclose(by_lattice, subsets.mean_maxima(samples), rtol=1e-5)
    sums = budgets.expected_sum(drawn.energies_j)
    means = np.asarray(drawn.energies_j).mean(axis=0)
    np.testing.assert_allclose(sums, MASKS @ means, rtol=1e-5)
    np.testing.assert_allclose(
        sums, budgets.expected_sum(drawn.energies_j, MASKS), rtol=1e-5
    )


def test_chunks_change_nothing(drawn, monkeypatch):
    whole = budgets.expected_max(drawn.delays_s[:101])
    monkeypatch.setattr(budgets, "_ENTRIES", 2**N * 7)
    np.testing.assert_allclose(
        budgets.expected_max(drawn.delays_s[:101]), whole, rtol=1e-5
    )


def test_a_larger_set_is_no_faster_and_no_set_is_faster_than_its_slowest(drawn):
    found = np.asarray(budgets.expected_max(drawn.delays_s))
    for n in range(N):
        without = np.flatnonzero(~MASKS[:, n])
        assert (found[without | 1 << n] >= found[without] - 1e-6).all()
    alone = np.asarray(drawn.total_s).mean(axis=0)
    slowest = np.where(MASKS, alone, 0.0).max(axis=1)
    assert (found >= slowest - 1e-5).all()
    assert found[-1] > slowest[-1] + 0.5  # E[max] is not max E


def test_a_limit_of_its_own_holds_for_each_application():
    given = _responses(
        [[1.0, 2.0], [1.0, 2.0], [5.0, 3.0]],
        [1.0, 1.0],
        application=jnp.array([0, 0, 1]),
    )
    budget = budgets.Budget(taus_s=(1.5, 6.0), energy_j=10.0)
    found = budgets.feasible(given, budget)
    assert budget.names == (
        "delay of application 0",
        "delay of application 1",
        "energy",
    )
    expected = [[0, 0, 0], [1, 5, 1], [2, 3, 1], [2, 5, 2]]
    np.testing.assert_allclose(found.spent, expected, rtol=1e-6)
    assert found.within.tolist() == [True, True, False, False]
    assert found.explain(budget, 2) == "delay of application 0: 2 s of 1.5 s, over"
    assert found.explain(budget, 1) == "delay of application 1: 5 s of 6 s, within"
    samples = responses.phases_as_samples(given, 2)
    tables = [subsets.mean_maxima(own) for own in samples]
    np.testing.assert_allclose(np.stack(tables, axis=1), found.spent[:, :2], rtol=1e-6)


def test_the_energy_binds_where_it_is_what_is_overdrawn(drawn):
    budget = budgets.Budget(tau_s=3.0, energy_j=10.0)
    found = budgets.feasible(drawn, budget, MASKS[-1:])
    assert budget.names[int(found.binding[0])] == "energy"
    assert found.explain(budget, 0).endswith("J of 10 J, over")
    nothing = budgets.Budget()
    assert nothing.is_open and not budget.is_open
    assert not budgets.Budget(taus_s=(1.0,)).is_open
    open_to_all = budgets.feasible(drawn, nothing)
    assert open_to_all.within.all()
    assert open_to_all.explain(nothing, 0) == "nothing is limited"


def test_per_token_is_the_mean_over_tokens_and_the_gate_once(drawn):
    per_token = drawn.per("token")
    gate, count = float(drawn.gate_s), np.asarray(drawn.answer_tokens)
    everyone = np.ones(N, bool)
    whole = np.asarray(responses.set_delays(drawn, everyone))
    found = responses.set_delays(per_token, everyone)
    np.testing.assert_allclose(found, (whole - gate) / count + gate, rtol=1e-4)
    joules = np.asarray(drawn.energies_j) / count[:, None]
    np.testing.assert_allclose(per_token.energies_j, joules, rtol=1e-6)


# What fits (1, 2, 3) s by (5, 10, 15, 20, 25, 35, 50) J: the grid must bind.
LARGEST = [[1, 2, 2, 2, 2, 2, 2], [1, 3, 4, 4, 5, 5, 6], [1, 3, 4, 5, 6, 6, 8]]


def test_the_papers_budgets_go_from_one_expert_to_all(drawn):
    points = grids.tabulate(drawn)
    assert [(p.tau_s, p.energy_j) for p in points] == [
        (tau_s, energy_j) for tau_s in grids.TAUS_S for energy_j in grids.ENERGIES_J
    ]
    largest = np.array([point.largest for point in points]).reshape(3, 7)
    assert np.abs(largest - LARGEST).max() <= 1
    assert largest[0, 0] == 1 and largest[-1, -1] == N
    assert (np.diff(largest) >= 0).all() and (np.diff(largest, axis=0) >= 0).all()
    counts = np.array([point.num_maximal for point in points])
    assert counts.min() == 1 and counts.max() >= 20
    # Both limits bind: more of either lets more in.
    assert largest[0, -1] < largest[1, -1] < largest[2, -1]
    # What fits is what the tables of ops.subsets say.
    for tau_s, energy_j, num_maximal, _ in points[::5]:
        within = budgets.feasible(drawn, budgets.Budget(tau_s, energy_j)).within
        maximal = np.asarray(subsets.maximal(within))
        assert maximal[1:].sum() == num_maximal


def test_a_table_prints_as_rows_of_delays():
    points = [grids.Point(1.0, 5.0, 2, 1), grids.Point(1.0, 10.0, 3, 2)]
    printed = grids.markdown(points).splitlines()
    assert printed == ["| | 5 J | 10 J |", "|---|---|---|", "| 1 s | 2 / 1 | 3 / 2 |"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: budgets.Budget(tau_s=0.0).validate(), "budget.tau_s is 0.0; give"),
        (
            lambda: budgets.Budget(energy_j=math.nan).validate(),
            "budget.energy_j is nan; give a number above 0",
        ),
        (
            lambda: budgets.Budget(taus_s=(1.0, -1.0)).validate(),
            "budget.taus_s[1] is -1.0; give a number above 0",
        ),
        (
            lambda: budgets.Budget(per="sentence").validate(),
            "budget.per is 'sentence'; choose one of ('response', 'token')",
        ),
        (lambda: budgets.expected_max(np.ones((2, 17))), "17 experts have 2^17 sets"),
        (lambda: budgets.expected_sum(np.ones((2, 17))), "17 experts have 2^17 sets"),
    ],
)
def test_bad_input_is_named_with_its_mend(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)


def test_a_few_of_many_experts_need_no_table():
    delays = np.arange(20.0)[None]
    masks = np.zeros((2, 20), bool)
    masks[0, 3] = masks[1, [4, 19]] = True
    assert budgets.expected_max(delays, masks).tolist() == [3.0, 19.0]


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_an_expert_without_end_of_energy_counts_in_its_own_sets_alone(broken):
    """Once 0 times infinity made every set of a list of masks infeasible."""
    energies = jnp.array([[1.0, broken, 3.0]])
    masks = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    np.testing.assert_array_equal(
        budgets.expected_sum(energies, masks), [4.0, broken, 0.0]
    )
    everything = budgets.expected_sum(energies)
    np.testing.assert_array_equal(everything[jnp.array([5, 2, 0])], [4.0, broken, 0.0])
