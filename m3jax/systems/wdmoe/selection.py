"""Which experts a token keeps: WDMoE's policies as functions of weights.

Every policy takes the gate's probabilities, which tokens are there and seconds of a
token on each expert's device, and gives what it does with them:

    policy(probs [T, n], mask [T], latencies [n]) -> Selection, .weights [T, n]

A weight of 0 asks no expert. The best expert of a token is never dropped, and the least
of the chosen goes first. ``weights_of`` makes of a policy the plain function from three
arrays to weights that a mixture layer takes. All can be jitted and vmapped.
"""

import enum
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.systems.wdmoe import ratios


class Status(enum.IntEnum):
    """How Algorithm 1 ended.

    Attributes:
      REACHED: the ratio of weight to latency rose as asked.
      EXHAUSTED: the threshold passed 1, above which no cosine is, before that.
      NOTHING_LEFT: every token was down to one expert before that.
    """

    REACHED = 0
    EXHAUSTED = 1
    NOTHING_LEFT = 2


class Selection(NamedTuple):
    """What a policy decided.

    Attributes:
      weights: ``[T, n]``, 0 where an expert is not asked and for tokens that are not
        there.
      num_dropped: int32 scalar, choices of top-K that were dropped.
      ratio: scalar, the sum of the experts' ratios of weight to latency.
      threshold: scalar, theta of the last drop; NaN of other policies.
      status: int32 scalar, a ``Status`` of Algorithm 1; 0 of other policies.
    """

    weights: base.Array
    num_dropped: base.Array
    ratio: base.Array
    threshold: base.Array
    status: base.Array


def weights_of(policy: Callable[..., Selection], **settings) -> Callable:
    """A policy with settings, as the function to weights alone.

    Example:
      >>> choose = weights_of(vanilla, k=1)
      >>> choose(jnp.array([[0.7, 0.3]]), jnp.array([True]), jnp.ones(2)).tolist()
      [[1.0, 0.0]]
    """
    chosen = functools.partial(policy, **settings)
    return lambda probs, mask, latencies: chosen(probs, mask, latencies).weights


def vanilla(
    probs: base.Array,
    mask: base.Array,
    latencies: base.Array,
    *,
    k: int = 2,
    renormalise: bool = True,
) -> Selection:
    """The k best experts of each token, whatever they cost: Mixtral's choice.

    Args:
      probs: of the gate, ``[T, n]``.
      mask: bool ``[T]``, which tokens are there.
      latencies: seconds of a token, ``[n]``; only for ``ratio``.
      k: experts of a token.
      renormalise: weights of a token sum up to 1.
    """
    kept = ratios.top_k(probs, mask, k)
    return finish(probs, kept, kept, latencies, renormalise)


