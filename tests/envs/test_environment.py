"""Episodes that end in a batch: against the same environments one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs.expert_routing import wireless

pytestmark = pytest.mark.usefixtures("quick_compilation")

ENV = wireless.Wireless()
PARAMS = ENV.default_params._replace(max_steps=5)
RESETS = jax.jit(jax.vmap(ENV.reset, (0, None)))
STEP = jax.jit(ENV.step)


def batch(key, num):
    """Environments whose episodes are at different steps."""
    state = RESETS(jax.random.split(key, num), PARAMS)[1]
    return state._replace(time=jnp.arange(num, dtype=jnp.int32))


@pytest.mark.parametrize("axis", [0, -1])
def test_a_batch_begins_anew_one_by_one(key, axis):
    keys = jax.random.split(key, 5)
    state, action = batch(key, 5), jax.random.uniform(key, (5, 7))
    expected = [
        STEP(keys[i], jax.tree.map(lambda a, i=i: a[i], state), action[i], PARAMS)
        for i in range(5)
    ]
    assert [bool(one[4]) for one in expected] == [False] * 4 + [True]
    moved = jax.tree.map(lambda a: jnp.moveaxis(a, 0, axis), (state, action))
    together = jax.jit(jax.vmap(ENV.step, (0, axis, axis, None), axis))
    found = together(keys, *moved, PARAMS)
    for i, one in enumerate(expected):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(
                jnp.take(a, i, axis), b, rtol=1e-5, atol=1e-5
            ),
            found,
            one,
        )


def test_a_batch_of_batches_is_one_batch(key):
    keys = jax.random.split(key, 6)
    state, action = batch(key, 6), jnp.ones((6, 7))
    flat = jax.jit(jax.vmap(ENV.step, (0, 0, 0, None)))(keys, state, action, PARAMS)

    def fold(tree):
        return jax.tree.map(lambda a: a.reshape(2, 3, *a.shape[1:]), tree)

    twice = jax.vmap(jax.vmap(ENV.step, (0, 0, 0, None)), (0, 0, 0, None))
    nested = jax.jit(twice)(keys.reshape(2, 3), *fold((state, action)), PARAMS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        nested,
        fold(flat),
    )


def test_rewards_of_a_batch_have_gradients_by_actions_and_parameters(key):
    keys = jax.random.split(key, 3)
    state = batch(key, 3)

    def reward(action, competence):
        tasks = PARAMS.tasks._replace(competence=competence)
        params = PARAMS._replace(tasks=tasks)
        step = jax.vmap(ENV.step, (0, 0, 0, None))
        return jnp.sum(step(keys, state, action, params)[2])

    action = jax.random.uniform(key, (3, 7), minval=0.1)
    found = jax.jit(jax.grad(reward, (0, 1)))(action, PARAMS.tasks.competence)
    assert all(np.isfinite(g).all() and np.any(g) for g in found)
