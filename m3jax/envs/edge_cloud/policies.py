"""Policies to compare with: what is known without learning, and the best there is.

A policy is ``(key, obs, state, params) -> action``, with observations ``[D, *batch]``
and actions as the environment takes them. All but the oracle look at the observation
only; the oracle is exact among the actions of the grid.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.envs.edge_cloud import offloading, plans, world
from m3jax.ops import bayesian

Policy = Callable[[base.Array, base.Array, world.State, world.Params], base.Array]
_SEARCH = bayesian.Settings()
PERCENTILE = 0.7
"""Of the entropies, MSAO's threshold to begin with."""


def make_policies(env: offloading.Offloading) -> Mapping[str, Policy]:
    """Makes the reference policies of an environment.

    - ``random``: any action.
    - ``fixed``: all of every modality to the cloud, the threshold at the 70th
      percentile of the entropies, drafts of ``max_draft``.
    - ``cloud_only``: the same without drafts: a threshold of 0.
    - ``throughput``: what carries something is kept, the draft length is that of most
      tokens a second at the acceptance estimated.
    - ``enumerated``: the best action of the grid if the observation were the truth.
    - ``oracle``: the best action of the grid in the true state.

    Args:
      env: tells how actions and observations are read.

    Returns:
      Name -> policy. See `make_bayesian` for one that needs an extra.
    """

    def random(key, obs, state, params):
        del state
        space = env.action_space(params)
        if env.actions == "grid":
            return jax.random.randint(key, obs.shape[1:], 0, space.n, space.dtype)
        return jax.random.uniform(key, (*space.shape, *obs.shape[1:]), space.dtype)

    def fixed(key, obs, state, params):
        del key, state
        return env.from_plan(_everything(env, obs, params, _usual(params)), params)

    def cloud_only(key, obs, state, params):
        del key, state
        return env.from_plan(_everything(env, obs, params, 0.0), params)

    def throughput(key, obs, state, params):
        del key, state
        return env.from_plan(most_tokens(env, obs, params), params)

    def enumerated(key, obs, state, params):
        del key, state
        return best_of_grid(env, env.believed(obs, params), params)[0]

    def oracle(key, obs, state, params):
        del key, obs
        return best_of_grid(env, state, params)[0]

    return {
        "random": random,
        "fixed": fixed,
        "cloud_only": cloud_only,
        "throughput": throughput,
        "enumerated": enumerated,
        "oracle": oracle,
    }


def most_tokens(
    env: offloading.Offloading, obs: base.Array, params: world.Params
) -> base.Array:
    """Keeps what carries something, sends it, and drafts for most tokens a second."""
    state = env.believed(obs, params)
    retention = jnp.where(state.tokens > 0, 1.0 - state.sparsity, 0.0)
    sent = jnp.ones_like(retention)

    def action(length):
        code = plans.encode_length(length, env.max_draft)
        return plans.join(retention, _usual(params), code, sent)

    tried = [action(length) for length in range(1, env.max_draft + 1)]
    plain = _plain(env)
    speeds = [plain.score(state, one, params)[1]["tokens_per_s"] for one in tried]
    best = jnp.argmax(jnp.stack(speeds), axis=0)
    return action(1.0 + best)


def best_of_grid(
    env: offloading.Offloading, state: world.State, params: world.Params
) -> tuple[base.Array, base.Array]:
    """The action of the grid that earns most in a state, tried one by one.

    Args:
      env: the environment; also with other actions than the grid's.
      state: the truth, or what is believed; of any batch shape.
      params: the parameters.

    Returns:
      ``(action, reward [*batch])``.
    """
    table, plain = env.table(params), _plain(env)

    def look(row):
        action = row.reshape(-1, *(1,) * state.time.ndim)
        shape = row.shape + state.time.shape
        return plain.score(state, jnp.broadcast_to(action, shape), params)[0]

    earned = jax.lax.map(look, table, batch_size=256)
    best = jnp.argmax(earned, axis=0).astype(jnp.int32)
    action = best if env.actions == "grid" else jnp.moveaxis(table[best], -1, 0)
    return action, jnp.max(earned, axis=0)


def make_bayesian(
    env: offloading.Offloading, settings: bayesian.Settings = _SEARCH
) -> Policy:
    """MSAO's coarse optimisation: a search of 50 evaluations for each request.

    It looks for the action that would earn most if the observation were the truth; one
    environment at a time, ``vmap`` for more. Needs ``m3jax[bayesopt]``.

    Args:
      env: the environment.
      settings: of the search.
    """
    plain = _plain(env)

    def choose(key, obs, state, params):
        del state
        believed = env.believed(obs, params)

        def loss(action):
            return -plain.score(believed, action, params)[0]

        within = make_space(env, params.tokens.shape[0])
        found = bayesian.minimise(key, loss, within, settings)
        return env.from_plan(found.best_point, params)

    return choose


def make_space(env: offloading.Offloading, num_modalities: int) -> bayesian.Space:
    """What a plan may be: intervals, lengths, and yes or no."""
    kept = [bayesian.Dimension(f"kept_{m}", 0.0, 1.0) for m in range(num_modalities)]
    ends = [plans.encode_length(n, env.max_draft) for n in (1, env.max_draft)]
    length = [bayesian.Dimension("length", *ends, levels=env.max_draft)]
    sent = [bayesian.Dimension(f"sent_{m}", 0, 1, 2) for m in range(num_modalities)]
    threshold = [bayesian.Dimension("threshold", 0.0, 1.0)]
    return bayesian.Space((*kept, *threshold, *length, *sent))


def _plain(env: offloading.Offloading) -> offloading.Offloading:
    """The same environment, whose actions are plans."""
    return offloading.Offloading(
        levels=env.levels, max_draft=env.max_draft, pipelined=env.pipelined
    )


def _usual(params: world.Params) -> base.Array:
    """The threshold that so many entropies are below."""
    return PERCENTILE ** (1.0 / params.entropy_shape)


def _everything(env, obs, params, threshold) -> base.Array:
    """All modalities whole to the cloud, the longest drafts."""
    ones = jnp.ones((params.tokens.shape[0], *obs.shape[1:]))
    code = plans.encode_length(env.max_draft, env.max_draft)
    return plans.join(ones, threshold, code, ones)
