"""A trainer that knows gymnax's calls only trains on our environments unchanged."""

import importlib.util
import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest

from m3jax.envs.expert_routing import wireless
from m3jax.ops import intervals
from m3jax.rl import probes

pytestmark = pytest.mark.usefixtures("quick_compilation")

FOREIGN = pathlib.Path(__file__).with_name("foreign_ppo.py")


@pytest.fixture(scope="module")
def ppo():
    """The foreign project, as a module."""
    spec = importlib.util.spec_from_file_location("foreign_ppo", FOREIGN)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def play(ppo, net, env, params, others, num_steps):
    """Rewards and ends of the trained policy and others, on common random numbers."""
    space = env.action_space(params)
    choices = [lambda key, net, obs: ppo.greedy(net, obs, space), *others]

    def choose(key, policy, obs):
        net, which = policy
        return jnp.stack([choice(key, net, obs) for choice in choices])[which]

    key = jax.random.key(1)
    return [
        ppo.play(key, env, params, choose, (net, which), 64, num_steps)
        for which in range(len(choices))
    ]


def test_the_trainer_is_foreign():
    assert "m3jax" not in FOREIGN.read_text()


@pytest.mark.slow
def test_it_learns_whom_to_ask(ppo):
    env = wireless.Wireless(actions="subset")
    params = env.default_params
    settings = ppo.Settings(
        num_steps=16, num_updates=40, discount=0.5, learning_rate=3e-3
    )
    net, _ = ppo.train(jax.random.key(0), env, params, settings)
    everybody = env.from_subset(jnp.ones(params.tasks.num_experts, bool))
    others = (
        lambda key, net, obs: everybody,
        lambda key, net, obs: env.action_space(params).sample(key),
    )
    trained, *found = (
        rewards.mean(axis=0) for rewards, _ in play(ppo, net, env, params, others, 100)
    )
    for other in found:
        assert intervals.student_t(trained - other).low > 0.2


def test_it_learns_continuous_actions(ppo):
    env, table = probes.Probe(continuous=True), probes.acting_on_observed()
    settings = ppo.Settings(num_envs=16, num_steps=16, num_updates=40, hidden=16)
    net, _ = ppo.train(jax.random.key(0), env, table, settings)
    ((rewards, _),) = play(ppo, net, env, table, (), 4)
    # The best is 1, and actions that do not look are worth 0.
    assert rewards.mean() > 0.9


@pytest.mark.slow
def test_it_trains_on_gymnaxs_own_environment(ppo):
    gymnax = pytest.importorskip("gymnax")
    env, params = gymnax.make("CartPole-v1")
    net, _ = ppo.train(jax.random.key(0), env, params, ppo.Settings())
    others = (lambda key, net, obs: env.action_space(params).sample(key),)
    trained, chance = (
        int(ends.sum()) for _, ends in play(ppo, net, env, params, others, 500)
    )
    # At chance an episode lasts about 22 steps.
    assert 5 * trained < chance
