"""Mixtures of given densities with constant weights: the weights of least log-loss.

    L(w) = - sum_r v_r log sum_n w_n f_rn     over the simplex, w_n = 0 outside a subset

with f_rn what component n gives to row r, and v_r the weights of the rows, of sum 1. L
is convex. All is done with logarithms of f, each row scaled by its greatest f in the
subset, so float32 bears any of them. Functions are for one subset and one set of rows:
``vmap``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.ops import numbers

_TINY = 1e-30
_SAFE = 0.95  # of the way to the boundary
_CENTRING = 0.1


class Fit(NamedTuple):
    """Weights and how good they are.

    Attributes:
      weights: ``[N]``, of sum 1 and 0 outside the subset.
      loss: nats a row; ``inf`` for the empty subset.
      gap: nats that ``loss`` lies above the least possible at most, see `certificate`.
      ratios: ``[N]``, ``G_n = sum_r v_r f_rn / F_r`` at these weights, for components
        outside the subset too: with ``F`` the mixture, ``-G`` is the slope of L.
    """

    weights: base.Array
    loss: base.Array
    gap: base.Array
    ratios: base.Array


def loss(
    weights: base.Array, log_probs: base.Array, row_weights: base.Array
) -> base.Array:
    """L(w) in nats a row.

    Args:
      weights: ``[N]`` or ``[R, N]``, not negative; not all 0 in a row.
      log_probs: log f, ``[R, N]``, below ``inf``.
      row_weights: v, ``[R]``, of sum 1; rows of weight 0 may hold anything finite.
    """
    return -jnp.sum(row_weights * _log_mixture(weights, log_probs))


def certificate(ratios: base.Array, members: base.Array) -> base.Array:
    """How far above the least loss of a subset a loss can lie.

        L(w) - L* <= log max_n G_n <= max_n G_n - 1,   G_n = sum_r v_r f_rn / F_r

    Proof: for any u on the simplex, by Jensen, ``L(w) - L(u) = sum_r v_r log(U_r / F_r)
    <= log sum_r v_r U_r / F_r = log sum_n u_n G_n <= log max_n G_n``, with U the
    mixture of u. (The second form is that of Lindsay, Annals of Statistics 11, 1983.)

    Args:
      ratios: G at the weights, ``[..., N]``.
      members: the subset, bool ``[..., N]``.

    Returns:
      Nats, not negative: at exact weights G is at most 1.
    """
    numbers.require_some(ratios, "ratios", axis=-1)
    most = jnp.max(jnp.where(members, numbers.as_float(ratios), 0.0), axis=-1)
    return jnp.maximum(jnp.log(jnp.maximum(most, _TINY)), 0.0)


def em_step(
    weights: base.Array, log_probs: base.Array, row_weights: base.Array
) -> base.Array:
    """One step of expectation and maximisation: ``w_n <- w_n G_n``; L never rises.

    (Dempster, Laird and Rubin, JRSS B 39, 1977; Cover's algorithm for portfolios, IEEE
    Transactions on Information Theory 30, 1984.)
    """
    relative = jnp.exp(log_probs - _log_mixture(weights, log_probs)[:, None])
    ratios = row_weights @ jnp.where(weights > 0.0, relative, 0.0)
    return weights * ratios


def fit(
    log_probs: base.Array,
    row_weights: base.Array,
    members: base.Array,
    *,
    tolerance: float = 1e-6,
    max_steps: int = 40,
) -> Fit:
    """The weights of a subset that minimise L, by Newton's method, with a certificate.

    A primal-dual interior point method for ``min L(w) + sum_n w_n`` over ``w >= 0``,
    whose solution has sum 1, as does every minimum of L over the simplex: 8 to 15 steps
    where plain `em_step` takes hundreds to thousands. A step of EM follows each of
    Newton's, and the best weights seen are returned, so what is certified never gets
    worse.

    Args:
      log_probs: log f, ``[R, N]``, below ``inf``; somebody of the subset gives each row
        more than 0.
      row_weights: v, ``[R]``, not negative, of sum 1 (or all 0: then all losses are 0).
      members: the subset, bool ``[N]``.
      tolerance: the certified gap in nats at which it stops; float32 reaches 1e-6.
      max_steps: Newton's steps at most.

    Example:
      >>> rows = jnp.log(jnp.array([[0.8, 0.1], [0.2, 0.9], [0.2, 0.9]]))
      >>> found = fit(rows, jnp.full(3, 1 / 3), jnp.array([True, True]))
      >>> [round(w, 3) for w in found.weights.tolist()]  # (1/3 - 0.1) / (0.8 - 0.1)
      [0.333, 0.667]
    """
    members = jnp.asarray(members)
    top = jnp.max(jnp.where(members, log_probs, -jnp.inf), axis=-1, keepdims=True)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    scaled = jnp.exp(jnp.where(members, log_probs - top, -jnp.inf))
    size = jnp.maximum(jnp.sum(members), 1)

    def measure(weights):
        weights = jnp.where(members, weights, 0.0)
        mixed = jnp.maximum(scaled @ weights, _TINY)
        relative = scaled / mixed[:, None]
        value = -jnp.sum(row_weights * jnp.log(mixed))
        ratios = row_weights @ relative
        # w G is 1: to divide by it takes out what rounding does to all alike.
        return value, _over(ratios, jnp.sum(weights * ratios)), relative

    def step(carry):
        count, weights, slack, best = carry
        _, ratios, relative = measure(weights)
        level = _CENTRING * jnp.sum(jnp.where(members, weights * slack, 0.0)) / size
        level = jnp.maximum(level, 1e-3 * tolerance / size)
        curvature = (relative * row_weights[:, None]).T @ relative
        right = ratios - 1.0 + level / weights
        diagonal = jnp.where(members, slack / weights, 1.0)
        right = jnp.where(members, right, 0.0)
        move = _solve(curvature + jnp.diag(diagonal), right)
        slack_move = (level - slack * move) / weights - slack
        weights = weights + _reach(weights, move, members) * move
        slack = slack + _reach(slack, slack_move, members) * slack_move
        weights, slack = (jnp.where(members, x, 1.0) for x in (weights, slack))
        # What is certified: on the simplex, after a step of EM.
        normal = jnp.where(members, weights, 0.0)
        normal = _over(normal, jnp.sum(normal))
        _, ratios, _ = measure(normal)
        normal = normal * ratios
        normal = _over(normal, jnp.sum(normal))
        value, ratios, _ = measure(normal)
        gap = certificate(ratios, members)
        better = gap < best[2]
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), (normal, value, gap), best
        )
        return count + 1, weights, slack, best

    equal = members / size
    value, ratios, _ = measure(equal)
    best = (equal, value, certificate(ratios, members))
    weights = jnp.where(members, 1.0 / size, 1.0).astype(scaled.dtype)
    slack = jnp.ones_like(weights)
    _, _, _, best = lax.while_loop(
        lambda carry: (carry[0] < max_steps) & (carry[3][2] > tolerance),
        step,
        (0, weights, slack, best),
    )
    weights, value, gap = best
    value = value - jnp.sum(row_weights * top[:, 0])
    log_mixed = _log_mixture(weights, log_probs)
    ratios = row_weights @ jnp.exp(jnp.minimum(log_probs - log_mixed[:, None], 80.0))
    ratios = _over(ratios, jnp.sum(weights * ratios))
    some = jnp.any(members)
    return Fit(weights, jnp.where(some, value, jnp.inf), gap, ratios)


def by_group(
    log_probs: np.ndarray, groups: np.ndarray, num_groups: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows put together by group, each group filled up with rows of weight 0.

    Args:
      log_probs: ``[I, N]``.
      groups: int ``[I]``, the domain or cluster of each row.
      num_groups: G.

    Returns:
      ``(log_probs [G, R, N], row_weights [G, R], shares [G])``: the rows of a group
      weigh the same, in sum 1 (0 in an empty group); shares are those of the rows.

    Raises:
      ValueError: a group is none of the G.
    """
    log_probs, groups = np.asarray(log_probs), np.asarray(groups)
    if groups.shape != log_probs.shape[:1]:
        raise ValueError(
            f"there are {len(log_probs)} rows, but groups have shape {groups.shape}"
        )
    if groups.size == 0 or groups.min() < 0 or groups.max() >= num_groups:
        raise ValueError(f"each row needs a group from 0 to {num_groups - 1}")
    counts = np.bincount(groups, minlength=num_groups)
    order = np.argsort(groups, kind="stable")
    place = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
    stacked = np.zeros((num_groups, counts.max(), log_probs.shape[1]), np.float32)
    weights = np.zeros(stacked.shape[:2], np.float32)
    stacked[groups[order], place] = log_probs[order]
    weights[groups[order], place] = 1.0 / counts[groups[order]]
    return stacked, weights, (counts / counts.sum()).astype(np.float32)


def _log_mixture(weights: base.Array, log_probs: base.Array) -> base.Array:
    """``log sum_n w_n f_rn``, ``[R]``."""
    return jax.nn.logsumexp(
        log_probs, b=jnp.broadcast_to(weights, log_probs.shape), axis=-1
    )


def _over(values: base.Array, total: base.Array) -> base.Array:
    return values / jnp.where(total > 0.0, total, 1.0)


def _reach(values: base.Array, move: base.Array, members: base.Array) -> base.Array:
    """The share of a move that keeps values above 0."""
    falls = members & (move < 0.0)
    ratio = jnp.where(falls, values / jnp.where(falls, -move, 1.0), jnp.inf)
    return jnp.minimum(1.0, _SAFE * jnp.min(ratio))


def _solve(matrix: base.Array, right: base.Array) -> base.Array:
    """Solves a symmetric positive definite system, scaled to a diagonal of ones."""
    scale = lax.rsqrt(jnp.diagonal(matrix))
    factor = jnp.linalg.cholesky(matrix * scale[:, None] * scale)
    half = jax.scipy.linalg.solve_triangular(factor, right * scale, lower=True)
    whole = jax.scipy.linalg.solve_triangular(factor, half, lower=True, trans=1)
    return whole * scale
