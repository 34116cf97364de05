"""Shares of a budget at which everyone stands at one level.

Two convex problems of splitting a budget end in the same equations. To minimise a sum
of falling convex costs, marginal costs must be equal (Karush, Kuhn and Tucker); to
minimise the greatest of them, the costs themselves must be.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base

_LONGEST_STEP = 5.0
"""Of a log share: where levels hardly fall, Newton's step knows no measure."""
_ROUNDINGS = 1e3
"""A residual of so many units in the last place counts as solved: the step that is
still taken from there squares it."""


class Levels(NamedTuple):
    """Shares of equal level.

    Attributes:
      shares: ``[n]``, sum 1; 0 where not active.
      levels: ``[n]``, the level of each, which is also defined where not active.
      level: scalar, the common level.
      residual: scalar, greatest ``|levels - level|`` of an active share.
      num_iterations: int32 scalar, Newton's steps.
      converged: bool scalar.
    """

    shares: base.Array
    levels: base.Array
    level: base.Array
    residual: base.Array
    num_iterations: base.Array
    converged: base.Array


def equalise(
    levels: Callable[[base.Array], base.Array],
    active: base.Array,
    max_iterations: int = 60,
) -> Levels:
    """Finds the shares at which all levels are equal.

        f_i(log x_i) = c for all active i,   sum_i x_i = 1

    by Newton's method in ``log x`` and c, from equal shares. The Jacobian is a diagonal
    with a border, so a step costs O(n). Levels that are about linear in ``log x``, as
    logarithms of marginal costs are, take four to six steps.

    Gradients are those of the implicit function theorem (``lax.custom_root``), by
    everything that ``levels`` closes over, in both modes.

    Args:
      levels: log shares ``[n]`` to levels ``[n]``; the i-th output must fall strictly
        with the i-th input and depend on no other. Differentiable.
      active: bool ``[n]``, who gets a share; if nobody, all do.
      max_iterations: most steps of Newton's method.

    Returns:
      ``Levels``.

    Example:
      >>> weights = jnp.array([1.0, 4.0])  # of the costs w / x: marginals w / x^2
      >>> marginals = lambda log_x: jnp.log(weights) - 2.0 * log_x
      >>> shares = equalise(marginals, jnp.array([True, True])).shares
      >>> [round(share, 4) for share in shares.tolist()]
      [0.3333, 0.6667]
    """
    active = jnp.where(jnp.any(active), active, True)

    def equations(point):
        log_shares, level = point
        apart = levels(log_shares) - level
        return jnp.where(active, apart, -log_shares), _log_sum(log_shares, active)

    def solve(_, start):
        return _newton(levels, active, start, max_iterations)

    dtype = jax.eval_shape(levels, jnp.zeros(active.shape)).dtype
    log_shares = jnp.full(active.shape, -jnp.log(jnp.sum(active, dtype=dtype)))
    log_shares = jnp.where(active, log_shares, 0.0)
    first = lax.stop_gradient(levels(log_shares))
    level = jnp.sum(jnp.where(active, first, 0.0)) / jnp.sum(active)
    (log_shares, level), (num_iterations, converged) = lax.custom_root(
        equations, (log_shares, level), solve, _solve_linear, has_aux=True
    )
    shares = jnp.exp(log_shares - _log_sum(log_shares, active))
    reached = levels(log_shares)
    apart = lax.stop_gradient(jnp.where(active, jnp.abs(reached - level), 0.0))
    return Levels(
        shares=jnp.where(active, shares, 0.0),
        levels=reached,
        level=level,
        residual=jnp.max(apart),
        num_iterations=num_iterations.astype(jnp.int32),
        converged=converged > 0.0,
    )


def _newton(levels, active, start, max_iterations):
    """The root, and (number of steps, whether it converged)."""
    tolerance = _ROUNDINGS * jnp.finfo(start[0].dtype).eps

    def unfinished(state):
        _, last, count = state
        return (last > tolerance) & (count < max_iterations)

    def step(state):
        (log_shares, level), _, count = state
        # One pass gives all slopes, since no level depends on another's share.
        ones = jnp.ones_like(log_shares)
        reached, slopes = jax.jvp(levels, (log_shares,), (ones,))
        rows = jnp.where(active, reached - level, -log_shares)
        last = _log_sum(log_shares, active)
        by_shares, by_level = _solve_bordered(
            jnp.where(active, slopes, -1.0),
            active.astype(rows.dtype),
            jnp.where(active, jnp.exp(log_shares - last), 0.0),
            (rows, last),
        )
        by_shares = jnp.clip(by_shares, -_LONGEST_STEP, _LONGEST_STEP)
        error = jnp.maximum(jnp.max(jnp.abs(rows)), jnp.abs(last))
        return (log_shares - by_shares, level - by_level), error, count + 1

    state = start, jnp.full((), jnp.inf, start[0].dtype), jnp.int32(0)
    point, last, count = lax.while_loop(unfinished, step, state)
    # As floats, since custom_root wants tangents of all.
    return point, (count.astype(last.dtype), (last <= tolerance).astype(last.dtype))


def _solve_bordered(diagonal, border, weights, values):
    """Solves ``d_i y_i - e_i c = r_i, sum_i w_i y_i = s``."""
    rows, last = values
    along, across = rows / diagonal, border / diagonal
    level = (last - weights @ along) / (weights @ across)
    return along + across * level, level


def _solve_linear(linear, values):
    """The same, of equations that are given as a linear function, for tangents."""
    ones, none = jnp.ones_like(values[0]), jnp.zeros_like(values[1])
    diagonal = linear((ones, none))[0]
    border = -linear((jnp.zeros_like(ones), jnp.ones_like(none)))[0]
    (weights,) = jax.linear_transpose(lambda rows: linear((rows, none))[1], ones)(
        jnp.ones_like(none)
    )
    return _solve_bordered(diagonal, border, weights, values)


def _log_sum(log_shares: base.Array, active: base.Array) -> base.Array:
    return jax.nn.logsumexp(log_shares, where=active)
