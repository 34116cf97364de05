import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from m3jax.ops.latency_split import Status
from m3jax.ops.quantities import Hertz, Watt
from m3jax.systems.tokcom.allocation import (
    alternation,
    baselines,
    drops,
    loss_curve,
    solve,
    study,
)
from m3jax.systems.tokcom.allocation import problem as problems
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

DROPS, U, MOST = 24, 3, 8
POWER_LAW = loss_curve.PowerLoss(0.4, 2.0, 0.7)
EXPONENTIAL = loss_curve.ExponentialLoss(0.4, 2.0, 4.0)
# Exact in float32. Some users send the fewest tokens, some the most, many neither.
WEIGHT = 1.0 - 1.0 / 256.0


def make(gains, curve=EXPONENTIAL, **changes):
    fields = {
        "bits_per_token": 256,
        "bandwidth": Hertz(1e6),
        "power": Watt(0.2),
        "weight": WEIGHT,
        "max_length": MOST,
    }
    return problems.make_problem(gains, curve, **(fields | changes))


@pytest.fixture(scope="module")
def gains():
    """Drops of 3 users, over 40 dB."""
    exponents = np.random.default_rng(7).uniform(6.0, 10.0, (DROPS, U))
    return jnp.asarray(10.0**exponents, jnp.float32)


@pytest.fixture(scope="module")
def solved(gains):
    """Relaxed and whole allocations; compiled for these shapes."""
    return study.compare(make(gains[0]), gains)[1:]


def test_the_cost_never_rises_and_budgets_are_kept(solved):
    for found in solved:
        history = np.asarray(found.history, np.float64)
        assert (np.diff(history, axis=1) <= 1e-6 * history[:, :-1]).all()
        assert np.asarray(found.is_monotone).all()
        assert (np.asarray(found.status) == Status.OPTIMAL).all()
        np.testing.assert_allclose(history[:, -1], found.cost, rtol=1e-6)
        np.testing.assert_allclose(found.plan.bandwidths.sum(1), 1e6, rtol=1e-6)
        np.testing.assert_allclose(found.plan.powers.sum(1), 0.2, rtol=1e-6)
    relaxed, whole = solved
    assert (np.asarray(relaxed.history[:, 0]) > np.asarray(relaxed.cost)).all()
    lengths = np.asarray(whole.plan.lengths)
    assert np.array_equal(lengths, np.round(lengths))
    assert lengths.min() == 1.0 and lengths.max() == MOST
    assert len(np.unique(lengths)) > 4


def test_marginal_costs_of_a_relaxed_plan_are_equal(gains, solved):
    """The conditions of Karush, Kuhn and Tucker, by central differences in float64."""
    plan = [np.asarray(part, np.float64) for part in solved[0].plan]
    gain = np.asarray(gains, np.float64)

    def cost(lengths, band, power):
        rate = band * np.log2(1.0 + power * gain / band)
        loss = 0.4 + 2.0 * np.exp(-lengths / 4.0)
        return WEIGHT * lengths * 256.0 / rate + (1.0 - WEIGHT) * loss

    def slope(i):  # by the logarithm of one block
        up, down = ([*plan] for _ in range(2))
        up[i], down[i] = plan[i] * np.exp(1e-5), plan[i] * np.exp(-1e-5)
        return (cost(*up) - cost(*down)) / 2e-5

    for i in (1, 2):  # budgets have one price for all users
        price = slope(i) / plan[i]
        np.testing.assert_allclose(price, price[:, :1] + 0.0 * price, rtol=2e-3)
    by_length, lengths = slope(0), plan[0]
    total = cost(*plan).sum()
    inside = (lengths > 1.0) & (lengths < MOST)
    assert inside.sum() > 8 and np.abs(by_length[inside]).max() < 1e-4 * total
    assert (by_length[lengths == 1.0] > -1e-4 * total).all()
    assert (by_length[lengths == MOST] < 1e-4 * total).all()


