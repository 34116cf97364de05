"""Rollouts and probes: transitions by hand, values in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.rl import probes, rollouts

pytestmark = pytest.mark.usefixtures("quick_compilation")


def stack(*tables):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *tables)


def first_action(obs, key):
    del key
    action = jnp.zeros(obs["observation"].shape[0], jnp.int32)
    return action, action


@pytest.fixture(scope="module")
def played(quick_compilation):
    """Six steps of two environments: of `time_limit`, then of `two_steps`."""
    env = probes.Probe()

    def run(table, key):
        begin, go = jax.random.split(key)
        rollout = rollouts.start(env, table, begin, 2)
        return rollouts.collect(env, table, first_action, rollout, go, 6)

    tables = stack(probes.time_limit(), probes.two_steps())
    rollout, seen = jax.jit(jax.vmap(run))(tables, jax.random.split(jax.random.key(1)))
    by_time = jax.tree.map(lambda a: np.asarray(a).reshape(2, 6, 2, *a.shape[2:]), seen)
    return [jax.tree.map(lambda a, i=i: a[i], (rollout, by_time)) for i in range(2)]


def both(values):
    """The same for both environments."""
    return np.stack([values, values], axis=-1)


def test_transitions_at_a_time_limit_keep_the_last_observation(played):
    rollout, seen = played[0]
    shown, after = (o["observation"][..., 0] for o in (seen.obs, seen.next_obs))
    np.testing.assert_array_equal(shown, both([0, 1, 0, 0, 1, 0]))
    np.testing.assert_array_equal(after, both([1, 0, 1, 1, 0, 1]))
    np.testing.assert_array_equal(seen.reward, both([0, 1, 0, 0, 1, 0]))
    assert not seen.terminated.any()
    np.testing.assert_array_equal(rollout.obs["observation"], [[0], [0]])
    np.testing.assert_array_equal(rollout.finished_return, [1, 1])
    np.testing.assert_array_equal(rollout.running_return, [0, 0])


def test_termination_is_told_and_returns_are_summed_by_episode(played):
    rollout, seen = played[1]
    np.testing.assert_array_equal(seen.terminated, both([False, True] * 3))
    np.testing.assert_array_equal(seen.reward, both([0, 1] * 3))
    np.testing.assert_array_equal(rollout.finished_return, [1, 1])


def test_evaluation_counts_the_first_episode_alone(key):
    env = probes.Probe()
    tables = stack(probes.two_steps(), probes.time_limit(), probes.constant())
    run = jax.vmap(lambda t: rollouts.evaluate(env, t, first_action, key, 2, 7))
    np.testing.assert_array_equal(jax.jit(run)(tables), np.ones((3, 2)))


def test_start_states_are_drawn_as_the_table_says(key):
    env, table = probes.Probe(), probes.observed()
    rollout = jax.jit(lambda k: rollouts.start(env, table, k, 4096))(key)
    shown = np.asarray(rollout.obs["observation"])
    assert set(np.unique(shown)) == {-1.0, 1.0}
    assert abs(shown.mean()) < 5 / np.sqrt(4096)


def test_continuous_actions_mix_the_rewards_of_two(key):
    env, table = probes.Probe(continuous=True), probes.acting()

    @jax.jit
    def rewards(actions):
        obs, state = env.reset(key, table)
        step = jax.vmap(lambda action: env.step(key, state, action, table))
        return obs, step(actions[:, None])

    obs, out = rewards(jnp.array([-2.0, 0.0, 1.0, 2.0]))
    assert obs.shape == (1,)
    np.testing.assert_allclose(out[2], [-1.0, 0.0, 0.5, 1.0], atol=1e-6)
    assert np.asarray(out[3]).all()


def test_exact_values_have_their_closed_forms():
    gamma, alpha = 0.8, 0.3
    first = {
        "constant": probes.soft_q(probes.constant(), gamma, alpha)[0, 0],
        "two_steps": probes.soft_q(probes.two_steps(), gamma, alpha)[0, 0],
    }
    assert first == pytest.approx({"constant": 1.0, "two_steps": gamma})
    observed = probes.soft_q(probes.observed(), gamma, alpha)
    np.testing.assert_allclose(observed[:, 0], [-1, 1])
    acting = probes.soft_q(probes.acting(), gamma, alpha)
    np.testing.assert_allclose(acting[0], [-1, 1])
    endless = probes.soft_q(probes.time_limit(), gamma, alpha)
    np.testing.assert_allclose(
        endless[:, 0], np.array([gamma, 1]) / (1 - gamma**2), rtol=1e-9
    )


def test_exact_values_of_a_free_choice_hold_its_entropy():
    # Two equal actions for ever: each step adds alpha log 2 to the value.
    gamma, alpha = 0.8, 0.3
    table = probes.time_limit()._replace(
        valid=jnp.ones((2, 2), bool), reward=jnp.ones((2, 2))
    )
    value = (1 + gamma * alpha * np.log(2)) / (1 - gamma)
    np.testing.assert_allclose(probes.soft_q(table, gamma, alpha), value, rtol=1e-9)


def test_gymnax_environment_is_stepped_as_in_a_plain_loop(key):
    gymnax = pytest.importorskip("gymnax")
    env, params = gymnax.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=4)

    def push_right(obs, key):
        del key
        action = jnp.ones(obs.shape[0], jnp.int32)
        return action, action

    @jax.jit
    def run(key):
        begin, go = jax.random.split(key)
        begun = rollouts.start(env, params, begin, 1)
        return begun, *rollouts.collect(env, params, push_right, begun, go, 6)

    @jax.jit
    def plain_step(state):
        return env.step_env(key, state, 1, params)[:3]

    begun, rollout, seen = run(key)
    state = jax.tree.map(lambda leaf: leaf[0], begun.env_state)
    for i in range(4):
        obs, state, reward = plain_step(state)
        np.testing.assert_allclose(seen.next_obs[i], obs, rtol=1e-5, atol=1e-6)
        assert float(seen.reward[i]) == float(reward)
    np.testing.assert_array_equal(seen.obs[1:4], seen.next_obs[:3])
    # After four steps the time is over, and the next episode begins elsewhere.
    assert not np.allclose(seen.obs[4], seen.next_obs[3])
    np.testing.assert_array_equal(seen.obs[5], seen.next_obs[4])
    assert not np.asarray(seen.terminated).any()
    np.testing.assert_array_equal(rollout.finished_return, [4.0])
