"""Reset and step give the same types, with 64-bit JAX as without: for scans."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs import randomised
from m3jax.envs.edge_cloud import offloading
from m3jax.envs.expert_routing import wireless
from m3jax.rl import probes

ENVIRONMENTS = {
    **{
        f"wireless_{actions}": wireless.Wireless(actions, show_mask=actions != "heads")
        for actions in wireless.ACTIONS
    },
    "calibrated": wireless.Wireless(mode="calibrated"),
    "offload_plan": offloading.Offloading(),
    "offload_grid": offloading.Offloading("grid"),
    "randomised": randomised.Randomised(wireless.Wireless()),
    "randomised_offload": randomised.Randomised(offloading.Offloading()),
    "probe": probes.Probe(),
    "continuous_probe": probes.Probe(continuous=True),
}


def as_given(params):
    return params


def as_arrays(params):
    return jax.tree.map(jnp.asarray, params)


def as_wide_arrays(params):
    """Such as NumPy makes them: of 64 bits, if JAX has them."""
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), params)


@pytest.mark.parametrize("make", [as_given, as_arrays, as_wide_arrays])
@pytest.mark.parametrize("wide", [False, True], ids=["32_bits", "64_bits"])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_step_keeps_the_types_of_a_reset(name, wide, make):
    env = ENVIRONMENTS[name]
    with jax.enable_x64(wide):
        params = make(env.default_params)

        def play(key):
            keys = jax.random.split(key, 4)
            begun = env.reset(keys[0], params)
            action = env.action_space(params).sample(keys[1])
            first = env.step(keys[2], begun[1], action, params)
            second = env.step(keys[3], first[1], action, params)
            return begun, first[:2], second[:2]

        found = jax.eval_shape(play, jax.random.key(0))
        begun, *after = (
            jax.tree.map(lambda x: (x.shape, str(x.dtype)), one) for one in found
        )
        assert after == [begun, begun]
        spaces = env.observation_space(params)
        shown = found[0][0]
        for space, x in (
            [(spaces[n], shown[n]) for n in spaces]
            if isinstance(spaces, dict)
            else [(spaces, shown)]
        ):
            assert (x.shape, x.dtype) == (tuple(space.shape), space.dtype)


@pytest.mark.parametrize("name", ["offload_plan", "offload_grid"])
def test_a_step_of_a_batch_keeps_them_too(name):
    env = ENVIRONMENTS[name]
    with jax.enable_x64(True):
        params = env.default_params

        def play(key):
            begun = env.reset_batch(key, 3, params)
            shape = (8, 3) if name == "offload_plan" else (3,)
            action = jnp.zeros(shape, env.action_space().dtype)
            return begun, env.step_batch(key, begun[1], action, params)[:2]

        begun, after = jax.eval_shape(play, jax.random.key(0))
    assert jax.tree.map(lambda x: x.dtype, begun) == jax.tree.map(
        lambda x: x.dtype, after
    )


@pytest.mark.slow
def test_the_environment_can_be_scanned_with_64_bits():
    env = wireless.Wireless()
    with jax.enable_x64(True):

        def body(state, key):
            out = env.step(key, state, jnp.ones(7))
            return out[1], out[2]

        state = env.reset(jax.random.key(0))[1]
        keys = jax.random.split(jax.random.key(1), 5)
        state, rewards = jax.lax.scan(body, state, keys)
        assert np.isfinite(rewards).all() and int(state.time) == 5
