"""Selection: searches against enumeration, closed forms and plain loops."""

import jax
import numpy as np
import pytest

from m3jax.ops import subsets
from m3jax.systems.moe2 import selection, weights
from m3jax.systems.moe2.selection import instances

pytestmark = pytest.mark.usefixtures("quick_compilation")


def lattice(values, join):
    """A table over subsets by doubling, ``[..., 2^N]``."""
    table = np.zeros((*values.shape[:-1], 1))
    for i in range(values.shape[-1]):
        table = np.concatenate([table, join(table, values[..., i, None])], axis=-1)
    return table


def coverage(rng, num_experts, kind="coverage"):
    """A facility-location value under both budgets, all from tables, and its sets."""
    merit = rng.gamma(0.5, size=(16, num_experts))
    delays = rng.exponential(size=(8, num_experts)) * rng.uniform(0.3, 1.5, num_experts)
    delay = lattice(delays, np.maximum).mean(axis=0)
    energy = lattice(rng.uniform(0.5, 2.0, num_experts), np.add)
    losses = -lattice(merit, np.maximum).mean(axis=0)
    bits = 2 ** np.arange(num_experts)
    limits = (rng.uniform(1.0, 3.5), rng.uniform(0.2, 0.8) * energy[-1])
    constraints = tuple(
        selection.Constraint(name, lambda m, cost=cost: cost[m @ bits], limit)
        for name, cost, limit in zip(
            ("delay", "energy"), (delay, energy), limits, strict=True
        )
    )
    problem = selection.Problem(
        num_experts, lambda m: losses[m @ bits], constraints, kind
    )
    family = (delay <= limits[0]) & (energy <= limits[1])
    return problem, np.where(family, losses, np.inf)


def num_maximal(family):
    grows = np.zeros_like(family)
    for i in range(len(family).bit_length() - 1):
        pairs = family.reshape(-1, 2, 2**i)
        grows.reshape(-1, 2, 2**i)[:, 0] |= pairs[:, 1]
    return int((family & ~grows).sum())


def test_smo_is_enumeration_on_1000_instances_with_few_evaluations():
    rng = np.random.default_rng(0)
    shares, within, evaluated, maximal = [], 0, 0, 0
    for _ in range(1000):
        problem, losses = coverage(rng, int(rng.integers(4, 13)))
        losses[0] = np.inf
        found = selection.smo(problem)
        assert found.loss == losses.min()
        if not np.isfinite(losses.min()):
            assert found.status == "infeasible" and not found.members.any()
            continue
        assert found.status == "optimal" and found.gap == 0.0
        assert problem.feasible(found.members[None])[0]
        most = num_maximal(np.isfinite(losses))
        shares.append(found.num_evaluated / len(losses))
        within += found.num_evaluated <= most
        evaluated, maximal = evaluated + found.num_evaluated, maximal + most
    assert np.mean(shares) <= 0.25
    assert within >= 0.95 * len(shares) and evaluated < 0.5 * maximal


def additive(values, delays, energies, budget):
    values = np.asarray(values, float)
    return selection.make_problem(
        lambda m: -(m @ values),
        delays,
        energies,
        selection.Limits(*budget),
        kind="additive",
    )


def test_additive_values_are_a_knapsack():
    rng = np.random.default_rng(1)
    for _ in range(50):
        values, energies, delays = rng.uniform(0.1, 1, (3, 9))
        budget = selection.Limits(0.7, rng.uniform(0.5, 3.0))
        problem = additive(values, delays[None], energies, budget)
        exact = selection.enumerate_best(problem)
        for found in (
            selection.knapsack(problem, values, delays),
            selection.smo(problem),
        ):
            assert found.loss == pytest.approx(exact.loss, rel=1e-12)
            assert found.status == exact.status == "optimal"
            np.testing.assert_array_equal(found.members, exact.members)
            assert (delays[found.members] <= 0.7).all()


def test_disjoint_domains_of_equal_energy_take_the_most_valuable():
    problem = additive([3, 1, 4, 1.5, 9], np.zeros((1, 5)), np.ones(5), (1.0, 3.0))
    for search in (selection.enumerate_best, selection.smo, selection.greedy):
        assert np.flatnonzero(search(problem).members).tolist() == [0, 2, 4]


