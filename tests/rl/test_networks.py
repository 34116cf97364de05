"""Networks of agents: parts of an input against the input whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.rl import networks

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("hidden", [(5, 4), ()])
def test_critics_of_parts_are_critics_of_the_parts_joined(key, hidden):
    critics = networks.make_critics(hidden, 1, 3)
    keys = jax.random.split(key, 3)
    obs = jax.random.normal(keys[0], (7, 6))
    action = jax.random.normal(keys[1], (7, 2))
    joined = jnp.concatenate([obs, action], axis=-1)
    init = jax.jit(critics.init)
    params = init(keys[2], obs, action)
    jax.tree.map(np.testing.assert_array_equal, params, init(keys[2], joined))

    def by_parts(params, action):
        return critics.apply(params, obs, action)

    def whole(params, action):
        return critics.apply(params, jnp.concatenate([obs, action], axis=-1))

    def loss(values):
        return jnp.sum(values**2), values

    ((_, values), found), ((_, same), expected) = (
        jax.jit(jax.value_and_grad(lambda p, a, f=f: loss(f(p, a)), (0, 1), True))(
            params, action
        )
        for f in (by_parts, whole)
    )
    assert values.shape == (3, 7, 1)
    np.testing.assert_allclose(values, same, rtol=1e-5, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        found,
        expected,
    )