def test_whole_lengths_are_the_best_of_all_combinations(gains, solved):
    """At given lengths bandwidths and powers are jointly convex, so this is exact."""
    lengths = itertools.product(range(1, MOST + 1), repeat=U)
    combinations = jnp.array(list(lengths), float)

    @jax.jit
    def best(problem):
        def cost(lengths):
            plan = problems.equal_plan(problem, 1.0)._replace(lengths=lengths)
            rest = alternation.alternate(problem, plan, ("bandwidth", "power"))
            return problems.evaluate(problem, rest.plan).cost

        return jnp.min(jax.vmap(cost)(combinations))

    for i in range(0, DROPS, 3):
        cost = float(solved[1].cost[i])
        assert cost == pytest.approx(float(best(make(gains[i]))), rel=1e-6)


def test_no_plan_of_an_exhaustive_grid_is_better(gains, solved):
    """The grid takes no step of the package, only its formula of the latency."""
    for i in range(0, DROPS, 3):
        problem = make(gains[i])
        searched = baselines.exhaustive(problem, num_parts=24)
        cost = float(solved[1].cost[i])
        assert cost <= searched.cost <= cost * 1.02
        plan = jax.tree.map(jnp.asarray, searched.plan)
        recomputed = float(problems.evaluate(problem, plan).cost)
        assert recomputed == pytest.approx(searched.cost, rel=1e-5)


def test_with_a_power_law_the_alternation_ends_in_the_optimum_of_slsqp(gains):
    problem = make(gains[0], POWER_LAW)
    start = problems.equal_plan(problem, MOST)
    relaxed = jax.jit(
        jax.vmap(lambda g: alternation.alternate(problem._replace(gains=g), start))
    )(gains)
    assert np.asarray(relaxed.rests).all()
    for i in range(6):
        g = np.asarray(gains[i], np.float64)

        def cost(logs, g=g):
            m, band, power = np.exp(logs.reshape(3, U))
            band, power = band / band.sum() * 1e6, power / power.sum() * 0.2
            latency = m * 256.0 / (band * np.log2(1.0 + power * g / band))
            loss = 0.4 + 2.0 * m**-0.7
            return np.sum(WEIGHT * latency + (1.0 - WEIGHT) * loss)

        bounds = [(0.0, np.log(MOST))] * U + [(-10.0, 0.0)] * (2 * U)
        start = np.log(np.concatenate([np.full(U, 2.0), np.full(2 * U, 1.0 / U)]))
        options = {"ftol": 1e-15, "maxiter": 1000}
        found = optimize.minimize(
            cost, start, method="SLSQP", bounds=bounds, options=options
        )
        plan = [np.asarray(part[i], np.float64) for part in relaxed.plan]
        ours = cost(np.log(np.concatenate(plan)))
        assert ours <= found.fun * (1.0 + 1e-6)
        assert ours == pytest.approx(found.fun, rel=1e-5)


def once_compiled(fn):
    """A function that is never compiled without its gradient, which halves the time."""
    both = jax.jit(jax.value_and_grad(fn, argnums=(0, 1, 2, 3, 4)))

    @jax.custom_vjp
    def value(*args):
        return both(*args)[0]

    value.defvjp(both, lambda grads, weight: jax.tree.map(lambda g: weight * g, grads))
    return value


def test_gradients_of_the_plan_equal_finite_differences(gains):
    """In logarithms, as the numbers are far from 1."""
    problem = make(gains[1], max_length=64)

    def mixed(log_gains, log_band, log_power, weight, curve):
        moved = problem._replace(
            gains=jnp.exp(log_gains),
            bandwidth=jnp.exp(log_band),
            power=jnp.exp(log_power),
            weight=weight,
            curve=curve,
        )
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), moved)
        found = solve.allocate(wide)
        mix = jnp.sin(jnp.arange(3.0 * U)).reshape(3, U)
        return jnp.sum(mix * jnp.log(jnp.stack(found.plan))) + found.cost

    args = np.log(np.asarray(gains[1], np.float64)), np.log(1e6), np.log(0.2), 0.99
    gradients.check_against_finite_differences(
        once_compiled(mixed), (*args, EXPONENTIAL), rtol=2e-5
    )