@pytest.mark.parametrize("seed", range(20))
def test_greedy_reaches_1_less_1_over_e_for_a_number_of_experts(seed):
    merit = np.random.default_rng(seed).gamma(0.3, size=(12, 9))
    value = lambda m: -np.where(m[:, None], merit, 0).max(-1).mean(-1)  # noqa: E731
    problem = selection.make_problem(
        value, np.zeros((1, 9)), np.ones(9), selection.Limits(1.0, 3.0), kind="coverage"
    )
    greedy, best = selection.greedy(problem), selection.enumerate_best(problem)
    assert -greedy.loss >= (1 - 1 / np.e) * -best.loss
    assert greedy.status == "heuristic" and greedy.members.sum() == 3


def test_gain_per_cost_fills_a_budget_where_gain_alone_does_not():
    costs = np.array([1.0, 3, 1, 1, 1])
    problem = additive([3, 2.9, 1.5, 1.5, 1.5], np.zeros((1, 5)), costs, (1.0, 4.0))
    assert selection.greedy(problem).loss == pytest.approx(-5.9)
    assert selection.greedy(problem, costs).loss == -7.5


def test_delays_that_vary_forbid_what_each_passes_alone(key):
    delays = np.asarray(jax.random.exponential(key, (20_000, 8)))
    assert (delays.mean(axis=0) <= 2.0).all()
    problem = additive(np.ones(8), delays, np.ones(8), selection.Limits(2.0))
    for search in (selection.enumerate_best, selection.smo):
        found = search(problem)
        assert found.members.sum() == 3 and found.binding == ("delay",)


def test_each_application_has_its_limit():
    delays = np.array([[[1.0, 2.0, 1.0]], [[3.0, 1.0, 1.0]]])
    problem = additive(
        [5, 5, 1], delays, np.ones(3), selection.Limits((1.5, 2.0), 10.0)
    )
    found = selection.enumerate_best(problem)
    assert np.flatnonzero(found.members).tolist() == [2]
    assert found.binding == ("delay of application 0", "delay of application 1")


def test_infeasible_names_the_limit_that_stops_everybody():
    for budget, name in (((0.5, 9.0), "delay"), ((9.0, 0.5), "energy")):
        problem = additive(np.ones(3), np.ones((2, 3)), np.ones(3), budget)
        for found in (
            selection.enumerate_best(problem),
            selection.smo(problem),
            selection.greedy(problem),
            selection.random_feasible(jax.random.key(0), problem),
            selection.knapsack(problem, np.ones(3), np.ones(3)),
        ):
            assert found.status == "infeasible" and found.binding == (name,)
            assert not found.members.any() and found.loss == np.inf


def test_equal_losses_go_to_fewer_members_then_to_the_lower_number():
    losses = np.array([np.inf, 2, 1, 1, 1, 1, 1, 1])
    problem = selection.make_problem(
        losses, np.zeros((1, 3)), np.ones(3), selection.Limits()
    )
    assert np.flatnonzero(selection.enumerate_best(problem).members).tolist() == [1]


def test_losses_that_are_not_monotone_are_refused_or_heuristic():
    problem, losses = coverage(np.random.default_rng(3), 6, kind="restrict")
    with pytest.raises(ValueError, match="enumerate_best"):
        selection.smo(problem)
    found = selection.smo(problem, heuristic=True)
    assert found.status == "heuristic" and found.gap == np.inf
    assert selection.enumerate_best(problem).loss == losses[1:].min()


def test_a_search_that_is_stopped_tells_its_gap():
    problem, losses = coverage(np.random.default_rng(12), 12)
    best = losses[1:].min()
    full = selection.smo(problem)
    for limits, status in (
        ({"max_evaluations": 5}, "evaluations"),
        ({"time_limit_s": 0.0}, "time"),
    ):
        found = selection.smo(problem, **limits)
        assert found.status == status and found.num_evaluated < full.num_evaluated
        assert best <= found.loss and found.loss - found.gap <= best
    near = selection.smo(problem, epsilon=0.2)
    assert near.num_evaluated <= full.num_evaluated
    assert near.loss <= best + 0.2 and near.loss - near.gap <= best


