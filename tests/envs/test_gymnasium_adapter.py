"""Through Gymnasium's calls an environment does what it does without them."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import error, spaces, vector
from gymnasium.utils import env_checker, seeding

from m3jax.envs import gymnasium_adapter, gymnasium_spaces, gymnasium_vector
from m3jax.envs import spaces as our_spaces
from m3jax.envs.expert_routing import wireless
from m3jax.rl import probes

pytestmark = pytest.mark.usefixtures("quick_compilation")

MASKED = wireless.Wireless(actions="subset", show_mask=True)
HEADS = wireless.Wireless(actions="heads")
# Half of the episodes end at once, the others after two steps.
UNEVEN = probes.two_steps()._replace(start=jnp.array([0.5, 0.5]))
of_unbounded = pytest.mark.filterwarnings("ignore:.*Box observation space m.*infinity")


def gymnasium_env(env, params=None):
    return gymnasium_adapter.GymnasiumEnv(env, params)


def same(a, b):
    """Alike in structure and values; single numbers may have any type."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if np.asarray(x).dtype.kind == "O":
            assert [e is None for e in x] == [e is None for e in y]
            for ours, theirs in zip(x, y, strict=True):
                same(ours, theirs)
        else:
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@of_unbounded
@pytest.mark.parametrize(
    "env",
    [MASKED, pytest.param(HEADS, marks=pytest.mark.slow)],
    ids=["subset", "heads"],
)
def test_gymnasiums_checker_finds_nothing(env):
    env_checker.check_env(gymnasium_env(env), skip_render_check=True)


def test_gymnasiums_checker_finds_nothing_in_an_environment_of_gymnax():
    gymnax = pytest.importorskip("gymnax")
    env = gymnasium_env(*gymnax.make("CartPole-v1"))
    env_checker.check_env(env, skip_render_check=True)
    env.reset(seed=0)
    for i in range(20):
        terminated = env.step(i % 2)[2]
    assert terminated or env.state.time == 20


def test_spaces_are_what_observations_and_actions_are():
    env = gymnasium_env(MASKED)
    assert env.action_space == spaces.Discrete(127)
    inner = env.observation_space.spaces
    assert inner["action_mask"] == spaces.MultiBinary((127,))
    assert inner["observation"] == spaces.Box(-np.inf, np.inf, (30,), np.float32)
    assert gymnasium_env(HEADS).action_space == spaces.Box(0, 1, (2, 7), np.float32)
    obs, _ = env.reset(seed=0)
    # Gymnasium's own way to choose among valid actions.
    env.action_space.seed(0)
    assert env.action_space.sample(mask=obs["action_mask"]) in env.action_space
    with pytest.raises(ValueError, match="not known; use a choice of n"):
        gymnasium_spaces.to_gymnasium("seven numbers")


class Telling(probes.Probe):
    """Tells more: a number, a truth value, an array, and what is within."""

    def step_env(self, key, state, action, params):
        *out, _ = super().step_env(key, state, action, params)
        drawn = jax.random.normal(key, (3,))
        told = {"mean": drawn.mean(), "warm": drawn[0] > 0, "within": {"all": drawn}}
        return *out, told


def test_an_episode_is_that_of_the_environment_within():
    plain = Telling()
    env, reset, step = (
        gymnasium_env(plain, UNEVEN),
        *map(jax.jit, (plain.reset, plain.step)),
    )
    words = seeding.np_random(5)[0].integers(2**32, size=2, dtype=np.uint32)
    key, used = jax.random.split(jax.random.wrap_key_data(words))
    begun, state = reset(used, UNEVEN)
    obs, info = env.reset(seed=5)
    assert info == {}
    for _ in range(20):
        same(obs, begun)
        over = False
        while not over:
            key, used = jax.random.split(key)
            begun, state, reward, *ends, info = step(used, state, 0, UNEVEN)
            obs, *seen, told = env.step(0)
            over = ends[0] or ends[1]
            same(obs, info["final_observation"])
            same(seen, [float(reward), *map(bool, ends)])
            same(told, {name: info[name] for name in ("mean", "warm", "within")})
        # What the last step has begun is the next episode.
        obs, _ = env.reset()


def short_cart_pole():
    gymnax = pytest.importorskip("gymnax")
    env, params = gymnax.make("CartPole-v1")
    return env, params.replace(max_steps_in_episode=3)


SAME_STEP = vector.AutoresetMode.SAME_STEP
MODES = [SAME_STEP, vector.AutoresetMode.NEXT_STEP]


@pytest.mark.parametrize("mode", MODES, ids=["same_step", "next_step"])
@pytest.mark.parametrize(
    "make", [short_cart_pole, lambda: (Telling(), UNEVEN)], ids=["even", "uneven"]
)
def test_many_at_once_are_gymnasiums_loop_over_single_ones(make, mode):
    env, params = make()
    ours = gymnasium_vector.GymnasiumVectorEnv(env, 3, params, autoreset_mode=mode)
    theirs = vector.SyncVectorEnv(
        [lambda: gymnasium_env(env, params)] * 3, autoreset_mode=mode
    )
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata == theirs.metadata
    ours.action_space.seed(1)
    for seed in (7, None, [3, None, 5]):
        same(ours.reset(seed=seed), theirs.reset(seed=seed))
        for _ in range(5):
            actions = ours.action_space.sample()
            same(ours.step(actions), theirs.step(actions))
    assert repr(ours) == "GymnasiumVectorEnv(num_envs=3)"


