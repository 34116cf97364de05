"""What every environment with the calls of gymnax 1.0 must hold, whatever it models."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.testing import gradients, traces


class Step(NamedTuple):
    """What went into a step, and what came out of it."""

    key: base.Array
    state: Any
    action: base.Array
    out: tuple

    @property
    def over(self) -> bool:
        """Whether it ended an episode."""
        return bool(self.out[3] | self.out[4])


def check_environment(
    env: Any,
    variants: Sequence[Any],
    key: base.Array,
    draws: bool = True,
    num_steps: int = 8,
    num_envs: int = 3,
    tolerance: float = 1e-4,
) -> None:
    """Checks an environment against the contract of gymnax 1.0.

    That shapes and types are what the spaces say, and actions of the space are taken;
    that all that is told is finite; that a key decides everything and is consumed once;
    that jit, vmap and eager agree; that one trace serves all parameters and steps; that
    the end of an episode begins the next one, from the key alone, and leaves the last
    observation of the old one in ``info["final_observation"]``; and that nothing begins
    anew otherwise.

    Args:
      env: the environment.
      variants: parameters that differ in values only. An episode must end within
        ``num_steps`` random actions.
      key: random key.
      draws: whether episodes begin by chance, with the first of them, so that another
        key gives another one.
      num_steps: how many to play.
      num_envs: environments that play, at least 2.
      tolerance: between jit, vmap and eager, absolute and relative.

    Raises:
      AssertionError: names what does not hold.

    Example:
      >>> from m3jax.rl import probes
      >>> tables = [probes.time_limit(), probes.two_steps()]
      >>> check_environment(probes.Probe(), tables, jax.random.key(0), draws=False)
    """
    trace_key, begin_key, *keys = jax.random.split(key, 2 + len(variants))
    reset, step = _check_traces(env, variants, trace_key)
    _check_keys(env, variants[0], reset, begin_key, draws)
    batch = (
        jax.jit(jax.vmap(env.reset, (0, None))),
        jax.jit(jax.vmap(env.step, (0, 0, 0, None))),
    )
    for params, one_key in zip(variants, keys, strict=True):
        play_key, end_key = jax.random.split(one_key)
        keys = jax.random.split(play_key, (num_steps + 1, num_envs))
        played = _play(env.action_space(params), params, batch, keys)
        for one in played:
            _check_told(env, params, one)
        _check_transforms(env, params, step, played[:num_envs], tolerance)
        _check_ends(params, step, [one for one in played if one.over], end_key)
        _check_last_observations(played)


def _check_traces(
    env: Any, variants: Sequence[Any], key: base.Array
) -> tuple[Callable, Callable]:
    """One trace for all parameters, and for a step from a reset and from a step.

    Returns:
      Reset and step, compiled.
    """
    counted = [traces.CountTraces(fn) for fn in (env.reset, env.step)]
    reset, step = (jax.jit(fn) for fn in counted)
    for i, params in enumerate(variants):
        keys = jax.random.split(jax.random.fold_in(key, i), 4)
        action = env.action_space(params).sample(keys[0])
        obs, begun = reset(keys[1], params)
        after = step(keys[2], begun, action, params)[1]
        step(keys[3], after, action, params)
        _check_in(env.observation_space(params), obs, "the observation of a reset")
        _check_in(env.action_space(params), action, "a sampled action")
        kinds = [_kinds(state) for state in (begun, after)]
        assert kinds[0] == kinds[1], (
            f"a step changes the state's types: {kinds[0]} became {kinds[1]}."
        )
    for name, one in zip(("reset", "step"), counted, strict=True):
        assert one.count == 1, (
            f"{name} was traced {one.count} times for {len(variants)} parameters; what"
            " should be data is static, or the state changes its types."
        )
    return reset, step


def _check_keys(
    env: Any, params: Any, reset: Callable, key: base.Array, draws: bool
) -> None:
    """Keys are consumed once, and decide; nothing is compiled for the former."""
    action = env.action_space(params).sample(key)
    with jax.debug_key_reuse(True):
        state = jax.jit(env.reset).eval_shape(key, params)[1]
        jax.jit(env.step).trace(key, state, action, params)
    first, again, *others = (
        _leaves(reset(k, params)[0]) for k in (key, key, *jax.random.split(key, 16))
    )
    assert not _unlike(first)(again), "one key gives two episodes."
    if draws:
        assert any(map(_unlike(first), others)), "all keys give one episode."


def _play(
    space: Any, params: Any, batch: tuple[Callable, Callable], keys: base.Array
) -> list[Step]:
    """Random actions in some environments: their first steps, their second ones, ..."""
    reset, step = batch
    state = reset(keys[0], params)[1]
    played = []
    for row in keys[1:]:
        both = jax.vmap(jax.random.split)(row)
        action = jax.vmap(space.sample)(both[:, 0])
        out = step(both[:, 1], state, action, params)
        whole = Step(both[:, 1], state, action, out)
        played += [jax.tree.map(lambda x, i=i: x[i], whole) for i in range(len(row))]
        state = out[1]
    return played


def _check_told(env: Any, params: Any, one: Step) -> None:
    """Shapes, types, finite values, and no reset before the end."""
    obs, _, reward, terminated, truncated, info = one.out
    space, final = env.observation_space(params), info["final_observation"]
    _check_in(space, obs, "an observation")
    _check_in(space, final, "a final observation")
    assert reward.shape == () and jnp.issubdtype(reward.dtype, jnp.floating), (
        f"the reward must be a float scalar, got {reward.dtype} {reward.shape}."
    )
    ends = {"terminated": terminated, "truncated": truncated}
    for name, end in ends.items():
        assert end.shape == () and end.dtype == bool, (
            f"{name} must be a bool scalar, got {end.dtype} {end.shape}."
        )
        assert info[name] == end, f"info[{name!r}] differs from {name}."
    told = {"observation": obs, "reward": reward, "info": dict(info)}
    gradients.assert_finite(told, "what a step tells is")
    assert one.over or not _unlike(_leaves(final))(_leaves(obs)), (
        "the final observation differs from the observation before an episode's end."
    )


def _check_transforms(
    env: Any, params: Any, step: Callable, lanes: Sequence[Step], tolerance: float
) -> None:
    """A batch is a loop, compiled or not, and the same call gives the same."""
    singles = [step(one.key, one.state, one.action, params) for one in lanes]
    for one, single in zip(lanes, singles, strict=True):
        _assert_close(one.out, single, tolerance, "vmap and a loop")
    first = lanes[0]
    inputs = first.key, first.state, first.action, params
    _assert_close(env.step(*inputs), singles[0], tolerance, "eager and jit")
    _assert_close(step(*inputs), singles[0], 0.0, "a call and its repetition")


def _check_ends(
    params: Any, step: Callable, ended: Sequence[Step], key: base.Array
) -> None:
    """Episodes that end with one key go on alike, whatever they were."""
    assert ended, "no episode has ended; give more num_steps or shorter episodes."
    for pair in itertools.combinations(ended, 2):
        again = [step(key, one.state, one.action, params) for one in pair]
        if all(bool(out[3] | out[4]) for out in again):
            begun = [_leaves(out[:2]) for out in again]
            assert not _unlike(begun[0])(begun[1]), (
                "what begins after an end depends on more than the key: the state or"
                " the observation is not that of a new episode."
            )
            return
    raise AssertionError("fewer than two episodes have ended; give more num_steps.")


def _check_last_observations(played: Sequence[Step]) -> None:
    """Some final observation is not the first one of the next episode."""
    obs = [_leaves(one.out[0]) for one in played]
    final = [_leaves(one.out[5]["final_observation"]) for one in played]
    differ = [_unlike(a)(b) for a, b in zip(obs, final, strict=True)]
    # Where all observations are the same, so are these.
    assert any(differ) or not any(map(_unlike(final[0]), obs)), (
        "final observations are those of the next episodes."
    )


def _check_in(space: Any, x: Any, what: str) -> None:
    """Shape, type and bounds; a mapping of spaces stands for a dict."""
    inner = getattr(space, "spaces", space)
    if isinstance(inner, Mapping):
        assert isinstance(x, Mapping) and set(x) == set(inner), (
            f"{what} must have the names {sorted(inner)}, got {x}."
        )
        for name, part in inner.items():
            _check_in(part, x[name], f"{name!r} of {what}")
        return
    assert not isinstance(x, Mapping), f"{what} is a mapping, its space is {space}."
    kinds = [(tuple(y.shape), jnp.dtype(y.dtype)) for y in (space, x)]
    assert kinds[0] == kinds[1], f"{what} is {kinds[1]}, its space says {kinds[0]}."
    assert bool(space.contains(x)), f"{what} is not within its space: {x}."


def _kinds(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)


def _leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def _unlike(a: Sequence[np.ndarray]) -> Callable[[Sequence[np.ndarray]], bool]:
    return lambda b: any(np.any(x != y) for x, y in zip(a, b, strict=True))


def _assert_close(a: Any, b: Any, tolerance: float, what: str) -> None:
    for x, y in zip(_leaves(a), _leaves(b), strict=True):
        np.testing.assert_allclose(x, y, tolerance, tolerance, err_msg=what)
