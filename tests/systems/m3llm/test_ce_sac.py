"""CE-SAC against rewards that are known, and its gradients against autodiff."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax import base
from m3jax.envs import environment, spaces
from m3jax.envs.expert_routing import wireless
from m3jax.ops import gradient_surgery, paths
from m3jax.rl import losses, rollouts, sac_config
from m3jax.systems.m3llm import ce_sac

pytestmark = pytest.mark.usefixtures("quick_compilation")

SEMANTIC = np.array([0.1, 0.9, 0.3], np.float32)
CHANNEL = np.array([0.8, 0.2, 0.5], np.float32)
N = len(SEMANTIC)


class Clock(NamedTuple):
    """How many steps an episode has had."""

    time: base.Array


@dataclasses.dataclass(frozen=True)
class TwoRewards(environment.Environment):
    """Each head is paid by weights of its own, whatever was before."""

    @property
    def default_params(self):
        return jnp.stack([SEMANTIC, CHANNEL])

    def action_space(self, params=None):
        return spaces.Box(0.0, 1.0, (2, N))

    def reset_env(self, key, params):
        return self._observe(), Clock(jnp.int32(0))

    def step_env(self, key, state, action, params):
        parts = jnp.sum(action * params, axis=-1)
        info = {"semantic": parts[0], "channel": parts[1]}
        after = Clock(state.time + 1)
        return self._observe(), after, jnp.mean(parts), jnp.zeros((), bool), info

    def is_truncated(self, state, params):
        return state.time >= 4

    def _observe(self):
        return {"observation": jnp.ones(2), "action_mask": jnp.ones(N, bool)}


SETTINGS = ce_sac.CeSacConfig(
    sac=sac_config.SacConfig(
        hidden=(16,),
        num_envs=8,
        chunk=300,
        batch_size=64,
        capacity=4096,
        warmup=512,
        learning_rate=0.01,
        discount=0.0,
        initial_temperature=0.05,
    ),
    first_temperature=0.5,
    last_temperature=0.5,
    entropy_ratio=0.1,
)


def obs_of(num=1, masked=()):
    mask = np.ones((num, N), bool)
    mask[:, list(masked)] = False
    return {"observation": jnp.ones((num, 2)), "action_mask": jnp.asarray(mask)}


def agent_of(config=SETTINGS, temperature=0.5):
    return ce_sac.make_agent(config, N, temperature)


@functools.cache
def drawn(config_text):
    config = dataclasses.replace(SETTINGS, **dict(config_text))
    agent = agent_of(config)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(agent.init, jax.random.key(0), obs_of())
    params = jax.tree.map(
        lambda leaf: jnp.float32(0.5 * rng.normal(size=leaf.shape)), shapes
    )
    return config, agent, params


def mode_of(agent):
    """The mode of an agent's policy, compiled."""
    return jax.jit(lambda actor, obs: agent.policy(actor, obs).mode())


def make_batch(agent, num=6):
    rng = np.random.default_rng(2)
    obs = obs_of(num)
    obs["observation"] = jnp.float32(rng.normal(size=(num, 2)))
    rewards = jnp.float32(rng.random((num, 2) if agent.streams else num))
    actions = jnp.float32(rng.dirichlet(np.ones(N), (num, 2)))
    return rollouts.Transition(obs, actions, rewards, obs, jnp.zeros(num, bool))


@pytest.fixture(scope="module")
def learned():
    """Trained on two rewards at once, decoupled and not."""

    def train(config):
        learner = ce_sac.make_learner(config, TwoRewards())
        state = learner.init(jax.random.key(0))
        return learner.step(state, (), jax.random.key(1))

    configs = {True: SETTINGS, False: dataclasses.replace(SETTINGS, is_decoupled=False)}
    return {
        k: jax.device_get(jax.jit(lambda c=c: train(c))()) for k, c in configs.items()
    }


@pytest.mark.parametrize("is_decoupled", [True, False])
def test_each_head_finds_what_pays_it(learned, is_decoupled):
    state, _ = learned[is_decoupled]
    config = dataclasses.replace(SETTINGS, is_decoupled=is_decoupled)
    mode = mode_of(agent_of(config))(state.params["actor"], obs_of())
    best = np.argmax(mode[0], axis=-1)
    assert best.tolist() == [SEMANTIC.argmax(), CHANNEL.argmax()]


def test_four_critics_know_both_rewards(learned):
    state, _ = learned[True]
    # Where the policy goes, which is where critics have data.
    replay = state.extra.replay
    actions = replay.items.action[int(replay.size) - 64 : int(replay.size)]
    q_values = jax.jit(agent_of().q_values)
    q = q_values(state.params["critic"], obs_of(64), jnp.asarray(actions))
    assert q.shape == (2, 2, 64)
    paid = np.stack([actions[:, 0] @ SEMANTIC, actions[:, 1] @ CHANNEL])
    np.testing.assert_allclose(q, np.stack([paid, paid], axis=1), atol=0.06)


def test_both_rewards_are_remembered_or_their_sum(learned):
    two, one = (learned[k][0].extra.replay.items for k in (True, False))
    np.testing.assert_allclose(two.reward[:, 0], two.action[:, 0] @ SEMANTIC, rtol=1e-5)
    np.testing.assert_allclose(two.reward[:, 1], two.action[:, 1] @ CHANNEL, rtol=1e-5)
    mean = (one.action[:, 0] @ SEMANTIC + one.action[:, 1] @ CHANNEL) / 2
    np.testing.assert_allclose(one.reward, mean, rtol=1e-5)


