"""SAC on probes with exact values, through the one host loop, and on gymnax."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from m3jax.rl import populations, probes, rollouts, sac, sac_config
from m3jax.train import checkpoints, loop, sources
from m3jax.train import config as train_config

GAMMA, TARGET_ENTROPY = 0.5, 0.4
SMALL = sac_config.SacConfig(
    hidden=(32,),
    num_envs=8,
    chunk=500,
    batch_size=64,
    capacity=1024,
    warmup=512,
    learning_rate=0.01,
    discount=GAMMA,
    tau=0.1,
    target_entropy=TARGET_ENTROPY,
    initial_temperature=0.5,
)
TABLES = (
    probes.constant(),
    probes.observed(),
    probes.two_steps(),
    probes.acting(),
    probes.acting_on_observed(),
    probes.time_limit(),
)
STACKED = jax.tree.map(lambda *leaves: jnp.stack(leaves), *TABLES)


@pytest.fixture(scope="module")
def learned(quick_compilation):
    """State, Q [S, A] and policy [S, A] of each probe, all learned in one program."""
    env = probes.Probe()
    agent = sac.make_agent(SMALL, env)

    def train(table, key):
        init_key, step_key = jax.random.split(key)
        learner = sac.make_sac(SMALL, env, table)
        state, _ = learner.step(learner.init(init_key), (), step_key)
        obs = {"observation": table.observation, "action_mask": table.valid}
        q = [
            agent.q_values(state.params["critic"], obs, jnp.full(2, action))
            for action in range(2)
        ]
        probs = agent.policy(state.params["actor"], obs).probs
        return state, jnp.stack(q, axis=-1), probs

    keys = jax.random.split(jax.random.key(0), len(TABLES))
    return jax.device_get(jax.jit(jax.vmap(train))(STACKED, keys))


@pytest.mark.parametrize("i", range(len(TABLES)))
def test_probe_is_valued_exactly(learned, i):
    state, q, _ = jax.tree.map(lambda leaf: leaf[i], learned)
    alpha = np.exp(state.extra.log_alpha)
    expected = probes.soft_q(TABLES[i], GAMMA, float(alpha))
    shown = np.asarray(TABLES[i].valid)
    if i in (0, 3):  # Their second state is never seen.
        shown = shown & [[True], [False]]
    for critic in q:
        np.testing.assert_allclose(critic[shown], expected[shown], atol=0.06)


def test_temperature_gives_the_policy_the_target_entropy(learned):
    # With Q of -1 and 1 the better action has probability sigmoid(2 / alpha).
    p = optimize.brentq(
        lambda p: special.entr(p) + special.entr(1 - p) - TARGET_ENTROPY, 0.5, 1 - 1e-9
    )
    state, _, probs = jax.tree.map(lambda leaf: leaf[4], learned)
    np.testing.assert_allclose(probs, [[p, 1 - p], [1 - p, p]], atol=0.04)
    alpha = 2 / (np.log(p) - np.log1p(-p))
    np.testing.assert_allclose(np.exp(state.extra.log_alpha), alpha, rtol=0.1)


def test_masked_action_is_never_taken(learned):
    state, _, probs = learned
    actions = np.asarray(state.extra.replay.items.action)
    for i in (0, 1, 2, 5):
        assert (actions[i] == 0).all()
        assert (probs[i] == [[1, 0], [1, 0]]).all()
    assert 0 < actions[3].mean() < 1


def test_targets_follow_the_critics(learned):
    # A slow average of critics that have settled is close to them, and not the same.
    state, _, _ = learned
    critic, target = state.params["critic"], state.extra.target_critic
    gaps = [
        np.abs(a - b).max()
        for a, b in zip(jax.tree.leaves(critic), jax.tree.leaves(target), strict=True)
    ]
    assert 0 < max(gaps) < 0.3


def test_population_with_two_discounts_learns_both_values_and_resumes_exactly(
    quick_compilation, compiled_once, tmp_path
):
    # Each state pays 1 for one end of the box and 0 for the other, and episodes are
    # cut every three steps: the best value is 1 / (1 - gamma), in either state.
    table = probes.time_limit()._replace(reward=jnp.array([[0.0, 1.0], [1.0, 0.0]]))
    settings = dataclasses.replace(
        SMALL,
        chunk=300,
        capacity=8192,
        target_entropy=-10.0,
        initial_temperature=0.01,
    )
    env = probes.Probe(continuous=True)
    agent = sac.make_agent(settings, env)
    discounts = np.array([0.3, 0.6])
    hypers = sac_config.spread(
        sac_config.make_hyper(settings, 0.0), 2, discount=discounts
    )
    learner = populations.make_population(
        lambda hyper: sac.make_sac(settings, env, table, hyper), hypers
    )

    def fit(directory, **options):
        with checkpoints.Checkpointer(directory, keep=3) as saves:
            return loop.fit(
                learner,
                sources.NoBatches(),
                train_config.TrainConfig(3, log_every=1, checkpoint_every=1),
                key=jax.random.key(5),
                checkpointer=saves,
                show_progress=False,
                **options,
            )

    whole = fit(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole" / "1", tmp_path / "broken_off" / "1")
    resumed = fit(tmp_path / "broken_off", resume=True)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    assert int(whole.step) == 3

    def values(place):
        critic, obs = whole.params["critic"], table.observation
        by_member = jax.vmap(agent.q_values, in_axes=(0, None, None))
        return by_member(critic, obs, jnp.full((2, 1), place))

    later = (discounts / (1 - discounts))[:, None, None]
    found = jax.jit(jax.vmap(values))(jnp.array([-1.0, 0.0, 1.0]))
    for q, rewards in zip(found, [(0, 1), (0.5, 0.5), (1, 0)], strict=True):
        np.testing.assert_allclose(
            q - later, np.broadcast_to(rewards, q.shape), atol=0.1
        )
    assert (np.asarray(whole.extra.rollout.finished_return) > 2.5).all()


def test_no_key_is_used_twice(key):
    learner = sac.make_sac(SMALL, probes.Probe())
    state = jax.eval_shape(learner.init, key)

    def step(key):
        fresh = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)
        return learner.step(fresh, (), key)

    with jax.debug_key_reuse(True):
        jax.jit(learner.init).trace(key)
        jax.jit(step).trace(key)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_envs", 0),
        ("updates", 1.5),
        ("discount", 1.1),
        ("tau", 0.0),
        ("learning_rate", float("nan")),
        ("target_entropy", float("inf")),
        ("capacity", 1023),
        ("warmup", 4096),
    ],
)
def test_setting_that_makes_no_sense_is_named(field, value):
    bad = dataclasses.replace(SMALL, **{field: value})
    with pytest.raises(ValueError, match=f"sac.{field}"):
        sac.make_sac(bad, probes.Probe())


def test_spread_names_what_it_does_not_know():
    hyper = sac_config.make_hyper(SMALL, 0.0)
    assert sac_config.spread(hyper, 3, tau=[0.1, 0.2, 0.3]).tau.shape == (3,)
    with pytest.raises(ValueError, match="not 'gamma'"):
        sac_config.spread(hyper, 2, gamma=[0.1, 0.2])
    with pytest.raises(ValueError, match="tau needs 3 values"):
        sac_config.spread(hyper, 3, tau=[0.1, 0.2])


@pytest.mark.slow
def test_member_of_a_population_is_the_learner_alone(key):
    settings = dataclasses.replace(SMALL, chunk=20)
    env = probes.Probe()
    hypers = sac_config.spread(
        sac_config.make_hyper(settings, 0.0), 2, learning_rate=[1e-3, 1e-2]
    )
    many = populations.make_population(
        lambda hyper: sac.make_sac(settings, env, hyper=hyper), hypers
    )
    states, metrics = jax.jit(many.step)(jax.jit(many.init)(key), (), key)
    for i in range(2):
        hyper = jax.tree.map(lambda leaf, i=i: leaf[i], hypers)
        alone = sac.make_sac(settings, env, None, hyper)
        own_key = jax.random.split(key, 2)[i]
        state, own = jax.jit(alone.step)(jax.jit(alone.init)(own_key), (), own_key)
        member = jax.tree.map(lambda leaf, i=i: leaf[i], states._replace(step=()))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
            member,
            state._replace(step=()),
        )
        for name, value in own.items():
            np.testing.assert_allclose(metrics[f"{name}/{i}"], value, rtol=1e-3)


def returns_after_training(name, settings, steps):
    """Trains on a gymnax environment, then plays without noise."""
    gymnax = pytest.importorskip("gymnax")
    env, params = gymnax.make(name)
    state = loop.fit(
        sac.make_sac(settings, env, params),
        sources.NoBatches(),
        train_config.TrainConfig(steps, log_every=5),
        key=jax.random.key(0),
        show_progress=False,
    )
    act = sac.make_act(sac.make_agent(settings, env, params), state.params["actor"])
    length = int(params.max_steps_in_episode)
    return rollouts.evaluate(env, params, act, jax.random.key(1), 16, length)


@pytest.mark.slow
def test_pendulum_is_swung_up_and_held():
    settings = sac_config.SacConfig(
        hidden=(64, 64),
        num_envs=4,
        updates=2,
        chunk=1000,
        batch_size=128,
        capacity=65_536,
        learning_rate=1e-3,
        tau=0.01,
    )
    # Random actions earn about -1200; never falling again after the swing about -150.
    returns = returns_after_training("Pendulum-v1", settings, 8)
    assert np.mean(returns) > -250


@pytest.mark.slow
def test_cartpole_is_balanced_to_the_time_limit():
    settings = sac_config.SacConfig(
        hidden=(64, 64),
        num_envs=4,
        updates=2,
        chunk=1000,
        batch_size=128,
        capacity=16_384,
        learning_rate=1e-3,
        tau=0.02,
        target_entropy=0.35,
    )
    # Random actions last about 22 steps; the limit is 500.
    returns = returns_after_training("CartPole-v1", settings, 14)
    assert np.mean(returns) > 450
