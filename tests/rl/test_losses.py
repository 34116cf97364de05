"""Losses and soft values against sums by hand, enumeration and integration."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs import spaces
from m3jax.rl import agents, losses, rollouts

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_ACTIONS, ALPHA = 3, 0.4
OBS = {
    "observation": jnp.array([[0.5, -1.0], [1.5, 0.2]]),
    "action_mask": jnp.array([[True, True, True], [True, False, True]]),
}
BOX = spaces.Box(-2.0, 2.0, (1,))


def random_params(agent, obs):
    """Parameters drawn by NumPy, so that nothing is compiled."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(agent.init, jax.random.key(0), obs)
    return jax.tree.map(
        lambda leaf: jnp.float32(0.5 * rng.normal(size=leaf.shape)), shapes
    )


@functools.cache
def discrete():
    agent = agents.make_agent(spaces.Discrete(NUM_ACTIONS), (8,), 2)
    return agent, random_params(agent, OBS)


@functools.cache
def continuous():
    agent = agents.make_agent(BOX, (8,), 2)
    return agent, random_params(agent, OBS["observation"])


def test_only_termination_stops_the_bootstrap():
    reward, next_value = jnp.array([1.0, 1.0]), jnp.array([10.0, jnp.nan])
    target = losses.td_target(reward, jnp.array([False, True]), 0.9, next_value)
    np.testing.assert_allclose(target, [10.0, 1.0])


def test_critic_loss_adds_up_critics_and_averages_the_batch():
    q = jnp.array([[1.0, 2.0], [0.0, 4.0]])
    target = jnp.array([0.0, 2.0])
    by_hand = 0.5 * ((1 + 0) / 2 + (0 + 4) / 2)
    assert float(losses.critic_loss(q, target)) == by_hand
    assert not jax.grad(losses.critic_loss, argnums=1)(q, target).any()


@pytest.mark.parametrize(("target", "sign"), [(0.2, 1), (0.9, -1)])
def test_temperature_falls_above_the_target_entropy_and_rises_below(target, sign):
    entropy = jnp.array([0.4, 0.6])
    slope = jax.grad(losses.temperature_loss)(jnp.log(2.0), entropy, target)
    np.testing.assert_allclose(slope, 2.0 * (0.5 - target), rtol=1e-5)
    assert np.sign(slope) == sign


def test_discrete_soft_value_is_the_sum_over_valid_actions(key):
    agent, params = discrete()
    actions = jnp.repeat(jnp.arange(NUM_ACTIONS)[:, None], 2, axis=1)

    @jax.jit
    def measure(actor, critic):
        policy = agent.policy(actor, OBS)
        log_p = jax.vmap(policy.log_prob)(actions)
        q = jax.vmap(lambda a: agent.q_values(critic, OBS, a))(actions)
        return agent.soft_value(actor, critic, OBS, ALPHA, key), log_p, q

    (value, entropy), log_p, q = measure(params["actor"], params["critic"])
    for i, row in enumerate(np.asarray(OBS["action_mask"])):
        p, logs = np.exp(log_p[row, i]), log_p[row, i]
        expected = sum(p * (q[row, :, i].min(axis=1) - ALPHA * logs))
        np.testing.assert_allclose(value[i], expected, rtol=1e-5)
        np.testing.assert_allclose(entropy[i], -sum(p * logs), rtol=1e-5)


def test_continuous_soft_value_averages_to_the_integral_over_actions(key):
    agent, params = continuous()
    obs = OBS["observation"]
    num = 4096
    values, entropies = jax.jit(
        jax.vmap(
            lambda k: agent.soft_value(params["actor"], params["critic"], obs, ALPHA, k)
        )
    )(jax.random.split(key, num))
    grid = jnp.tanh(jnp.linspace(-6.0, 6.0, 2001))
    at = jax.jit(
        jax.vmap(
            lambda a: (
                agent.policy(params["actor"], obs).log_prob(jnp.full((2, 1), a)),
                agent.q_values(params["critic"], obs, jnp.full((2, 1), a)).min(axis=0),
            )
        )
    )
    log_p, q = (np.asarray(x, np.float64) for x in at(grid))
    p, a = np.exp(log_p), np.asarray(grid, np.float64)[:, None]
    np.testing.assert_allclose(np.trapezoid(p, a, axis=0), 1.0, atol=1e-3)
    value = np.trapezoid(p * (q - ALPHA * log_p), a, axis=0)
    entropy = -np.trapezoid(p * log_p, a, axis=0)
    for drawn, exact in ((values, value), (entropies, entropy)):
        error = np.std(drawn, axis=0) / np.sqrt(num)
        assert (np.abs(np.mean(drawn, axis=0) - exact) < 5 * error + 1e-3).all()


def test_each_loss_moves_its_own_parameters_alone(key):
    agent, params = continuous()
    batch = rollouts.Transition(
        obs=OBS["observation"],
        action=jnp.zeros((2, 1)),
        reward=jnp.array([1.0, -1.0]),
        next_obs=OBS["observation"][::-1],
        terminated=jnp.array([False, True]),
    )
    target = jax.tree.map(lambda a: 0.5 * a, params["critic"])
    names = ("actor_loss", "critic_loss", "temperature_loss")

    def parts(trained):
        total, metrics = losses.sac_loss(agent, *trained, target, batch, 0.9, 0.1, key)
        each = jnp.stack([metrics[name] for name in names])
        return each, (total, each)

    trained = (params, jnp.log(ALPHA))
    (rows, by_alpha), (total, each) = jax.jit(jax.jacrev(parts, has_aux=True))(trained)

    def moved(tree):
        sizes = [np.abs(a).reshape(3, -1).max(axis=1) for a in jax.tree.leaves(tree)]
        return (np.max(sizes, axis=0) > 0).tolist()

    assert moved(rows["actor"]) == [True, False, False]
    assert moved(rows["critic"]) == [False, True, False]
    assert moved(by_alpha) == [False, False, True]
    np.testing.assert_allclose(total, each.sum(), rtol=1e-6)


def test_actions_fill_the_box_and_targets_are_the_usual_ones():
    agent = continuous()[0]
    np.testing.assert_allclose(
        agent.env_action(jnp.array([[-1.0], [0.5], [1.0]])), [[-2.0], [1.0], [2.0]]
    )
    assert agent.target_entropy == -1.0
    assert discrete()[0].target_entropy == pytest.approx(0.5 * np.log(NUM_ACTIONS))


def test_action_spaces_that_no_agent_has_are_named():
    with pytest.raises(ValueError, match="discrete space or a box, got 'words'"):
        agents.make_agent("words", (8,), 2)
    with pytest.raises(ValueError, match="no finite bounds"):
        agents.make_agent(spaces.Box(-np.inf, 1.0, (2,)), (8,), 2)
