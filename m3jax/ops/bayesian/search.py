"""Bayesian optimisation: a Gaussian process says where to look next.

`minimise` runs a whole search in one compiled program, for objectives in JAX, and can
be vmapped over keys. `start`, `ask` and `tell` are its parts, jitted, for objectives in
Python. Buffers have the size of the whole search from the start, so that nothing is
compiled twice.

Where some variable takes any value, the best candidates are refined by gradient ascent
of the logarithm of what is maximised, and the process has a constant mean that is
fitted: with the plain mean of values that crowd around the best, far corners look good.
Spaces of levels alone are searched without both.

Constraints: each excess has a Gaussian process of its own, and what is maximised is

    EI(x) prod_c P(excess_c(x) <= 0),   and the product alone before anything kept all

(Gardner et al., "Bayesian optimization with inequality constraints", ICML 2014).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops.bayesian import acquisition, candidates, space, surrogate, trace
from m3jax.ops.bayesian import settings as settings_lib

Settings = settings_lib.Settings
DEFAULT = Settings()


class State(NamedTuple):
    """Where a search stands.

    Attributes:
      points: ``[num, d]`` in the unit cube; the first ``num_initial`` rows are the
        design, the others are written when they are told.
      values: ``[num]``.
      excess: ``[num, C]``.
      count: int32, evaluations so far.
      hyper: `surrogate.Hyper` of the value and of each excess, leading axis 1 + C.
    """

    points: base.Array
    values: base.Array
    excess: base.Array
    count: base.Array
    hyper: surrogate.Hyper


@functools.partial(jax.jit, static_argnames=("within", "settings", "num_excess"))
def start(
    key: base.Array,
    within: space.Space,
    settings: Settings = DEFAULT,
    num_excess: int = 0,
) -> State:
    """Begins a search.

    Args:
      key: of the design.
      within: what may be chosen.
      settings: how to go.
      num_excess: C, constraints.
    """
    num_dims = len(within.dimensions)
    cell_key, jitter_key = jax.random.split(key)
    num = settings.num_initial
    rows = jnp.tile(jnp.arange(num)[:, None], (1, num_dims))
    cells = jax.random.permutation(cell_key, rows, axis=0, independent=True)
    design = (cells + jax.random.uniform(jitter_key, cells.shape)) / num
    points = jnp.zeros((settings.num, num_dims)).at[:num].set(within.snap(design))
    hyper = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (1 + num_excess, *leaf.shape)),
        surrogate.prior(num_dims),
    )
    return State(
        points,
        jnp.zeros(settings.num),
        jnp.zeros((settings.num, num_excess)),
        jnp.int32(0),
        hyper,
    )


@functools.partial(jax.jit, static_argnames=("within", "settings"))
def ask(
    key: base.Array,
    state: State,
    within: space.Space,
    settings: Settings = DEFAULT,
) -> tuple[base.Array, State]:
    """Where to look next.

    Args:
      key: of the candidates, another one each time.
      state: where the search stands.
      within: what may be chosen.
      settings: how to go.

    Returns:
      A point of the unit cube ``[d]``, which `tell` takes and ``within.values`` reads,
      and the state with kernels that fit what was told.
    """

    def planned():
        return state.points[state.count], state.hyper

    def sought():
        return _seek(key, state, within, settings)

    point, hyper = jax.lax.cond(state.count < settings.num_initial, planned, sought)
    return point, state._replace(hyper=hyper)


@jax.jit
def tell(
    state: State, point: base.Array, value: base.Array, excess: base.Array = ()
) -> State:
    """Writes down an evaluation; one more than ``num`` of them changes nothing.

    Args:
      state: where the search stands.
      point: ``[d]``, as `ask` gave it.
      value: what was found there.
      excess: ``[C]``, above 0 where a constraint is broken.
    """
    row, num_excess = state.count, state.excess.shape[1]
    excess = jnp.asarray(excess, jnp.float32).reshape(num_excess)
    return state._replace(
        points=state.points.at[row].set(point, mode="drop"),
        values=state.values.at[row].set(value, mode="drop"),
        excess=state.excess.at[row].set(excess, mode="drop"),
        count=jnp.minimum(state.count + 1, state.values.shape[0]),
    )


def minimise(
    key: base.Array,
    objective: Callable[[base.Array], base.Array],
    within: space.Space,
    settings: Settings = DEFAULT,
    num_excess: int = 0,
) -> trace.Trace:
    """A whole search; jit it, and vmap it over keys.

    Args:
      key: of the search.
      objective: in JAX, from ``[d]`` in the units of the dimensions to a value, or with
        constraints to ``(value, excess [C])``.
      within: what may be chosen.
      settings: how to go.
      num_excess: C, constraints.

    Returns:
      Its ``num`` evaluations.

    Raises:
      ImportError: tinygp is not installed.

    Example:
      >>> line = space.Space((space.Dimension("x", -2, 2),))
      >>> few = Settings(num=12, num_initial=4, xi=0.01)
      >>> found = minimise(jax.random.key(0), lambda x: (x[0] - 0.5) ** 2, line, few)
      >>> bool(abs(found.best_point[0] - 0.5) < 0.1)
      True
    """
    start_key, *_ = keys = jax.random.split(key, 1 + settings.num)
    state = start(start_key, within, settings, num_excess)

    def look(unit):
        return trace.evaluate(objective, within, unit, num_excess)

    # The design needs no model: its turns are a loop of their own.
    def planned(row, state):
        return tell(state, state.points[row], *look(state.points[row]))

    def sought(row, state):
        point, hyper = _seek(keys[1 + row], state, within, settings)
        return tell(state._replace(hyper=hyper), point, *look(point))

    state = jax.lax.fori_loop(0, settings.num_initial, planned, state)
    state = jax.lax.fori_loop(settings.num_initial, settings.num, sought, state)
    return trace.Trace(within.values(state.points), state.values, state.excess)


def _seek(key, state: State, within, settings) -> tuple[base.Array, surrogate.Hyper]:
    """The candidate of the greatest acquisition, and kernels that fit."""
    filled = jnp.arange(state.values.shape[0]) < state.count
    kept = filled & jnp.all(state.excess <= 0.0, axis=1)
    told = jnp.concatenate([state.values[None], state.excess.T])  # [1 + C, N]
    scaled, centre, scale = jax.vmap(_standardised, (0, None))(told, filled)
    some_free = any(one.levels == 0 for one in within.dimensions)
    fit_mean = some_free if settings.fit_mean is None else settings.fit_mean

    def fitted(hyper, values):
        arguments = state.points, values, filled
        steps = settings.fit_steps, settings.learning_rate
        hyper = surrogate.fit(hyper, *arguments, *steps, fit_mean)
        return hyper, surrogate.condition(hyper, *arguments, fit_mean)

    hyper, known = jax.vmap(fitted)(state.hyper, scaled)
    best = jnp.min(jnp.where(kept, scaled[0], jnp.inf))
    worst = jnp.max(state.excess, axis=1, initial=0.0)
    rank = jnp.where(jnp.any(kept), jnp.where(kept, scaled[0], jnp.inf), worst)
    leader = state.points[jnp.argmin(jnp.where(filled, rank, jnp.inf))]
    # What a constraint's limit of 0 is after it was standardised.
    limit = -(centre / scale)[1:]

    def merit(queries):
        mean, std = jax.vmap(surrogate.predict, (0, None))(known, queries)
        mean = mean.at[1:].add(-limit[:, None])
        return acquisition.constrained(mean, std, best, settings.xi, log=some_free)

    def gains(queries):
        gap = jnp.max(jnp.abs(queries[:, None] - state.points[None]), axis=-1)
        again = jnp.any((gap < 1e-6) & filled, axis=1)
        return jnp.where(again, -jnp.inf, merit(queries))

    drawn = settings.num_candidates, settings.num_near
    queries = candidates.draw(key, leader, within, *drawn)
    gain = gains(queries)
    if some_free and settings.num_refined:
        _, first = jax.lax.top_k(gain, settings.num_refined)
        how = settings.refine_steps, settings.refine_rate
        refined = candidates.climb(merit, queries[first], within, *how)
        queries = jnp.concatenate([queries, refined])
        gain = jnp.concatenate([gain, gains(refined)])
    return queries[jnp.argmax(gain)], hyper


def _standardised(values: base.Array, filled: base.Array):
    """Filled values with mean 0 and variance 1, their mean and standard deviation."""
    count = jnp.maximum(jnp.sum(filled), 1)
    centre = jnp.sum(jnp.where(filled, values, 0.0)) / count
    spread = jnp.sum(jnp.where(filled, (values - centre) ** 2, 0.0)) / count
    scale = jnp.where(spread > 0.0, jnp.sqrt(spread), 1.0)
    return jnp.where(filled, (values - centre) / scale, 0.0), centre, scale
