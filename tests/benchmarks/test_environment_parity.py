"""m3jax and NumPy compute the same thing in the benchmark of environments."""

import jax
import numpy as np
import pytest
from gymnasium.utils import env_checker

from benchmarks import environment, environment_m3jax, environment_numpy
from m3jax.envs.expert_routing import rewards

# A peer that is stepped one by one takes its time.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]

PARAMS = environment.PARAMS


def test_steps_are_the_same_given_the_same_noise():
    environment_m3jax.check(num_envs=32)


@pytest.mark.slow
def test_a_wrong_formula_is_seen(monkeypatch):
    right = rewards.entropy
    monkeypatch.setattr(rewards, "entropy", lambda p: 1.01 * right(p))
    jax.clear_caches()
    with pytest.raises(RuntimeError, match="(channel|concentration|balance) differs"):
        environment_m3jax.check(num_envs=8)
    monkeypatch.undo()
    jax.clear_caches()


def test_one_environment_is_a_batch_of_one():
    worlds = [environment_numpy.World(PARAMS, shape) for shape in ((), (1,))]
    seen = []
    for world in worlds:
        rng = np.random.default_rng(0)
        outputs = [world.reset(rng)]
        for action in environment_m3jax.draw_actions(3, 7, *world.batch):
            obs, reward, over, parts = world.step(action, world.draw(rng))
            outputs += [obs, reward, *parts.values()]
            assert not over
        seen.append([np.ravel(x) for x in outputs])
    for one, batch in zip(*seen, strict=True):
        np.testing.assert_allclose(one, batch, rtol=1e-5, atol=1e-6)


def test_episodes_begin_alike():
    num_envs = 4000
    ours = environment_m3jax.begin(PARAMS, jax.random.key(0), num_envs, axis=-1)
    peer = environment_numpy.World(PARAMS, (num_envs,))
    peer.reset(np.random.default_rng(0))
    pairs = (
        (np.asarray(ours.history[0]), peer.history[0]),
        (np.asarray(ours.radio.shadow_db), peer.shadow_db),
    )
    for a, b in pairs:
        # Six standard errors of 28,000 numbers.
        assert abs(a.mean() - b.mean()) < 6 * a.std() * (2 / a.size) ** 0.5
        assert a.std() == pytest.approx(b.std(), rel=0.05)


@pytest.mark.filterwarnings("ignore:.*Box observation space m.*infinity")
def test_numpys_environment_keeps_gymnasiums_contract():
    env = environment_numpy.NumpyEnv(PARAMS)
    env_checker.check_env(env, skip_render_check=True)


@pytest.mark.slow
def test_all_sides_play_to_like_rewards_at_the_tiny_size():
    workload = environment.TINY
    sides = (
        ((1, workload.one), environment.one_environment(workload.one), 3),
        *(
            (size, environment.many_environments(*size, peer), 4)
            for size, peer in (
                (workload.many, environment.SYNC),
                (workload.batch, environment.BATCH),
            )
        ),
    )
    for size, calls, count in sides:
        assert len(calls) == count
        environment.check_rewards(calls, size)


def test_unlike_rewards_are_seen():
    calls = {"a": lambda: 40.0, "b": lambda: 60.0}
    with pytest.raises(RuntimeError, match="mean rewards"):
        environment.check_rewards(calls, (100, 1))