def test_only_the_blocks_that_are_named_move(gains, solved):
    problem = make(gains[2])
    start = problems.equal_plan(problem, 4.0)
    found = jax.jit(lambda *args: solve.allocate(*args, steps=("bandwidth",)))(
        problem, start
    )
    np.testing.assert_allclose(found.plan.lengths, 4.0, rtol=1e-6)
    np.testing.assert_allclose(found.plan.powers, start.powers, rtol=1e-6)
    first = float(problems.evaluate(problem, start).cost)
    assert first > float(found.cost) > float(solved[0].cost[2])
    for steps in ((), ("bandwidth", "colour")):
        with pytest.raises(ValueError, match="steps must be some of"):
            solve.allocate(problem, steps=steps)


def test_weights_of_0_and_1_send_the_most_and_the_fewest_tokens(gains):
    for weight, length in ((0.0, MOST), (1.0, 1.0)):
        for found in study.compare(make(gains[0], weight=weight), gains)[1:]:
            np.testing.assert_allclose(found.plan.lengths, length, rtol=1e-6)
            assert np.asarray(found.is_monotone).all()


def test_a_user_who_cannot_send_makes_its_drop_infeasible_and_no_other(gains, solved):
    gains = gains.at[3, 1].set(0.0)
    for found in study.compare(make(gains[0]), gains)[1:]:
        infeasible = np.asarray(found.status) == Status.INFEASIBLE
        assert np.flatnonzero(infeasible).tolist() == [3]
        assert np.isinf(found.cost[3])
    others = np.delete(np.asarray(found.cost), 3)
    np.testing.assert_allclose(others, np.delete(solved[1].cost, 3))


def test_the_best_common_length_is_that_of_a_full_search(gains):
    lengths = jnp.arange(1.0, MOST + 1.0)
    split = jax.jit(baselines.equal_split)
    cost_of = jax.jit(
        lambda problem, m: (
            problems.evaluate(problem, problems.equal_plan(problem, m)).cost
        )
    )
    chosen = set()
    for i, weight in itertools.product(range(4), (0.9, 0.99, 0.999)):
        problem = make(gains[i], weight=weight)
        plan, cost = split(problem)
        best = min(float(cost_of(problem, m)) for m in lengths)
        assert float(cost) == pytest.approx(best, rel=1e-6)
        chosen.add(float(plan.lengths[0]))
    assert len(chosen) > 2


def test_too_few_parts_are_refused(gains):
    with pytest.raises(ValueError, match="2 parts do not suffice for 3 users"):
        baselines.exhaustive(make(gains[0]), num_parts=2)


def draw(key, num_users):
    """Gains over 20 dB; a model that compiles quickly."""
    exponents = jax.random.uniform(key, (num_users,), minval=7.0, maxval=9.0)
    return drops.Users(None, None, 10.0**exponents)


def test_the_saving_is_that_of_its_records_and_no_drop_loses(solved):
    problem = make(np.ones(U))
    saving = study.measure_saving(problem, (5, 6), DROPS, draw)
    assert saving.joint_costs.shape == saving.equal_costs.shape == (2, DROPS)
    assert saving.are_solved and saving.seeds == (5, 6)
    assert (saving.joint_costs < saving.equal_costs * (1.0 + 1e-6)).all()
    rows = study.records(saving)
    cost = {(r.variant, r.metric, r.seed): r.value for r in rows}
    assert len(cost) == len(rows) == 8
    assert {(r.system, r.at, r.unit) for r in rows} == {("tokcom", (), "1")}
    for metric, found, floor in (
        ("weighted_cost", saving.cost, 0.0),
        ("reducible_cost", saving.reducible, U * 0.4 / 256.0),
    ):
        saved = [
            1.0 - cost["joint", metric, seed] / cost["equal split", metric, seed]
            for seed in (5, 6)
        ]
        assert float(found.mean) == pytest.approx(np.mean(saved), rel=1e-9)
        assert found.low < found.mean < found.high
        first = (saving.joint_costs - floor).mean(1)[0]
        assert cost["joint", metric, 5] == pytest.approx(first, rel=1e-5)
    with pytest.raises(ValueError, match="a seed and a drop"):
        study.measure_saving(problem, seeds=(), num_drops=3)
