"""What is measured of MoE2: one decoded answer, and sets that keep their budgets."""

import jax
import numpy as np
import pytest

from m3jax import base
from m3jax.costs import budgets
from m3jax.evals import axes
from m3jax.systems.moe2 import clusters, evaluation, tables
from tests.systems.moe2.conftest import make_batch, make_config, stir


@pytest.fixture(scope="module")
def judge(pool):
    made, params = pool
    batch = make_batch(seed=3, size=24)
    alone = tables.tabulate(made, params, {**batch, "domain": np.zeros(24, np.int32)})
    # Half of the prompts get the answer that an expert gives, so that some are right.
    batch["answer"] = alone.said[np.arange(24), np.arange(24) % 3]
    batch["answer"][::2, 0] = 3
    batch["domain"] = np.arange(24, dtype=np.int32) % 2
    table = tables.tabulate(made, params, batch)
    config = make_config()
    system = config.make_system()
    whole = stir(jax.jit(system.init)(jax.random.key(0), {}))
    whole["pool"] = params
    return evaluation.Judge(config, whole, table, table)


def test_one_member_fused_is_right_where_it_is_right_alone(judge):
    for number in range(3):
        members = np.arange(3) == number
        np.testing.assert_array_equal(
            judge.fused(members), judge.asked.right[:, number]
        )
        np.testing.assert_array_equal(
            judge.voted(members), judge.asked.right[:, number]
        )
    assert 0 < judge.asked.right.mean() < 1


def test_chosen_experts_keep_the_budget_and_no_other_set_has_less_loss(judge):
    drawn = judge.settings.spending.draw(jax.random.key(0), 3, 256)
    whole = np.asarray(drawn.energies_j).mean(axis=0)
    budget = budgets.Budget(tau_s=10.0, energy_j=float(whole.sum() * 0.7))
    rows = judge.under(budget, drawn, "ours", axes.at(energy_j=1.0), 0)
    spent = {(r.variant, r.metric): r.value for r in rows}
    assert spent["ours", "energy_j"] <= budget.energy_j
    fits = [
        np.array(m, bool)
        for m in np.ndindex(2, 2, 2)
        if any(m) and whole @ np.array(m) <= budget.energy_j
    ]
    numbers = [int(m @ [1, 2, 4]) for m in fits]
    best = fits[int(np.argmin(judge.restricted[numbers]))]
    assert spent["ours", "asked"] == best.sum()
    assert spent["ours", "answer_accuracy"] == pytest.approx(judge.fused(best).mean())


def test_a_budget_that_nobody_keeps_is_answered_by_nobody(judge):
    drawn = judge.settings.spending.draw(jax.random.key(0), 3, 16)
    rows = judge.under(budgets.Budget(energy_j=1e-6), drawn, "ours", (), 0)
    assert {r.value for r in rows} == {0.0}


def test_rows_without_a_budget_have_every_method_and_group(judge):
    rows = judge.without_budget("ours", ("even", "odd"), "domain")
    assert all(isinstance(row, base.Record) for row in rows)
    found = {(r.variant, dict(r.at).get("domain")): r.value for r in rows}
    names = {variant for variant, _ in found}
    assert names == {
        *("ours", "majority vote", "accuracy-weighted vote", "best single"),
        *("average expert", "oracle expert"),
    }
    for name in names:
        halves = (found[name, "even"] + found[name, "odd"]) / 2
        assert halves == pytest.approx(found[name, None])
    assert found["oracle expert", None] >= max(
        found[name, None] for name in ("average expert", "best single")
    )


def test_words_that_are_padding_are_no_rows(judge):
    given, example = judge.known.token_rows()
    assert len(given) == (judge.known.answer != 0).sum()
    first = judge.known.answer[0, 0]
    np.testing.assert_allclose(given[0], judge.known.log_probs[0, :, 0, first])
    assert example[0] == 0


def test_clusters_find_directions_and_their_shares_sum_to_one():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 40)
    points = np.eye(3)[truth] + 0.05 * rng.normal(size=(120, 3))
    labels = clusters.nearest(points, clusters.fit(points, 3))
    share = clusters.shares(labels, truth, 3, 4)
    np.testing.assert_allclose(share[:3].max(axis=1), 1.0)
    np.testing.assert_array_equal(share.sum(axis=1), [1, 1, 1, 0])


def test_more_clusters_than_prompts_are_refused():
    with pytest.raises(ValueError, match="2 prompts cannot make 3 clusters"):
        clusters.fit(np.eye(2), 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("taus_s", ()), ("energies_j", (0.0,)), ("num_draws", 0), ("num_watched", 0)],
)
def test_senseless_evaluators_are_named(field, value):
    with pytest.raises(ValueError, match=f"evaluator.{field}"):
        evaluation.UnderBudgets(**{field: value}).validate()