def test_batches_and_starts_change_no_answer():
    rng = np.random.default_rng(5)
    for _ in range(20):
        problem, losses = coverage(rng, 10)
        start = selection.random_feasible(jax.random.key(1), problem)
        found = selection.smo(problem, batch_size=8, start=[start.members])
        assert found.loss == losses[1:].min()
    with pytest.raises(ValueError, match="breaks a limit: "):
        selection.smo(problem, start=[np.ones(10, bool)])


def test_random_sets_are_maximal():
    problem, losses = coverage(np.random.default_rng(7), 8)
    sets = [selection.random_feasible(jax.random.key(k), problem) for k in range(5)]
    bits = 2 ** np.arange(8)
    maximal = np.asarray(subsets.maximal(np.isfinite(losses)))
    assert all(maximal[found.members @ bits] for found in sets)
    assert len({found.members.tobytes() for found in sets}) > 1


def test_refitted_losses_are_searched_to_their_certificate():
    for seed in range(3):
        drawn = instances.draw(jax.random.key(seed), num_experts=8, num_rows=80)
        refits = weights.refit_losses(drawn.rows)
        problem = selection.make_problem(refits.losses, *drawn[1:])
        exact = selection.enumerate_best(problem)
        found = selection.smo(drawn.problem(), epsilon=1e-5, batch_size=8)
        assert found.status in ("optimal", "epsilon_optimal")
        assert found.gap <= 2e-5 and found.loss == pytest.approx(exact.loss, abs=2e-5)


def test_many_states_at_once_are_each_enumerated(key):
    keys = jax.random.split(key, 4)
    num, num_experts = 40, 5
    losses = np.asarray(jax.random.normal(keys[0], (2**num_experts,))).round(1)
    delays = np.asarray(jax.random.exponential(keys[1], (num, 6, num_experts)))
    energies = np.asarray(jax.random.uniform(keys[2], (num, num_experts)))
    tau = np.linspace(0.2, 3.0, num).astype(np.float32)
    found = selection.resolve_many(
        losses, delays, energies, selection.Limits(tau, 0.3 * num_experts)
    )
    bits = 2 ** np.arange(num_experts)
    statuses = set()
    for state in range(num):
        problem = selection.make_problem(
            losses,
            delays[state],
            energies[state],
            selection.Limits(tau[state], 0.3 * num_experts),
        )
        one = selection.enumerate_best(problem)
        assert int(found.numbers[state]) == one.members @ bits
        assert float(found.losses[state]) == pytest.approx(one.loss, rel=1e-6)
        statuses.add(one.status)
    assert statuses == {"optimal", "infeasible"}


def test_the_front_is_what_no_subset_beats(key):
    masks = subsets.masks(5)
    losses, energies, delays = (
        np.asarray(jax.random.uniform(k, shape))
        for k, shape in zip(
            jax.random.split(key, 3), ((32,), (5,), (7, 5)), strict=True
        )
    )
    numbers, points = selection.pareto(losses, delays, energies)
    every = [
        (losses[r], (delays * masks[r]).max(axis=1).mean(), masks[r] @ energies)
        for r in range(1, 32)
    ]
    beaten = [
        any(all(a <= b for a, b in zip(q, p, strict=True)) and q != p for q in every)
        for p in every
    ]
    np.testing.assert_array_equal(numbers, 1 + np.flatnonzero(~np.array(beaten)))
    np.testing.assert_allclose(points, np.array(every)[numbers - 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delays_s": np.ones((2, 4))}, r"delays need shape"),
        ({"budget": selection.Limits((1.0, 2.0), 1.0)}, "delay limits"),
        ({"energies_j": -np.ones(3)}, "from 0"),
        ({"losses": np.ones(7)}, "8 subsets"),
        ({"kind": "gated"}, "not 'gated'"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {
        "losses": np.ones(8),
        "delays_s": np.ones((2, 3)),
        "energies_j": np.ones(3),
        "budget": selection.Limits(1.0, 1.0),
    }
    with pytest.raises(ValueError, match=message):
        selection.make_problem(**(given | change))


@pytest.mark.slow
def test_32_experts_are_certified_within_a_per_cent():
    certified = 0
    for seed in range(20):
        drawn = instances.draw(jax.random.key(seed))
        certified += instances.certify(drawn, time_limit_s=60.0).share_of_range <= 0.01
    assert certified >= 18
