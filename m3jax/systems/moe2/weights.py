"""Weights of a subset of experts: three kinds, which are never mixed.

``restrict``: the gate's weights, renormalised on the subset (MoE2, equation 2). What
the paper uses; no optimum on the subset (its theorem 1 fails), and not monotone.
``refit``: constant weights for each group of prompts (a domain, a cluster), optimised
on the subset, with a certificate. Monotone: more experts never lose.
``hindsight``: for each row the expert that was best for its label. No rule can choose
so; a bound of what weights per prompt could reach.

Losses are means over rows (tokens) in nats, as in equation 15.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.ops import mixtures, subsets

DEFINED = 1e-6
"""Weight of a subset below which there is nothing to renormalise."""
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


class Rows(NamedTuple):
    """What the experts gave to the right tokens, by group of prompts.

    Attributes:
      log_probs: ``[G, R, N]``, nats.
      row_weights: ``[G, R]``, of sum 1 in each group that has rows.
      shares: ``[G]``, the groups' shares of all rows, of sum 1.
    """

    log_probs: base.Array
    row_weights: base.Array
    shares: base.Array


class Refits(NamedTuple):
    """Refitted subsets, one a row.

    Attributes:
      losses: ``[B]``, nats a row; ``inf`` for the empty subset.
      gaps: ``[B]``, nats that a loss lies above the least possible at most.
      weights: ``[B, G, N]``.
      ratios: ``[B, G, N]``, see `mixtures.Fit`.
    """

    losses: base.Array
    gaps: base.Array
    weights: base.Array
    ratios: base.Array


def make_rows(log_probs: np.ndarray, groups: np.ndarray, num_groups: int) -> Rows:
    """Rows ``[I, N]`` with a group each, put together; see `mixtures.by_group`."""
    return Rows(*map(jnp.asarray, mixtures.by_group(log_probs, groups, num_groups)))


def restrict(gates: base.Array, members: base.Array) -> base.Array:
    """The gate's weights renormalised on a subset (MoE2, equation 2).

    Args:
      gates: ``[..., N]``, not negative; other gates (equation 1 allows any sign) go
        through a softmax first.
      members: bool ``[..., N]``.

    Returns:
      ``[..., N]``, of sum 1; equal on the subset if the gate gives it less than
      `DEFINED`; 0 for the empty subset.
    """
    kept = jnp.where(members, gates, 0.0)
    total = jnp.sum(kept, axis=-1, keepdims=True)
    equal = members / jnp.maximum(jnp.sum(members, axis=-1, keepdims=True), 1)
    some = total > DEFINED
    return jnp.where(some, kept / jnp.where(some, total, 1.0), equal)


@jax.jit
def restrict_losses(gates: base.Array, log_probs: base.Array) -> base.Array:
    """Losses of all subsets with the gate's weights renormalised.

    Args:
      gates: ``[I, N]``, or ``[N]`` for all rows.
      log_probs: ``[I, N]``, nats.

    Returns:
      A table ``[2^N]``, nats a row (`m3jax.ops.subsets`); ``inf`` for the empty subset.
    """
    rows = jnp.full(log_probs.shape[:1], 1.0 / log_probs.shape[0])

    def one(mask):
        found = mixtures.loss(restrict(gates, mask), log_probs, rows)
        return jnp.where(jnp.any(mask), found, jnp.inf)

    return lax.map(one, jnp.asarray(subsets.masks(log_probs.shape[-1])))


@jax.jit
def refit_subsets(rows: Rows, members: base.Array) -> Refits:
    """Refits some subsets, one after the other in one program.

    Args:
      rows: what the experts gave.
      members: bool ``[B, N]``.
    """

    def one(mask):
        fits = jax.vmap(lambda x, v: mixtures.fit(x, v, mask))(*rows[:2])
        used = rows.shares > 0.0
        losses = jnp.where(used, fits.loss, 0.0) @ rows.shares
        losses = jnp.where(jnp.any(mask), losses, jnp.inf)
        return Refits(losses, fits.gap @ rows.shares, fits.weights, fits.ratios)

    return lax.map(one, members)


def refit_losses(rows: Rows) -> Refits:
    """Refits all 2^N subsets; row r is the subset of number r (`m3jax.ops.subsets`)."""
    return refit_subsets(rows, jnp.asarray(subsets.masks(rows.log_probs.shape[-1])))


@jax.jit
def hindsight_losses(log_probs: base.Array) -> base.Array:
    """Losses of all subsets if the best expert for each label were known.

    Args:
      log_probs: ``[I, N]``, nats.

    Returns:
      A table ``[2^N]``, nats a row; ``inf`` for the empty subset.
    """
    return lax.map(
        lambda mask: -jnp.mean(jnp.max(jnp.where(mask, log_probs, -jnp.inf), axis=-1)),
        jnp.asarray(subsets.masks(log_probs.shape[-1])),
    )


class TheoremGap(NamedTuple):
    """By how much theorem 1 of MoE2 fails, over all subsets but the empty one.

    Attributes:
      compares: the two kinds of weights whose losses are subtracted.
      gaps: ``[2^N - 1]``, nats a row, the restricted loss less the refitted one; up to
        the certificate and rounding not negative, and 0 if the theorem held.
      certificate: nats, the greatest that a refitted loss is above its optimum at most.
      quantiles: of the gaps, at `QUANTILES`, over the subsets that are defined.
      num_undefined: subsets to which the weights of all experts give nothing in some
        group, where restricting says nothing and equal weights stand in.
    """

    compares: tuple[str, str]
    gaps: base.Array
    certificate: float
    quantiles: dict[float, float]
    num_undefined: int


def theorem_gap(rows: Rows) -> TheoremGap:
    """Measures how far restricted weights are from the best ones on each subset.

    Like is compared with like: constant weights in each group, fitted to all experts
    and renormalised on the subset, against constant weights in each group that are
    fitted to the subset.

    Args:
      rows: what the experts gave.
    """
    refits = refit_losses(rows)
    full = refits.weights[-1]
    restricted, defined = _restricted(rows, full)
    gaps = np.asarray(restricted - refits.losses)[1:]
    defined = np.asarray(defined)[1:]
    return TheoremGap(
        compares=("refit on all experts, then restrict", "refit on the subset"),
        gaps=gaps,
        certificate=float(jnp.max(refits.gaps)),
        quantiles=dict(
            zip(QUANTILES, np.quantile(gaps[defined], QUANTILES).tolist(), strict=True)
        ),
        num_undefined=int(np.sum(~defined)),
    )


@jax.jit
def _restricted(rows: Rows, full: base.Array) -> tuple[base.Array, base.Array]:
    used = rows.shares > 0.0

    def one(mask):
        losses = jax.vmap(mixtures.loss)(restrict(full, mask), *rows[:2])
        mass = jnp.sum(jnp.where(mask, full, 0.0), axis=-1)
        loss = jnp.where(used, losses, 0.0) @ rows.shares
        return loss, jnp.all((mass > DEFINED) | ~used)

    return lax.map(one, jnp.asarray(subsets.masks(full.shape[-1])))