def cosine(
    probs: base.Array,
    mask: base.Array,
    latencies: base.Array,
    *,
    k: int = 2,
    renormalise: bool = True,
    over: str = "all",
    rise: float = 1.01,
    start: float = 0.5,
    step: float = 0.1,
    max_passes: int = 6,
) -> Selection:
    """Algorithm 1: drops where the gate's weights do not look like the latencies.

    Tokens with a cosine (18) of ``S_j <= theta`` lose their least expert, theta rises,
    and so on while the sum of ratios (12) is at most ``rise`` times that of top-k; then
    there is one more pass, as printed. As printed it may never end; here it also does
    where theta would pass 1, where no token has an expert to lose, or after
    ``max_passes``.

    Args:
      probs: of the gate, ``[T, n]``.
      mask: bool ``[T]``, which tokens are there.
      latencies: t, seconds of a token at *even* bandwidths, ``[n]``.
      k: experts of a token at first; it keeps one at least.
      renormalise: weights of a token sum up to 1.
      over: "all", the cosine of all n weights, or "selected", of those still chosen.
      rise: what the ratio must reach, over the first.
      start: first theta.
      step: by which it rises.
      max_passes: most passes but for the last one.

    Raises:
      ValueError: ``over`` is another word.
    """
    if over not in ("all", "selected"):
        raise ValueError(f"over must be 'all' or 'selected', got {over!r}.")
    first = ratios.top_k(probs, mask, k)

    def theta_of(count):
        return start + step * count.astype(probs.dtype)

    def ratio_of(kept):
        return jnp.sum(ratios.weight_latency_ratio(probs, kept, latencies))

    def one_pass(kept, theta):
        compared = probs if over == "all" else jnp.where(kept, probs, 0.0)
        # A little room: 0.5 + 5 x 0.1 is rounded, and so is a cosine of 1.
        off = ratios.cosine_similarity(compared, latencies) <= theta + 1e-5
        losing = off & ratios.is_several(kept)
        return kept & ~(ratios.lowest(probs, kept) & losing[:, None])

    goal = rise * ratio_of(first)

    def proceeds(state):
        kept, count = state
        possible = (theta_of(count) <= 1.0 + 1e-5) & (count < max_passes)
        return (ratio_of(kept) <= goal) & possible & jnp.any(ratios.is_several(kept))

    def drop(state):
        kept, count = state
        return one_pass(kept, theta_of(count)), count + 1

    kept, count = lax.while_loop(proceeds, drop, (first, jnp.int32(0)))
    several = jnp.any(ratios.is_several(kept))
    status = jnp.where(several, Status.EXHAUSTED, Status.NOTHING_LEFT)
    status = jnp.where(ratio_of(kept) > goal, Status.REACHED, status)
    theta = jnp.minimum(theta_of(count), 1.0)
    kept = one_pass(kept, theta)
    found = finish(probs, kept, first, latencies, renormalise, theta)
    return found._replace(status=status.astype(jnp.int32))


def dynamic(
    probs: base.Array,
    mask: base.Array,
    latencies: base.Array,
    *,
    k: int = 2,
    renormalise: bool = True,
    spare: base.Array = 0.2,
) -> Selection:
    """As many experts as a token needs: the least go that have little weight together.

    Args:
      probs: of the gate, ``[T, n]``.
      mask: bool ``[T]``, which tokens are there.
      latencies: seconds of a token, ``[n]``; only for ``ratio``.
      k: experts of a token at first; it keeps one at least.
      renormalise: weights of a token sum up to 1.
      spare: share of the k experts' weight that may be dropped, scalar or ``[T]``.
    """
    first = ratios.top_k(probs, mask, k)
    chosen = jnp.where(first, probs, 0.0)
    place = ratios.rank(chosen)
    behind = place[:, None, :] >= place[:, :, None]  # an expert and all behind it
    weight = jnp.sum(jnp.where(behind, chosen[:, None, :], 0.0), axis=-1)
    spared = jnp.sum(chosen, axis=1) * spare
    kept = first & ((weight > spared[:, None]) | (place == 0))
    return finish(probs, kept, first, latencies, renormalise)


def keep_best(probs: base.Array, mask: base.Array, num_kept: base.Array) -> base.Array:
    """A token's best experts, as many as it is given, one at least.

    Args:
      probs: ``[T, n]``.
      mask: bool ``[T]``.
      num_kept: int ``[T]``; below 1 counts as 1.

    Returns:
      bool ``[T, n]``.
    """
    return (ratios.rank(probs) < jnp.maximum(num_kept, 1)[:, None]) & mask[:, None]


def finish(
    probs: base.Array,
    kept: base.Array,
    first: base.Array,
    latencies: base.Array,
    renormalise: bool,
    theta: base.Array = jnp.nan,
) -> Selection:
    """What was kept of the first choice, as a `Selection`."""
    weights = jnp.where(kept, probs, 0.0)
    if renormalise:
        whole = jnp.sum(weights, axis=-1, keepdims=True)
        weights = weights / jnp.where(whole > 0.0, whole, 1.0)
    return Selection(
        weights=weights,
        num_dropped=(jnp.sum(first) - jnp.sum(kept)).astype(jnp.int32),
        ratio=jnp.sum(ratios.weight_latency_ratio(probs, kept, latencies)),
        threshold=jnp.asarray(theta, probs.dtype),
        status=jnp.int32(0),
    )
