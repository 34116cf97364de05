"""The router's environment: what it shows, and that the links are those inside."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs.expert_routing import policies
from m3jax.nn import state_space
from m3jax.systems.m3llm import playing, routing_env

pytestmark = pytest.mark.usefixtures("quick_compilation")

PLAIN = routing_env.RoutingEnv()
ASEM = state_space.StateSpace(2, fast_dim=3, slow_dim=2, hidden_dim=4)
FILTERED = routing_env.RoutingEnv(asem=ASEM)
WITHOUT_MCP = routing_env.RoutingEnv(uses_mcp=False)
IDLE = jnp.ones((2, 2))
FILTER = jax.jit(functools.partial(ASEM.apply, method="filter"))


def run(env, params, key, num=5):
    """Observations and states of some steps, [T, ...]."""

    def body(carry, key):
        obs, state, *_ = env.step_env(key, carry[1], IDLE, params)
        return (obs, state), (obs, state)

    @jax.jit
    def play():
        begun = env.reset_env(key, params)
        return jax.lax.scan(body, begun, jax.random.split(key, num))[1]

    return play()


def test_state_is_features_tag_mask_and_links(key, tiny_world):
    params = tiny_world.make_params()
    obs, state = run(PLAIN, params, key)
    view = PLAIN.inner.view(state.seen, params.wireless)
    task, example = np.asarray(state.wireless.task), np.asarray(state.example)
    bank = [np.asarray(rows)[task, example] for rows in params.bank]
    expected = np.concatenate([*bank, view.snr, view.reported], axis=1)
    np.testing.assert_allclose(obs["observation"], expected, atol=1e-6)
    width = PLAIN.observation_space(params)["observation"].shape
    assert obs["observation"].shape[1:] == width


def test_only_experts_that_live_and_pass_are_valid(key, tiny_world):
    params = tiny_world.make_params()
    obs, state = run(PLAIN, params, key, 40)
    task, example = np.asarray(state.wireless.task), np.asarray(state.example)
    mask = np.asarray(params.bank.mask)[task, example]
    assert not mask.all()
    np.testing.assert_array_equal(obs["action_mask"], mask)
    wireless = params.wireless
    broken = wireless._replace(
        events=wireless.events._replace(failing_expert=0, fails_at=1)
    )
    obs, state = run(PLAIN, params._replace(wireless=broken), key, 40)
    task, example = np.asarray(state.wireless.task), np.asarray(state.example)
    alone = np.asarray(params.bank.mask)[task, example, 1]
    # Where nobody passes who lives, all who live are valid.
    assert not alone.all()
    np.testing.assert_array_equal(obs["action_mask"], np.tile([False, True], (40, 1)))


def test_without_mcp_there_is_no_tag_and_everybody_passes(key, tiny_world):
    params = tiny_world.make_params()
    obs, _ = run(WITHOUT_MCP, params, key)
    full, _ = run(PLAIN, params, key)
    assert obs["action_mask"].all()
    tags = params.bank.tag.shape[-1] + 2
    assert obs["observation"].shape[1] == full["observation"].shape[1] - tags
    space = WITHOUT_MCP.observation_space(params)["observation"]
    assert space.shape == obs["observation"].shape[1:]


def test_latents_are_those_of_the_filter(key, tiny_world, random_params):
    params = tiny_world.make_params(tiny_world.make_filter(random_params))
    begun_obs, begun = jax.jit(FILTERED.reset_env)(key, params)
    obs, state = run(FILTERED, params, key)
    seen = jnp.concatenate([begun.seen[None], state.seen])
    view = FILTERED.inner.view(seen, params.wireless)
    series = (view.snr - params.filter.mean) / params.filter.std
    _, step = FILTER(params.filter.params, series, view.reported > 0.5)
    latents = np.concatenate([step.fast.mean, step.slow.mean], axis=1)
    shown = np.concatenate([begun_obs["observation"][None], obs["observation"]])
    np.testing.assert_allclose(shown[:, -latents.shape[1] :], latents, atol=1e-5)


def test_a_new_episode_forgets(key, tiny_world, random_params):
    params = tiny_world.make_params(tiny_world.make_filter(random_params))
    _, state = jax.jit(FILTERED.reset_env)(key, params)
    step = jax.jit(FILTERED.step)
    for number in range(6):
        obs, state, *_, truncated, info = step(
            jax.random.fold_in(key, number), state, IDLE, params
        )
    assert truncated and state.wireless.time == 0
    view = FILTERED.inner.view(state.seen, params.wireless)
    series = (view.snr - params.filter.mean) / params.filter.std
    _, first = FILTER(params.filter.params, series[None], view.reported[None] > 0.5)
    latents = np.concatenate([first.fast.mean[0], first.slow.mean[0]])
    np.testing.assert_allclose(obs["observation"][-len(latents) :], latents, atol=1e-5)
    assert not np.allclose(info["final_observation"]["observation"][-5:], latents)


def test_links_and_rewards_are_those_of_the_environment_inside(key, tiny_world):
    params = tiny_world.make_params()
    _, state = jax.jit(PLAIN.reset_env)(key, params)
    action = jnp.array([[0.7, 0.3], [0.5, 0.5]])
    *_, reward, terminated, info = jax.jit(PLAIN.step_env)(key, state, action, params)
    score = jax.jit(PLAIN.inner.score)
    expected, parts, _ = score(state.wireless, action, params.wireless)
    np.testing.assert_allclose(reward, expected, rtol=1e-6)
    np.testing.assert_allclose(info["semantic"], parts["semantic"], rtol=1e-6)
    assert not terminated


def test_policies_meet_the_same_and_none_beats_the_oracle(key, tiny_world):
    params = tiny_world.make_params()
    play = playing.make_player(PLAIN, playing.reference(PLAIN), 4, 6)
    played = {
        name: play(number, params, key)
        for number, name in enumerate(playing.REFERENCES)
    }
    assert set(played) == set(policies.make_policies(PLAIN.inner))
    best = played["oracle"]
    assert best.reward.shape == (4, 6)
    for told in played.values():
        for name in ("snr_db", "task", "example", "live"):
            np.testing.assert_array_equal(getattr(told, name), getattr(best, name))
        assert (np.asarray(best.reward) >= np.asarray(told.reward) - 1e-5).all()
        np.testing.assert_allclose(told.weights.sum(-1), 1.0, rtol=1e-5)


def test_an_environment_without_examples_says_what_it_needs():
    with pytest.raises(ValueError, match="pass params"):
        PLAIN.reset(jax.random.key(0))


def test_environments_are_hashable_and_equal_by_settings():
    assert hash(FILTERED) == hash(dataclasses.replace(FILTERED))
    assert FILTERED == routing_env.RoutingEnv(asem=ASEM)
