"""A policy that is learned: devices have prices, and experts must be worth theirs.

    score_jk = log p_jk - price t_k / mean(t)

A token asks the k experts of the greatest scores, but none whose score is more than a
margin below its best. Price and margin of each block are parameters. The step from a
score to being asked has the gradient of a soft step (straight through), so a loss of
latency, through the split of the band, trains them and the router itself. The router
stays what it was where price is 0 and the margin is wide: top-k.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.systems.wdmoe import ratios

SOFTNESS = 0.5
"""Width of the soft step, in nats of a score."""
_FAR = 1e3


class Prices(NamedTuple):
    """Of a block, or of L blocks with a leading axis.

    Attributes:
      price: nats for the mean latency of the devices.
      margin: before a softplus: nats below the best score from where nobody is asked.
    """

    price: base.Array
    margin: base.Array


def init(depth: int) -> Prices:
    """Prices of 0, and margins of 3 nats: a twentieth of the best expert's weight."""
    return Prices(jnp.zeros(depth, jnp.float32), jnp.full(depth, 3.0, jnp.float32))


def scores(probs: base.Array, token_s: base.Array, price: base.Array) -> base.Array:
    """What experts are worth, ``[T, n]``, in nats.

    Args:
      probs: of the gate, ``[T, n]``.
      token_s: seconds of a token, ``[n]``; ``inf`` where there is no link.
      price: scalar.
    """
    reached = token_s < jnp.inf
    known = jnp.where(reached, token_s, 0.0)
    mean = jnp.sum(known) / jnp.maximum(jnp.sum(reached), 1)
    relative = known / jnp.where(mean > 0.0, mean, 1.0)
    worth = jnp.log(jnp.maximum(probs, 1e-20)) - price * relative
    return jnp.where(reached, worth, -_FAR)


def usage(
    probs: base.Array,
    mask: base.Array,
    token_s: base.Array,
    prices: Prices,
    k: int,
) -> base.Array:
    """Who is asked: 1 or 0, with the gradient of a soft step.

    Args:
      probs: of the gate, ``[T, n]``.
      mask: bool ``[T]``, which tokens are there.
      token_s: seconds of a token, ``[n]``.
      prices: of the block, scalars.
      k: experts of a token, at most.

    Returns:
      ``[T, n]``, at least one expert a token.
    """
    worth = scores(probs, token_s, prices.price)
    ordered = -jnp.sort(-worth, axis=-1)
    floor = ordered[:, 0] - jax.nn.softplus(prices.margin)
    place = ratios.rank(worth)
    hard = (place < k) & ((worth >= floor[:, None]) | (place == 0))
    level = floor
    if k < probs.shape[-1]:
        level = jnp.maximum(level, 0.5 * (ordered[:, k - 1] + ordered[:, k]))
    soft = jax.nn.sigmoid((worth - level[:, None]) / SOFTNESS)
    asked = hard + (soft - jax.lax.stop_gradient(soft))  # exactly 1 or 0
    return jnp.where(mask[:, None], asked, 0.0)