@pytest.mark.parametrize(
    "wrapper", ["NormalizeObservation", "NormalizeReward", "RecordEpisodeStatistics"]
)
def test_gymnasiums_vector_wrappers_see_what_they_see_of_its_own_loop(wrapper):
    env, params = probes.Probe(continuous=True), probes.time_limit()
    mode = vector.AutoresetMode.NEXT_STEP
    wrap = getattr(gymnasium.wrappers.vector, wrapper)
    ours = wrap(
        gymnasium_vector.GymnasiumVectorEnv(env, 2, params, autoreset_mode=mode)
    )
    theirs = wrap(
        vector.SyncVectorEnv(
            [lambda: gymnasium_env(env, params)] * 2, autoreset_mode=mode
        )
    )
    np.testing.assert_allclose(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    for _ in range(9):
        found, wanted = (
            one.step(np.ones((2, 1), np.float32)) for one in (ours, theirs)
        )
        for mine, other in zip(found[:4], wanted[:4], strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
        for name in ("r", "l"):
            told = [one[4].get("episode", {}).get(name, 0) for one in (found, wanted)]
            np.testing.assert_allclose(*told, rtol=1e-5)


def test_both_modes_play_the_same_episodes():
    same_step, next_step = (
        gymnasium_vector.GymnasiumVectorEnv(Telling(), 3, UNEVEN, autoreset_mode=mode)
        for mode in ("SameStep", "NextStep")
    )
    first = [envs.reset(seed=0)[0]["observation"] for envs in (same_step, next_step)]
    np.testing.assert_array_equal(*first)
    actions = np.zeros(3, int)
    shown, over = [], np.zeros(3, bool)
    for _ in range(12):
        obs, rewards, terminated, truncated, infos = next_step.step(actions)
        # A step that begins an episode earns and tells nothing.
        assert not (rewards[over].any() or terminated[over].any())
        if not over.all():
            np.testing.assert_array_equal(infos["_mean"], ~over)
        over = terminated | truncated
        shown.append(obs["observation"][:, 0])
    shown = np.array(shown)
    for i in range(3):
        played = [first[0][i, 0]]
        stepped = gymnasium_vector.GymnasiumVectorEnv(Telling(), 3, UNEVEN, SAME_STEP)
        stepped.reset(seed=0)
        for _ in range(6):
            obs, *_, infos = stepped.step(actions)
            if "final_obs" in infos and infos["_final_obs"][i]:
                played.append(infos["final_obs"][i]["observation"][0])
            played.append(obs["observation"][i, 0])
        np.testing.assert_array_equal(shown[: len(played) - 1, i], played[1:])


def test_a_mode_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="autoreset_mode must be one of .*NEXT_STEP"):
        gymnasium_vector.GymnasiumVectorEnv(
            probes.Probe(), 2, autoreset_mode=vector.AutoresetMode.DISABLED
        )


def test_ends_at_different_times_show_the_last_and_the_first_observations():
    envs = gymnasium_vector.GymnasiumVectorEnv(probes.Probe(), 8, UNEVEN, SAME_STEP)
    obs, _ = envs.reset(seed=0)
    at_once = obs["observation"][:, 0] == 1
    assert 0 < at_once.sum() < 8
    obs, rewards, terminated, truncated, infos = envs.step(np.zeros(8, int))
    np.testing.assert_array_equal(terminated, at_once)
    np.testing.assert_array_equal(rewards, at_once)
    np.testing.assert_array_equal(infos["_final_obs"], at_once)
    assert not truncated.any()
    for last, ended in zip(infos["final_obs"], at_once, strict=True):
        assert last["observation"] == 1 if ended else last is None
    assert (obs["observation"][~at_once] == 1).all()


def test_a_seed_fixes_all_that_follows():
    env = gymnasium_env(MASKED)

    def play(seed):
        seen = [env.reset(seed=seed)[0], env.step(0)[0], env.step(0)[0]]
        seen += [env.reset()[0], env.step(0)[0], env.reset()[0]]
        return np.array([obs["observation"] for obs in seen])

    first, again, other = play(1), play(1), play(2)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=1).all()
    assert len(np.unique(first, axis=0)) == len(first)


@pytest.fixture
def counted():
    """An environment, and a list of what of it has been traced."""
    traced = []

    class Counted(probes.Probe):
        def reset_env(self, key, params):
            traced.append("reset")
            return super().reset_env(key, params)

        def step_env(self, key, state, action, params):
            traced.append("step")
            return super().step_env(key, state, action, params)

    return Counted(), traced


# A step holds a reset.
ONCE = ["reset", "step", "reset"]


