"""Offloading as an environment: batches, laws, policies, the exact optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.costs import offload
from m3jax.envs.edge_cloud import offloading, plans, policies, world

pytestmark = pytest.mark.usefixtures("quick_compilation")

LEVELS = plans.Levels(retentions=(0.4, 1.0), thresholds=(0.1, 0.5), lengths=(2, 5))
ENV = offloading.Offloading(levels=LEVELS)
GRID = offloading.Offloading("grid", LEVELS)
PARAMS = world.make_params()._replace(max_steps=3)
NUM = 400
RESET = jax.jit(ENV.reset_batch, static_argnums=1)
STEP = jax.jit(ENV.step_batch)
SCORE = jax.jit(ENV.score)


@pytest.fixture(scope="module")
def begun():
    return RESET(jax.random.key(0), NUM, PARAMS)


def actions(num=NUM, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((8, num)), jnp.float32)


def test_a_batch_scores_as_its_environments_do(begun):
    """Columns of one call against single calls."""
    state, given = begun[1], actions()
    rewards, info = SCORE(state, given, PARAMS)
    for n in range(3):
        one = jax.tree.map(lambda leaf, n=n: leaf[..., n], state)
        reward, parts = SCORE(one, given[:, n], PARAMS)
        np.testing.assert_allclose(reward, rewards[n], rtol=1e-5)
        for name in parts:
            np.testing.assert_allclose(parts[name], info[name][n], rtol=1e-5)


def test_a_batch_of_one_key_has_the_law_of_single_environments(begun):
    keys = jax.random.split(jax.random.key(9), NUM)
    single = jax.jit(jax.vmap(ENV.reset, (0, None)))(keys, PARAMS)
    step = jax.jit(jax.vmap(ENV.step, (0, 0, 0, None)))
    alone = step(keys, single[1], actions().T, PARAMS)
    together = STEP(jax.random.key(3), begun[1], actions(), PARAMS)
    for name in ("latency_s", "quality_loss"):
        one, two = np.asarray(alone[-1][name]), np.asarray(together[-1][name])
        spread = np.sqrt((one.var() + two.var()) / NUM)
        assert abs(one.mean() - two.mean()) < 4 * spread
    one, two = np.asarray(alone[0]), np.asarray(together[0]).T
    spread = np.sqrt((one.var(0) + two.var(0)) / NUM)
    assert np.all(np.abs(one.mean(0) - two.mean(0)) < 4.5 * spread + 1e-6)
    assert np.std(two[:, 0]) > 0.0


def test_walks_keep_their_law():
    state = RESET(jax.random.key(0), 4000, PARAMS._replace(max_steps=100))[1]
    before = state
    for n in range(5):
        state = STEP(jax.random.key(n), state, actions(4000), PARAMS)[1]
    np.testing.assert_allclose(state.walks.std(axis=1), 1.0, atol=0.06)
    found = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(before.walks, state.walks, strict=True)
    ]
    # After the third step every episode began anew, which forgets.
    np.testing.assert_allclose(found, 0.0, atol=0.07)


def test_episodes_end_by_time_and_begin_anew_one_by_one(begun):
    state = begun[1]._replace(time=jnp.arange(NUM, dtype=jnp.int32) % 3)
    out = STEP(jax.random.key(1), state, actions(), PARAMS)
    over = np.arange(NUM) % 3 == 2
    np.testing.assert_array_equal(out[4], over)
    np.testing.assert_array_equal(
        out[1].time, np.where(over, 0, np.arange(NUM) % 3 + 1)
    )
    final = np.asarray(out[-1]["final_observation"])
    assert np.all(np.any(final != out[0], axis=0) == over)
    assert not np.any(out[3])


def test_the_reward_is_latency_quality_and_limits(begun):
    reward, info = SCORE(begun[1], actions(), PARAMS)
    weights = np.asarray(PARAMS.weights)
    expected = -(
        weights[0] * info["latency_s"]
        + weights[1] * info["quality_loss"]
        + weights[2] * info["violation"]
    )
    np.testing.assert_allclose(reward, expected, rtol=1e-5)
    parts = info["upload_s"] + info["prefill_s"] + info["decode_s"]
    np.testing.assert_allclose(info["latency_s"], parts, rtol=1e-5)
    np.testing.assert_array_equal(info["feasible"], info["violation"] <= 1e-5)


def test_latency_is_that_of_the_costs(begun):
    state = jax.tree.map(lambda leaf: leaf[..., 0], begun[1])
    plan, threshold = plans.split(actions()[:, 0], 3, 5)
    load = np.exp(np.asarray(PARAMS.load) * np.abs(state.walks[2:]))
    snr = 10 ** ((20.0 + 4.0 * float(state.walks[0])) / 10)
    rate = float(PARAMS.bandwidth_hz) * np.log2(1 + snr)
    hard = 1 / (1 + np.exp(-float(state.walks[1])))
    now = offload.Conditions(
        rate,
        rate,
        0.02,
        *load,
        jnp.sqrt(threshold),
        1 - hard * threshold / 3,
    )
    request = offload.Request(state.tokens, state.bits, 40.0, 64.0)
    expected = offload.expected(PARAMS.machines, request, plan, now, True).total_s
    found = SCORE(state, actions()[:, 0], PARAMS)[1]["latency_s"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_keeping_what_carries_something_loses_nothing(begun):
    """And exactly then no bound on retention is broken, nor quality lost."""
    state = begun[1]
    sent = jnp.ones_like(state.sparsity)
    kept = 1.0 - state.sparsity
    np.testing.assert_allclose(
        world.quality_loss(kept, sent, state, PARAMS), 0.0, atol=1e-6
    )
    assert np.all(kept >= world.least_retention(state) - 1e-6)
    none = world.quality_loss(0 * kept, sent, state, PARAMS)
    some = np.asarray(state.relevance.sum(axis=0))
    np.testing.assert_allclose(none, some, atol=1e-6)
    edge = world.quality_loss(kept, 0 * sent, state, PARAMS)
    np.testing.assert_allclose(edge, some * (1 - 0.805), atol=1e-5)


def test_acceptance_is_the_mean_over_confident_tokens():
    """Entropies drawn by their law, against the closed form, and back."""
    entropy = np.random.default_rng(0).random(400_000) ** 2.0  # P(H <= t) = t^0.5
    for threshold in (0.1, 0.5, 1.0):
        below = entropy[entropy <= threshold]
        sure = world.confident(threshold, PARAMS)
        assert len(below) / len(entropy) == pytest.approx(float(sure), abs=3e-3)
        found = world.acceptance(0.6, threshold, PARAMS)
        assert np.mean(1 - 0.6 * below) == pytest.approx(float(found), abs=2e-3)
        back = world.difficulty_of(found, threshold, PARAMS)
        assert float(back) == pytest.approx(0.6, rel=1e-4)


def test_the_oracle_is_the_best_of_all_actions(begun):
    """By a plain loop over the grid."""
    state = jax.tree.map(lambda leaf: leaf[..., :6], begun[1])
    table = np.asarray(ENV.table(PARAMS))
    assert len(table) == GRID.action_space(PARAMS).n == 256
    earned = np.stack(
        [SCORE(state, jnp.tile(row[:, None], 6), PARAMS)[0] for row in table]
    )
    action, best = jax.jit(policies.best_of_grid, static_argnums=0)(ENV, state, PARAMS)
    np.testing.assert_allclose(best, earned.max(axis=0), rtol=1e-5)
    np.testing.assert_allclose(SCORE(state, action, PARAMS)[0], best, rtol=1e-5)
    number, _ = jax.jit(policies.best_of_grid, static_argnums=0)(GRID, state, PARAMS)
    np.testing.assert_array_equal(table[np.asarray(number)].T, action)


def test_policies_order_as_what_they_know(begun):
    obs, state = begun
    key = jax.random.key(2)
    found = {}
    for name, policy in policies.make_policies(ENV).items():
        action = jax.jit(policy)(key, obs, state, PARAMS)
        assert action.shape == (8, NUM)
        assert bool(ENV.action_space(PARAMS).contains(action))
        found[name] = float(SCORE(state, action, PARAMS)[0].mean())
    assert found["oracle"] >= found["enumerated"] > found["random"]
    assert found["throughput"] > found["fixed"] > found["cloud_only"]
    assert found["oracle"] > found["fixed"]


def test_what_an_observation_tells_is_the_state_but_for_noise(begun):
    params = PARAMS._replace(report_noise_db=0.0)
    obs, state = RESET(jax.random.key(4), 50, params)
    told = ENV.believed(obs, params)
    for name in ("relevance", "sparsity", "tokens", "bits"):
        np.testing.assert_allclose(getattr(told, name), getattr(state, name), rtol=1e-4)
    np.testing.assert_allclose(told.walks[0], state.walks[0], atol=1e-3)
    np.testing.assert_allclose(told.walks[2:], np.abs(state.walks[2:]), atol=1e-4)
    steady = params._replace(load=jnp.zeros(2), snr_sd_db=0.0)
    obs, state = RESET(jax.random.key(4), 50, steady)
    reward = SCORE(ENV.believed(obs, steady), actions(50), steady)[0]
    assert np.isfinite(reward).all()


def test_the_estimate_comes_to_the_acceptance(begun):
    params = PARAMS._replace(correlation=jnp.ones(4), max_steps=100)
    state = begun[1]
    everything = jnp.ones((8, NUM))
    for n in range(25):
        state = STEP(jax.random.key(n), state, everything, params)[1]
    hard = world.difficulty(state, params)
    true = world.acceptance(hard, 1.0, params)
    error = np.asarray(state.estimate - true)
    assert abs(error.mean()) < 0.01 and error.std() < 0.04


def test_rewards_have_gradients_by_retention(begun):
    state = jax.tree.map(lambda leaf: leaf[..., 0], begun[1])
    slope = jax.grad(lambda action: SCORE(state, action, PARAMS)[0])
    found = slope(jnp.full(8, 0.55))
    assert np.isfinite(found).all() and np.any(found[:3] != 0)


def test_slower_links_take_longer(begun):
    given = jnp.ones((8, NUM))
    fast = SCORE(begun[1], given, world.make_params(400.0))[1]["latency_s"]
    slow = SCORE(begun[1], given, world.make_params(1.0))[1]["latency_s"]
    assert np.all(slow > fast)


@pytest.mark.slow
def test_the_bayesian_policy_comes_near_the_best_of_what_is_believed():
    pytest.importorskip("tinygp")
    env = offloading.Offloading()
    obs, state = env.reset_batch(jax.random.key(1), 6, PARAMS)
    choose = policies.make_bayesian(env)
    keys = jax.random.split(jax.random.key(2), 6)
    over = jax.jit(jax.vmap(choose, (0, -1, None, None), -1))
    action = over(keys, obs, None, PARAMS)
    told = env.believed(obs, PARAMS)
    found = env.score(told, action, PARAMS)[0]
    _, best = policies.best_of_grid(env, told, PARAMS)
    random = env.action_space(PARAMS).sample(jax.random.key(3))
    drawn = env.score(told, jnp.tile(random[:, None], 6), PARAMS)[0]
    assert np.mean(found) > np.mean(drawn)
    assert np.mean(found - best) > -0.3


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: offloading.Offloading("no"), "actions"),
        (lambda: offloading.Offloading(max_draft=4), "max_draft"),
        (lambda: plans.Levels(thresholds=(2.0,)), "thresholds"),
        (lambda: plans.Levels(lengths=()), "length"),
        (lambda: plans.Levels(lengths=(0,)), "lengths"),
    ],
)
def test_settings_that_make_no_sense_are_named(make, names):
    with pytest.raises(ValueError, match=names):
        make()