def test_every_stream_has_a_temperature_of_its_own(learned):
    state, metrics = learned[True]
    assert state.extra.log_alpha.shape == (2,)
    assert learned[False][0].extra.log_alpha.shape == ()
    for name in ("alpha", "entropy", "q", "actor_loss"):
        assert {f"{name}/semantic", f"{name}/channel"} <= metrics.keys()


@pytest.mark.parametrize("relaxation", ce_sac.RELAXATIONS)
def test_masked_experts_get_no_weight(relaxation, key):
    config, agent, params = drawn((("relaxation", relaxation),))
    obs = obs_of(4, masked=[1])

    @jax.jit
    def draw(actor, key):
        choice = agent.policy(actor, obs)
        actions = choice.sample(seed=key), choice.mode()
        return actions, agent.random_action(key, obs)

    actions, random = draw(params["actor"], key)
    for action in actions:
        assert action.shape == (4, 2, N)
        assert not np.asarray(action)[..., 1].any()
        if relaxation == "gumbel_softmax":
            np.testing.assert_allclose(action.sum(-1), 1.0, rtol=1e-5)
    assert not np.asarray(random)[..., 1].any()
    largest = {"gumbel_softmax": np.log(N), "binary_concrete": N * np.log(2)}
    target = config.entropy_ratio * largest[relaxation]
    np.testing.assert_allclose(agent.target_entropy, [target] * 2)


def test_gradients_are_those_of_the_sum_of_all_losses(key):
    config, agent, params = drawn(())
    batch = make_batch(agent)
    target = jax.tree.map(lambda a: 0.5 * a, params["critic"])
    trained = (params, jnp.log(jnp.array([0.3, 0.7])))
    hyper = sac_config.make_hyper(config.sac, agent.target_entropy)
    take = jax.jit(functools.partial(ce_sac.make_gradients(config), agent))
    found, metrics = take(trained, target, batch, hyper, key)

    def total(trained):
        args = hyper.discount, hyper.target_entropy, key
        return losses.sac_loss(agent, *trained, target, batch, *args)[0]

    expected = jax.jit(jax.grad(total))(trained)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected
    )
    assert -1.0 <= metrics["gradient_cosine"] <= 1.0


def streams(config, agent, params, key):
    """The actor's gradient of each stream, stacked."""
    batch = make_batch(agent)
    target = params["critic"]
    hyper = sac_config.make_hyper(config.sac, agent.target_entropy)

    def stream_losses(actor):
        trained = {**params, "actor": actor}, jnp.log(jnp.array([0.3, 0.7]))
        args = hyper.discount, hyper.target_entropy, key
        parts, _ = losses.sac_losses(agent, *trained, target, batch, *args)
        return jnp.array(config.kappas) * parts["actor_loss"]

    grads = jax.jit(jax.jacrev(stream_losses))(params["actor"])
    return grads, batch, target, hyper


def test_the_meter_and_pcgrad_see_the_two_streams(key):
    config, agent, params = drawn((("projects", True), ("kappas", (1.0, 3.0))))
    each, batch, target, hyper = streams(config, agent, params, key)
    trained = (params, jnp.log(jnp.array([0.3, 0.7])))
    take = jax.jit(functools.partial(ce_sac.make_gradients(config), agent))
    (found, _), metrics = take(trained, target, batch, hyper, key)
    trunk = {k: v for k, v in each.items() if k.startswith("trunk")}
    cosine = jax.jit(gradient_surgery.cosines)(trunk)[0, 1]
    np.testing.assert_allclose(metrics["gradient_cosine"], cosine, atol=1e-4)
    projected = jax.jit(gradient_surgery.project_conflicting)(each)
    jax.tree.map(
        lambda a, rows: np.testing.assert_allclose(a, rows.sum(0), atol=2e-5),
        found["actor"],
        projected,
    )


def test_split_trunks_share_no_parameters(key):
    config, agent, params = drawn((("is_split", True),))
    heads = {path.split("/")[0] for path in paths.flatten(params["actor"])}
    assert heads == {"semantic_head", "channel_head"}
    moved = jax.tree.map(
        lambda a: a + np.linspace(0, 1, a.shape[-1]), params["actor"]["channel_head"]
    )
    still = {**params["actor"], "channel_head": moved}
    mode = mode_of(agent)
    before, after = (mode(actor, obs_of()) for actor in (params["actor"], still))
    np.testing.assert_array_equal(before[:, 0], after[:, 0])
    assert np.abs(before[:, 1] - after[:, 1]).max() > 1e-3
    trained = (params, jnp.log(jnp.array([0.3, 0.7])))
    hyper = sac_config.make_hyper(config.sac, agent.target_entropy)
    take = jax.jit(functools.partial(ce_sac.make_gradients(config), agent))
    batch = make_batch(agent)
    _, metrics = take(trained, params["critic"], batch, hyper, key)
    assert float(metrics["gradient_cosine"]) == 0.0


def test_temperature_falls_geometrically_and_stays():
    config = ce_sac.CeSacConfig(anneal_steps=4)
    found = [float(config.temperature(step)) for step in (0, 2, 4, 9)]
    np.testing.assert_allclose(found, [1.0, 10**-0.5, 0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relaxation": "softmax"}, "relaxation must be one of"),
        ({"projects": True, "is_decoupled": False}, "projects needs two gradients"),
        ({"last_temperature": 2.0}, "last_temperature is out of range"),
        ({"kappas": (1.0,)}, "kappas is out of range"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SETTINGS, **changes).validate()


def test_environments_of_one_head_are_refused():
    with pytest.raises(ValueError, match='actions="heads"'):
        ce_sac.make_learner(SETTINGS, wireless.Wireless())
