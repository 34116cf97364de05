"""Policies to compare with: what is known without learning, and the best there is.

A policy is ``(key, obs, state, params) -> members``, bool [N]: the experts that get
equal weights, never none. All but the oracle look at the observation only.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.envs.expert_routing import reports, routing, wireless, world
from m3jax.ops import subsets

Policy = Callable[[base.Array, Any, world.State, world.Params], base.Array]
_LOWEST = -1e9


def make_policies(env: wireless.Wireless) -> Mapping[str, Policy]:
    """Makes the reference policies of an environment.

    - ``random``: each live expert with probability 1/2; if that is nobody, all.
    - ``uniform``: all live experts.
    - ``semantic_first``: the live core experts; if there are none, the most competent
      live one. It does not look at the links, like MoVA.
    - ``network_first``: the live expert whose link was reported best.
    - ``greedy_product``: the live expert of greatest competence times reported SNR,
      from 0 at SNR_min to 1 at SNR_max.
    - ``oracle``: the subset that earns most in the true state, by enumeration.

    Args:
      env: tells how observations are read.

    Returns:
      Name -> policy.
    """

    def seen(policy: Callable[..., base.Array]) -> Policy:
        def choose(key, obs, state, params):
            del state
            return policy(key, env.view(obs, params), params)

        return choose

    def oracle(key, obs, state, params):
        del key, obs
        return best_subset(env, state, params)[0]

    return {
        "random": seen(at_random),
        "uniform": seen(uniform),
        "semantic_first": seen(semantic_first),
        "network_first": seen(network_first),
        "greedy_product": seen(greedy_product),
        "oracle": oracle,
    }


def at_random(key: base.Array, view: reports.View, params: world.Params) -> base.Array:
    """Each live expert with probability 1/2; all of them if that is nobody."""
    del params
    live = view.live > 0.5
    members = jax.random.bernoulli(key, 0.5, live.shape) & live
    return jnp.where(jnp.any(members), members, live)


def uniform(key: base.Array, view: reports.View, params: world.Params) -> base.Array:
    """All live experts."""
    del key, params
    return view.live > 0.5


def semantic_first(
    key: base.Array, view: reports.View, params: world.Params
) -> base.Array:
    """The live core experts, or else the most competent live one."""
    del key
    task = jnp.argmax(view.task)
    members = params.tasks.core[task] & (view.live > 0.5)
    best = _best(params.tasks.competence[task], view)
    return jnp.where(jnp.any(members), members, best)


def network_first(
    key: base.Array, view: reports.View, params: world.Params
) -> base.Array:
    """The live expert whose link was reported best."""
    del key, params
    return _best(_reported(view), view)


def greedy_product(
    key: base.Array, view: reports.View, params: world.Params
) -> base.Array:
    """The live expert of greatest competence times reported SNR."""
    del key
    competence = params.tasks.competence[jnp.argmax(view.task)]
    # Where every product is 0, competence decides.
    quality = jnp.clip(_reported(view), 1e-6, 1.0)
    return _best(competence * quality, view)


def best_subset(
    env: wireless.Wireless, state: world.State, params: world.Params
) -> tuple[base.Array, base.Array]:
    """The subset that earns most in a state, tried one by one.

    No policy of equal weights earns more in any step. Since actions move nothing else,
    none earns more in an episode either.

    Args:
      env: the environment.
      state: the truth.
      params: the parameters.

    Returns:
      ``(members bool [N], reward)``.

    Raises:
      ValueError: there are too many experts to try all subsets.
    """
    members = jnp.asarray(routing.subset_actions(params.tasks.num_experts))
    earned = jax.vmap(lambda m: env.score(state, env.from_subset(m), params)[0])(
        members
    )
    # Members that have failed change nothing: the first of equals may contain some.
    valid = ~jnp.any(members & ~state.events.live, axis=1)
    best = _place_of_best(earned, valid)
    return members[best], earned[best]


def best_heads(
    env: wireless.Wireless, state: world.State, params: world.Params, most: int = 3
) -> tuple[base.Array, base.Array]:
    """The two heads that earn most in a state, each equal over a subset, by trying.

    The expert head is equal over at most ``most`` experts, the channel head over some
    of those: by equation 26 these are who is heard.

    Args:
      env: the environment, with ``actions="heads"``.
      state: the truth.
      params: the parameters.
      most: experts at most; with more of them, R_2 and R_3 take away more than D gives.

    Returns:
      ``(action float32 [2, N], reward)``.

    Raises:
      ValueError: the environment has other actions.
    """
    if env.actions != "heads":
        raise ValueError(
            f"best_heads needs an environment of actions='heads', not {env.actions}"
        )
    pairs = jnp.asarray(subsets.nested(params.tasks.num_experts, most))
    tried = pairs / jnp.sum(pairs, axis=-1, keepdims=True)
    earned = jax.vmap(lambda heads: env.score(state, heads, params)[0])(tried)
    valid = ~jnp.any(pairs & ~state.events.live, axis=(1, 2))
    best = _place_of_best(earned, valid)
    return tried[best], earned[best]


def best_weights(
    env: wireless.Wireless,
    state: world.State,
    params: world.Params,
    parts: int,
) -> tuple[base.Array, base.Array]:
    """The best of weights that are multiples of ``1 / parts`` or equal over a subset.

    For agents whose weights are not equal, a bound that is closer than `best_subset`;
    still not exact.

    Args:
      env: with weights as actions.
      state: the truth.
      params: the parameters.
      parts: P; there are ``C(P + N - 1, N - 1)`` such weights.

    Returns:
      ``(weights [N], reward)``.

    Raises:
      ValueError: the environment has other actions.
    """
    if env.actions != "weights":
        raise ValueError(
            f"best_weights needs an environment of actions='weights', not {env.actions}"
        )
    num_experts = params.tasks.num_experts
    equal = routing.subset_actions(num_experts)
    tried = jnp.concatenate(
        [
            jnp.asarray(equal / equal.sum(axis=1, keepdims=True), jnp.float32),
            jnp.asarray(routing.shares(num_experts, parts)),
        ]
    )
    earned = jax.vmap(lambda w: env.score(state, w, params)[0])(tried)
    best = _place_of_best(earned, True)
    return tried[best], earned[best]


def _reported(view: reports.View) -> base.Array:
    """Reported SNRs; where a report is missing, the lowest."""
    return jnp.where(view.reported > 0.5, view.snr, _LOWEST)


def _best(merit: base.Array, view: reports.View) -> base.Array:
    """The live expert of greatest merit, bool [N]."""
    best = _place_of_best(merit, view.live > 0.5)
    return jnp.arange(merit.shape[0]) == best


def _place_of_best(values: base.Array, valid: base.Array) -> base.Array:
    """The first valid place of the highest value; what is NaN is the worst there is."""
    known = jnp.where(jnp.isnan(values), -jnp.finfo(values.dtype).max, values)
    return jnp.argmax(jnp.where(valid, known, -jnp.inf))
