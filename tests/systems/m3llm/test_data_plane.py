"""Experts over links and the task model, against sums by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import links
from m3jax.rl import sac_config
from m3jax.systems import m3llm
from m3jax.systems.m3llm import (
    ce_sac,
    end_to_end,
    playing,
    routing_env,
    specialist,
    system,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def made(tiny_world):
    """The data plane and parameters drawn by NumPy."""
    plane = m3llm.make_system(tiny_world.DATA_PLANE)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(plane.init, jax.random.key(0), {})
    params = jax.tree.map(lambda a: np.float32(0.4 * rng.normal(size=a.shape)), shapes)
    return plane, params


def task_model(params):
    return {name: params[name] for name in ("decoder", "silence")}


def make_batch(tiny_world, num=4):
    rng = np.random.default_rng(3)
    said = tiny_world.make_said()
    return {
        "image": np.uint8(rng.integers(0, 255, (num, 64, 64, 3))),
        "question": np.asarray(said.question).reshape(-1, 5)[:num],
        "answer": np.asarray(said.answer).reshape(-1, 4)[:num],
        "weights": np.float32(rng.dirichlet(np.ones(2), num)),
        "snr_db": np.full((num, 2), 10.0, np.float32),
    }


def test_without_noise_the_decoder_reads_the_weighted_sum(made, tiny_world, key):
    plane, params = made
    batch = make_batch(tiny_world)
    batch["snr_db"] = np.full((4, 2), np.inf, np.float32)
    said = jax.jit(plane.predict["encode"])(params, batch, key)
    unit = said / jnp.sqrt(jnp.mean(said**2, axis=(2, 3), keepdims=True))
    expected = jnp.einsum("bn,bnld->bld", batch["weights"], unit)
    found = jax.jit(plane.predict["received"])(params, batch, key)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    again = jax.jit(plane.predict["received"])(params, {**batch, "tokens": said}, key)
    np.testing.assert_allclose(again, found, atol=1e-5)


def test_noise_is_that_of_every_experts_own_link(tiny_world, key):
    tokens = jnp.ones((2, 50, 20))
    link = links.make_link("analog", "awgn")
    snr_db = jnp.array([0.0, 20.0])
    for expert, variance in enumerate((1.0, 0.01)):
        weights = jax.nn.one_hot(expert, 2)
        received, uses = system.aggregate(link, key, tokens, weights, snr_db)
        # The MMSE receiver shrinks: error variance no / (1 + no) for unit symbols.
        expected = variance / (1.0 + variance)
        assert np.mean((np.asarray(received) - 1.0) ** 2) == pytest.approx(
            expected, rel=0.15
        )
        assert int(uses) == 50 * 10


def test_experts_of_no_weight_are_not_asked(tiny_world, made, key):
    plane, params = made
    batch = make_batch(tiny_world)
    batch["weights"] = np.float32([[1, 0], [0, 1], [0.5, 0.5], [0.9995, 0.0005]])
    # What is not asked may be anything.
    batch["snr_db"] = np.float32([[10, -60], [-60, 10], [10, 10], [10, -60]])
    out = jax.jit(plane.predict["answer"])(params, batch, key)
    assert out["num_asked"].tolist() == [1, 1, 2, 1]
    uses = tiny_world.L * tiny_world.D // 2
    assert out["channel_uses"].tolist() == [uses, uses, 2 * uses, uses]


def test_gradients_reach_weights_through_link_and_decoder(made, tiny_world, key):
    plane, params = made
    batch = make_batch(tiny_world)

    batch = jax.tree.map(jnp.asarray, batch)

    @jax.jit
    def loss(weights):
        return plane.loss(params, {**batch, "weights": weights}, key)[0]

    weights = batch["weights"]
    slope = jax.jit(jax.grad(loss))(weights)
    step = 1e-2 * jnp.float32(np.random.default_rng(0).normal(size=weights.shape))
    moved = (loss(weights + step) - loss(weights - step)) / 2
    np.testing.assert_allclose(moved, jnp.sum(slope * step), rtol=0.05, atol=1e-5)


def test_a_digital_link_quantises(tiny_world, made, key):
    config = dataclasses.replace(tiny_world.DATA_PLANE, link="digital", bits=2)
    plane = m3llm.make_system(config)
    batch = make_batch(tiny_world)
    batch["snr_db"] = np.full((4, 2), np.inf, np.float32)
    batch["weights"] = np.float32([[1, 0]] * 4)
    received = jax.jit(plane.predict["received"])(made[1], batch, key)
    for one in np.asarray(received):
        assert len(np.unique(np.round(one, 4))) <= 4


def test_the_task_model_says_an_answer(tiny_world, made, key):
    plane, params = made
    batch = make_batch(tiny_world)
    said = jax.jit(plane.predict["generate"])(params, batch, key)
    assert said.shape == batch["answer"].shape


def test_a_specialist_is_one_expert_of_the_data_plane(tiny_world, made, key):
    plane, params = made
    alone = specialist.make_system(tiny_world.DATA_PLANE.expert)
    batch = make_batch(tiny_world)
    mine = {**params["experts"]["two"], **task_model(params)}
    said = jax.jit(plane.predict["encode"])(params, batch, key)[:, 1]
    np.testing.assert_allclose(
        jax.jit(alone.predict["encode"])(mine, batch, key), said, atol=1e-5
    )
    quiet = {**batch, "snr_db": np.full((4, 2), np.inf, np.float32)}
    quiet["weights"] = np.float32([[0, 1]] * 4)
    one = jax.jit(alone.predict["answer"])(
        mine, {**quiet, "snr_db": quiet["snr_db"][:, 0]}, key
    )
    both = jax.jit(plane.predict["answer"])(params, quiet, key)
    np.testing.assert_allclose(one["nll"], both["nll"], rtol=1e-4)


def test_a_copy_says_what_its_expert_says_over_a_link_of_its_own(tiny_world, made, key):
    plane, params = made
    said = tiny_world.make_said()
    task, example = np.array([0, 1]), np.array([2, 0])
    second = np.float32([[0, 1, 0, 0]] * 2)
    copy = np.float32([[0, 0, 0, 1]] * 2)
    clean = np.full((2, 4), np.inf, np.float32)
    receive = jax.jit(plane.predict["received"])
    batches = [
        end_to_end.make_batch(said, task, example, *of)
        for of in ((second, clean), (copy, clean), (copy, second * 0 - 30.0))
    ]
    assert batches[0]["tokens"].shape[:2] == (2, 4)
    np.testing.assert_array_equal(batches[0]["question"], said.question[task, example])
    original, hosted, noisy = (receive(task_model(params), b, key) for b in batches)
    np.testing.assert_allclose(hosted, original, atol=1e-5)
    assert np.abs(noisy - original).max() > 1.0
    alone = end_to_end.make_batch(said, task, example, second[:, :2], clean[:, :2])
    np.testing.assert_allclose(
        receive(task_model(params), alone, key), original, atol=1e-5
    )


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="link must be one of"):
        m3llm.make_system(m3llm.Config(link="pigeon"))
    with pytest.raises(ValueError, match="different names"):
        m3llm.make_system(m3llm.Config(experts=("a", "a")))


@pytest.mark.slow
def test_end_to_end_training_finds_the_expert_that_is_heard(tiny_world, made, key):
    """Expert 1 says what the answer is, the other says nothing of use."""
    plane, params = made
    said = tiny_world.make_said()
    heads = ce_sac.CeSacConfig(
        sac=sac_config.SacConfig(hidden=(8,), num_envs=8),
        first_temperature=1.0,
        last_temperature=0.5,
    )
    config = end_to_end.Config(
        heads, collect_steps=2, chunk=40, learning_rate=0.03, channel_weight=0.0
    )
    env = routing_env.RoutingEnv()
    env_params = tiny_world.make_params()
    bank = env_params.bank._replace(mask=jnp.ones_like(env_params.bank.mask))
    env_params = env_params._replace(bank=bank)

    class Plane:
        """The loss of hearing expert 1 less."""

        @staticmethod
        def loss(params, batch, key):
            heard = batch["weights"][:, 1]
            return -jnp.mean(heard), {"heard": jnp.mean(heard)}

    learner = end_to_end.make_learner(
        config, env, env_params, Plane, task_model(params), said
    )
    state = jax.jit(learner.init)(key)
    state, _ = jax.jit(learner.step)(state, (), key)
    act = playing.make_act(heads, 2)
    played = playing.make_player(env, act, 4, 4)(state.params["actor"], env_params, key)
    assert np.asarray(played.weights)[..., 1].min() > 0.8
    real = end_to_end.make_learner(
        config, env, env_params, plane, task_model(params), said
    )
    one = jax.jit(lambda s: real.step(s, (), key))(state)
    assert np.isfinite(one[1]["loss"])
