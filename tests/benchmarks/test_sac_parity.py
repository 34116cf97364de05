"""m3jax and Stable-Baselines3 compute the same in the benchmark of SAC."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import sac_m3jax, sac_workload

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = sac_workload.TINY


def test_our_environment_shows_the_table_and_is_truncated():
    env, table = sac_m3jax.Table(TINY), TINY.table()
    assert table.shape[1] == TINY.obs_dim

    def step(state, action):
        _, state, *rest, info = env.step(jax.random.key(0), state, action)
        return state, (info["final_observation"], *rest)

    num = sac_workload.EPISODE + 1
    actions = np.random.default_rng(0).uniform(-1, 1, (num, TINY.action_dim))
    obs, state = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(obs, table[0])
    _, (obs, reward, terminated, truncated) = jax.jit(
        lambda: jax.lax.scan(step, state, jnp.asarray(actions, jnp.float32))
    )()
    times = np.concatenate([np.arange(1, num), [1]])
    np.testing.assert_array_equal(obs, table[times % len(table)])
    np.testing.assert_allclose(reward, -np.mean(actions**2, axis=1), rtol=1e-5)
    assert np.flatnonzero(truncated).tolist() == [sac_workload.EPISODE - 1]
    assert not terminated.any()


def test_a_call_goes_on_with_donated_state():
    step = sac_m3jax.make_step(TINY)
    alphas = [step()["alpha"] for _ in range(3)]
    assert alphas[0] > alphas[1] > alphas[2]


@pytest.fixture
def peer():
    pytest.importorskip("stable_baselines3")
    from benchmarks import sac_sb3

    return sac_sb3


@pytest.mark.slow
def test_both_environments_are_one(peer):
    ours, theirs = sac_m3jax.Table(TINY), peer.TableEnv(TINY)
    step = jax.jit(ours.step)
    obs, state = ours.reset(jax.random.key(0))
    their_obs, _ = theirs.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(sac_workload.EPISODE):
        np.testing.assert_array_equal(obs, their_obs)
        action = rng.uniform(-1, 1, TINY.action_dim).astype(np.float32)
        obs, state, *ends, info = step(jax.random.key(0), state, action)
        their_obs, *their_ends, _ = theirs.step(action)
        np.testing.assert_allclose(ends, their_ends, rtol=1e-5)
        last, obs = obs, info["final_observation"]
    np.testing.assert_array_equal(obs, their_obs)
    np.testing.assert_array_equal(last, theirs.reset()[0])


@pytest.mark.slow
def test_losses_and_gradients_agree(peer):
    from benchmarks import sac

    sac.check(TINY)


@pytest.mark.slow
@pytest.mark.parametrize("constant", ["DISCOUNT", "LOG_STD"])
def test_a_wrong_formula_is_seen(peer, monkeypatch, constant):
    from benchmarks import sac
    from m3jax.rl import agents

    if constant == "DISCOUNT":
        make_model = peer.make_model

        def wrong(*args, **kwargs):
            model = make_model(*args, **kwargs)
            model.gamma = 0.9
            return model

        monkeypatch.setattr(peer, "make_model", wrong)
    else:
        monkeypatch.setattr(agents, "LOG_STD_RANGE", (-10.0, -1.0))
    with pytest.raises(RuntimeError, match=r"differ"):
        sac.check(TINY)


@pytest.mark.slow
def test_a_call_of_the_peer_takes_as_many_steps_and_updates(peer):
    model = peer.make_model(TINY)
    peer.learn(model, TINY.warmup)
    assert (model.num_timesteps, model._n_updates) == (TINY.warmup, 0)
    peer.learn(model, TINY.steps)
    assert model.num_timesteps == TINY.warmup + TINY.steps
    assert model._n_updates == TINY.steps