def test_one_trace_serves_all_episodes_and_parameters(counted):
    for _ in range(2):  # A second one is not compiled again.
        env = gymnasium_env(counted[0], UNEVEN)
        env.reset(seed=0)
        for action in (0, np.int32(0), np.array(0), np.uint8(0)):
            if env.step(action)[2]:
                env.reset()
        env.reset(options={"params": probes.time_limit()})
        assert [env.step(0)[3] for _ in range(3)] == [False, False, True]
        assert counted[1] == ONCE


def test_one_trace_serves_many_environments(counted):
    envs = gymnasium_vector.GymnasiumVectorEnv(counted[0], 2, UNEVEN)
    for seed in (0, None, [1, 2]):
        envs.reset(seed=seed)
        envs.step([0, 0])
    envs.reset(options={"params": probes.time_limit()})
    envs.step(np.zeros(2, np.int32))
    # Under vmap the branch that resets is traced for one, and for all.
    assert counted[1] == [*ONCE, "reset"]


@pytest.mark.parametrize(
    ("env", "action", "message"),
    [
        (MASKED, 127, "must be in Discrete.127., got 127"),
        (MASKED, -1, "must be in Discrete.127., got -1"),
        (MASKED, 3.0, "must be in Discrete.127., got 3.0"),
        (MASKED, [3], r"got \[3\] of shape \(1,\)"),
        (HEADS, np.ones(7), r"\(2, 7\), float32.*of shape \(7,\)"),
        (wireless.Wireless(), np.full(7, 1.01), r"Box\(0.0, 1.0, \(7,\)"),
        (wireless.Wireless(), np.full(7, np.nan), "got .nan"),
        (wireless.Wireless(), "left", "got 'left'"),
    ],
)
def test_an_invalid_action_is_one_clear_error(env, action, message):
    env = gymnasium_env(env)
    env._over = False  # Checked before anything is compiled.
    with pytest.raises(error.InvalidAction, match=f"the action .*{message}"):
        env.step(action)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 127, 0], "the action of environment 1 must be in Discrete"),
        ([0, 0], r"shape \(3,\), one for each environment, got \(2,\)"),
        ([0.0, 0.0, 0.0], "the action of environment 0 must be in Discrete"),
    ],
)
def test_the_environment_of_an_invalid_action_is_named(actions, message):
    envs = gymnasium_vector.GymnasiumVectorEnv(MASKED, 3)
    envs.state = ()  # Checked before anything is compiled.
    with pytest.raises(error.InvalidAction, match=message):
        envs.step(actions)


def test_a_step_needs_a_running_episode():
    env = gymnasium_env(probes.Probe(), probes.acting())
    with pytest.raises(error.ResetNeeded, match="call reset"):
        env.step(0)
    env.reset(seed=0)
    assert env.step(0)[2]
    with pytest.raises(error.ResetNeeded, match="call reset"):
        env.step(0)
    envs = gymnasium_vector.GymnasiumVectorEnv(probes.Probe(), 2)
    with pytest.raises(error.ResetNeeded, match="call reset"):
        envs.step([0, 0])


def test_what_a_reset_does_not_know_is_refused():
    env = gymnasium_env(probes.Probe())
    with pytest.raises(ValueError, match=r"options \['params'\], not \['speed'\]"):
        env.reset(options={"speed": 3})
    larger = jax.tree.map(lambda x: jnp.stack([x, x]), probes.constant())
    with pytest.raises(ValueError, match="structure and the shapes"):
        env.reset(options={"params": larger})
    with pytest.raises(ValueError, match="num_envs must be 1 or more"):
        gymnasium_vector.GymnasiumVectorEnv(probes.Probe(), 0)
    envs = gymnasium_vector.GymnasiumVectorEnv(probes.Probe(), 2)
    with pytest.raises(ValueError, match="3 seeds for 2 environments"):
        envs.reset(seed=[1, 2, 3])


def test_arrays_may_be_written():
    envs = gymnasium_vector.GymnasiumVectorEnv(probes.Probe(), 8, UNEVEN)
    actions = np.zeros(8, int)
    outputs = [envs.reset(seed=0), envs.step(actions), envs.step(actions)]
    for x in jax.tree.leaves(outputs):
        assert isinstance(x, np.ndarray) and x.flags.writeable


def test_gymnasiums_wrappers_go_around_it():
    env = gymnasium.wrappers.TimeLimit(gymnasium_env(MASKED), 2)
    env = gymnasium.wrappers.RecordEpisodeStatistics(env)
    env.reset(seed=0)
    rewards = [env.step(0)[1]]
    *_, truncated, info = env.step(0)
    assert truncated and info["episode"]["l"] == 2
    assert info["episode"]["r"] > rewards[0] > 0


def test_spaces_of_truth_values_sample_what_they_contain(key):
    space = our_spaces.Binary((100,))
    drawn = space.sample(key)
    assert drawn.dtype == space.dtype and bool(space.contains(drawn))
    assert 20 < int(drawn.sum()) < 80
    assert not bool(space.contains(jnp.full(100, 2)))
