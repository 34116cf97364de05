"""A checker that cannot fail proves nothing: each fault here must be caught."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs import spaces
from m3jax.rl import probes
from m3jax.testing import environments

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Half of the episodes end at once, the others after two steps.
UNEVEN = probes.two_steps()._replace(start=jnp.array([0.5, 0.5]))


class NoLastObservation(probes.Probe):
    def step(self, key, state, action, params=None):
        *out, info = super().step(key, state, action, params)
        return *out, {**info, "final_observation": out[0]}


class FinalIsAnother(probes.Probe):
    def step(self, key, state, action, params=None):
        *out, info = super().step(key, state, action, params)
        nothing = jax.tree.map(jnp.zeros_like, info["final_observation"])
        return *out, {**info, "final_observation": nothing}


class StateGoesOn(probes.Probe):
    def step(self, key, state, action, params=None):
        obs, begun, *out = super().step(key, state, action, params)
        return obs, begun._replace(time=state.time + 1), *out


class WeakTime(probes.Probe):
    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return obs, state._replace(time=0)

    def step_env(self, key, state, action, params):
        strong = state._replace(time=jax.lax.convert_element_type(state.time, int))
        return super().step_env(key, strong, action, params)


class FloatTime(probes.Probe):
    def step_env(self, key, state, action, params):
        obs, state, *rest = super().step_env(key, state, action, params)
        return obs, state._replace(time=state.time * 1.0), *rest


class KeyUsedTwice(probes.Probe):
    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        later = jax.random.randint(key, (), 0, 1)
        return obs, state._replace(time=state.time + later)


class OtherSpace(probes.Probe):
    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (2,))


class NarrowSpace(probes.Probe):
    def observation_space(self, params):
        space = super().observation_space(params)
        return {**space, "observation": spaces.Box(0.0, 0.5, (1,))}


class NoReward(probes.Probe):
    def step_env(self, key, state, action, params):
        obs, state, reward, *rest = super().step_env(key, state, action, params)
        return obs, state, reward / 0.0, *rest


class SecretDraw(probes.Probe):
    def step_env(self, key, state, action, params):
        obs, state, reward, *rest = super().step_env(key, state, action, params)
        return obs, state, reward + np.random.default_rng().random(), *rest


class NoEnd(probes.Probe):
    def is_truncated(self, state, params):
        return jnp.zeros((), bool)


@pytest.mark.parametrize(
    ("env", "table", "fault"),
    [
        (NoLastObservation(), UNEVEN, "final observations are those of the next"),
        (StateGoesOn(), UNEVEN, "depends on more than the key"),
        (WeakTime(), UNEVEN, "step was traced 2 times"),
        (KeyUsedTwice(), UNEVEN, "consumed"),
        (OtherSpace(), UNEVEN, "is a mapping, its space is Box"),
        (NarrowSpace(), UNEVEN, "not within its space"),
        (SecretDraw(), UNEVEN, "vmap and a loop"),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (
                (FinalIsAnother(), UNEVEN, "differs from the observation before"),
                (FloatTime(), UNEVEN, "changes the state's types"),
                (NoReward(), UNEVEN, "not finite"),
                (NoEnd(), probes.time_limit(), "no episode has ended"),
                (probes.Probe(), probes.two_steps(), "all keys give one episode"),
            )
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, probes.Probe) else "",
)
def test_a_faulty_environment_is_caught(env, table, fault, key):
    with pytest.raises((AssertionError, jax.errors.KeyReuseError), match=fault):
        environments.check_environment(
            env, [table], key, draws=not isinstance(env, NoEnd)
        )


def test_parameters_of_other_types_are_caught(key):
    other = UNEVEN._replace(max_steps=jnp.float32(100))
    with pytest.raises(AssertionError, match="reset was traced 2 times for 2"):
        environments.check_environment(probes.Probe(), [UNEVEN, other], key)
