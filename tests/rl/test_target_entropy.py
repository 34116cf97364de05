"""Temperatures with masked actions, and with few of them: bounded, and exact."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from m3jax.envs.expert_routing import events, routing
from m3jax.rl import agents, losses, probes, sac, sac_config
from m3jax.systems.m3llm import ce_sac

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = sac_config.SacConfig(
    hidden=(16,),
    num_envs=4,
    chunk=200,
    capacity=1024,
    warmup=64,
    batch_size=32,
    learning_rate=1e-2,
)


def bandit(rewards, num_actions):
    """One state, one step; the actions beyond those with rewards are masked."""
    reward = np.zeros((1, num_actions), np.float32)
    reward[0, : len(rewards)] = rewards
    return probes.Table(
        observation=jnp.ones((1, 1)),
        start=jnp.ones(1),
        next_state=jnp.zeros((1, num_actions), jnp.int32),
        reward=jnp.asarray(reward),
        terminated=jnp.ones((1, num_actions), bool),
        valid=jnp.arange(num_actions)[None] < len(rewards),
        max_steps=jnp.int32(10),
    )


def exact_temperature(rewards, target):
    """At which a softmax of the rewards has the target entropy."""

    def excess(log_alpha):
        p = special.softmax(np.asarray(rewards) / np.exp(log_alpha))
        return special.entr(p).sum() - target

    return np.exp(optimize.brentq(excess, -8.0, 8.0))


def train(table, config, steps):
    learner = sac.make_sac(config, probes.Probe(), table)
    state, step = learner.init(jax.random.key(0), ()), jax.jit(learner.step)
    told = []
    for i in range(steps):
        state, metrics = step(state, (), jax.random.key(i + 1))
        told.append(metrics)
    return state, jax.tree.map(lambda *x: np.array(x), *told)


def test_masked_actions_leave_the_temperature_where_it_belongs():
    """Six valid of eight: 0.98 log 8 is above log 6, and nothing can reach it."""
    table = bandit([0.0] * 6, 8)._replace(terminated=jnp.zeros((1, 8), bool))
    _, told = train(table, SMALL, 6)
    assert told["alpha"].max() <= 1.0 and np.isfinite(told["critic_loss"]).all()
    # Nothing to choose between: the policy stays uniform over the six.
    np.testing.assert_allclose(told["entropy"][2:], np.log(6.0), atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("num_actions", [4, 8])
@pytest.mark.parametrize(
    "rewards", [(-1.0, 1.0), (0.0, 0.5, 2.0)], ids=["two", "three"]
)
def test_the_temperature_is_the_exact_one_of_the_valid_actions(rewards, num_actions):
    config = dataclasses.replace(SMALL, batch_size=64, tau=0.1)
    _, told = train(bandit(rewards, num_actions), config, 12)
    target = agents.ENTROPY_RATIO * np.log(len(rewards))
    np.testing.assert_allclose(told["entropy"][-4:].mean(), target, atol=0.03)
    exact = exact_temperature(rewards, target)
    np.testing.assert_allclose(told["alpha"][-4:].mean(), exact, rtol=0.15)


def test_the_target_of_a_state_is_a_share_of_what_its_mask_leaves():
    """An oracle by counting, over masks as events bring them."""
    params = events.all_on()._replace(failure_rate=0.3)

    def masks(key):
        wrong = events.start(7)
        live = events.advance(key, wrong, jnp.int32(1), params).live
        members = routing.subset_actions(7)
        return ~jnp.any(members & ~live, axis=1)

    valid = jax.jit(jax.vmap(masks))(jax.random.split(jax.random.key(0), 64))
    valid = np.asarray(valid)
    assert 1 < len(set(valid.sum(1)))
    agent = agents.make_discrete(127, (8,), 2)
    share = agent.reachable({"observation": None, "action_mask": jnp.asarray(valid)})
    np.testing.assert_allclose(share, np.log(valid.sum(1)) / np.log(127), rtol=1e-6)
    assert agent.reachable(jnp.zeros((2, 3))) is None

    log_alpha, entropy = jnp.float32(0.3), jnp.asarray(0.5 * np.log(valid.sum(1)))
    slope = jax.grad(losses.temperature_loss)
    # At the target exactly: nothing moves. Without the masks it would rise.
    assert abs(slope(log_alpha, entropy, agent.target_entropy, share)) < 1e-5
    assert slope(log_alpha, entropy, agent.target_entropy) < -1e-2


@pytest.mark.parametrize("relaxation", ce_sac.RELAXATIONS)
def test_both_heads_of_ce_sac_can_reach_their_target_under_any_mask(relaxation):
    config = ce_sac.CeSacConfig(relaxation=relaxation, entropy_ratio=1.0)
    agent = ce_sac.make_agent(config, 7, 1.0)
    live = jnp.arange(7) < jnp.arange(1, 8)[:, None]
    obs = {"observation": jnp.zeros((7, 5)), "action_mask": live}
    params = jax.tree.map(jnp.zeros_like, agent.init(jax.random.key(0), obs))
    largest = agent.policy(params["actor"], obs).entropy()
    found = np.asarray(agent.reachable(obs))[:, None] * np.asarray(agent.target_entropy)
    np.testing.assert_allclose(found, largest, rtol=1e-5, atol=1e-6)
    assert agent.reachable(jnp.zeros((7, 5))) is None


def test_a_target_that_no_policy_has_is_refused():
    config = dataclasses.replace(SMALL, target_entropy=0.7)
    with pytest.raises(ValueError, match="target_entropy=0.7 is above .* of 2 actions"):
        sac.make_sac(config, probes.Probe(), probes.acting())
