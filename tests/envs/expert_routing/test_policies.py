"""Reference policies: the oracle against enumeration and against all the others."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs.expert_routing import (
    comparison,
    events,
    policies,
    scoring,
    wireless,
    world,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

ENV = wireless.Wireless()
PARAMS = ENV.default_params._replace(events=events.all_on(), report_loss=0.1)
RESET, STEP = jax.jit(ENV.reset), jax.jit(ENV.step)
POLICIES = policies.make_policies(ENV)
NUM_ENVS, NUM_STEPS = 6, 40


@pytest.fixture(scope="module")
def played(quick_compilation):
    def run(key):
        acts = comparison.reference(ENV)
        return comparison.compare(ENV, PARAMS, acts, key, NUM_ENVS, NUM_STEPS)

    return jax.device_get(jax.jit(run)(jax.random.key(3)))


def test_all_policies_meet_the_same_tasks_and_links(played):
    for told in played.values():
        assert told["reward"].shape == (NUM_ENVS, NUM_STEPS)
        for name in ("task", "snr_db"):
            np.testing.assert_array_equal(told[name], played["oracle"][name])


def test_the_oracle_is_never_beaten_in_any_step(played):
    for name, told in played.items():
        assert told["regret"].min() >= -1e-6, name
        if name != "oracle":
            assert told["regret"].max() > 0.01, name


def test_each_kind_of_reward_is_won_by_its_own_policy(played):
    mean = {
        name: {part: values.mean() for part, values in told.items()}
        for name, told in played.items()
    }
    assert mean["semantic_first"]["semantic"] > mean["network_first"]["semantic"]
    assert mean["network_first"]["quality"] > mean["semantic_first"]["quality"]
    for name in ("random", "uniform", "network_first"):
        assert mean["greedy_product"]["judged"] > mean[name]["judged"]


def test_the_oracle_earns_the_maximum_over_all_subsets(key):
    _, state = RESET(key, PARAMS)
    state = STEP(key, state, jnp.ones(7), PARAMS)[1]
    live = np.array([1, 1, 0, 1, 1, 1, 0], bool)
    state = state._replace(events=state.events._replace(live=jnp.asarray(live)))
    members, best = jax.jit(lambda s: policies.best_subset(ENV, s, PARAMS))(state)
    truth = jax.jit(world.scene)(state, PARAMS)
    score = jax.jit(
        lambda w: scoring.score(scoring.Weights(w, w), truth, PARAMS.rewards)[0]
    )
    earned = {}
    for size in range(1, 6):
        for chosen in itertools.combinations(np.flatnonzero(live), size):
            weights = np.zeros(7, np.float32)
            weights[list(chosen)] = 1 / size
            earned[chosen] = float(score(weights))
    winner = max(earned, key=earned.get)
    assert float(best) == pytest.approx(earned[winner], rel=1e-5)
    assert earned[tuple(np.flatnonzero(members))] == pytest.approx(
        float(best), rel=1e-5
    )


def test_unequal_weights_may_earn_more_but_never_less(key):
    _, state = RESET(key, PARAMS)

    def both(state):
        finer = policies.best_weights(ENV, state, PARAMS, parts=4)
        return policies.best_subset(ENV, state, PARAMS)[1], finer

    bound, (weights, best) = jax.jit(both)(state)
    assert float(best) >= float(bound)
    np.testing.assert_allclose(STEP(key, state, weights, PARAMS)[2], best, rtol=1e-6)
    with pytest.raises(ValueError, match="actions='weights'"):
        policies.best_weights(wireless.Wireless("subset"), state, PARAMS, 4)


def test_more_than_three_experts_never_pay_and_two_heads_earn_no_less(key):
    heads = wireless.Wireless("heads")
    states = jax.vmap(lambda k: RESET(k, PARAMS)[1])(jax.random.split(key, 32))

    def bounds(state):
        few, earned = policies.best_heads(heads, state, PARAMS)
        _, most = policies.best_heads(heads, state, PARAMS, most=7)
        replayed = heads.score(state, few, PARAMS)[0]
        return earned, most, replayed, policies.best_subset(ENV, state, PARAMS)[1]

    earned, most, replayed, one_head = jax.jit(jax.vmap(bounds))(states)
    np.testing.assert_allclose(earned, most, rtol=1e-5)
    np.testing.assert_allclose(earned, replayed, rtol=1e-5)
    assert (np.asarray(earned) >= np.asarray(one_head) - 1e-5).all()
    assert (np.asarray(earned) > np.asarray(one_head) + 1e-3).any()
    with pytest.raises(ValueError, match="actions='heads'"):
        policies.best_heads(ENV, jax.tree.map(lambda a: a[0], states), PARAMS)


def seen(task, live, snr, reported=None):
    """An observation of these."""
    reported = np.ones(7) if reported is None else reported
    parts = (np.eye(7)[task], live, reported, snr, np.zeros(2))
    return jnp.asarray(np.concatenate(parts), jnp.float32)


def chosen(name, obs):
    members = POLICIES[name](jax.random.key(0), obs, None, PARAMS)
    return np.flatnonzero(members).tolist()


def test_policies_choose_as_they_say():
    live = np.ones(7)
    snr = np.array([0.9, 0.3, 0.2, 0.1, 1.0, 0.5, 0.0])
    obs = seen(1, live, snr)  # task "count": core 1, and 0 helps
    assert chosen("uniform", obs) == list(range(7))
    assert chosen("semantic_first", obs) == [1]
    assert chosen("network_first", obs) == [4]
    assert chosen("greedy_product", obs) == [0]  # 0.6 * 0.9 beats 0.9 * 0.3


def test_policies_leave_out_what_failed_and_what_was_not_reported():
    live = np.array([1, 0, 1, 1, 0, 1, 1.0])
    snr = np.array([0.9, 0.3, 0.2, 0.1, 1.0, 0.5, 0.0])
    obs = seen(1, live, snr, reported=np.array([0, 1, 1, 1, 1, 1, 1.0]))
    assert chosen("uniform", obs) == [0, 2, 3, 5, 6]
    assert chosen("semantic_first", obs) == [0]  # the core is gone, its help is not
    assert chosen("network_first", obs) == [5]
    assert chosen("greedy_product", obs) == [5]


def test_random_subsets_are_live_and_never_empty(key):
    live = np.array([1, 0, 1, 0, 0, 0, 0.0])
    obs = seen(0, live, np.zeros(7))
    draw = jax.jit(jax.vmap(lambda k: POLICIES["random"](k, obs, None, PARAMS)))
    members = np.asarray(draw(jax.random.split(key, 400)))
    assert members.any(axis=1).all()
    assert not members[:, live == 0].any()
    # Of four equally likely draws, the empty one becomes both.
    assert members.sum(axis=1).mean() == pytest.approx(1.5, abs=0.1)
