"""Algorithm 2: the policy of WDMoE's testbed, which knows no channel, only its history.

Of device k it keeps the mean latency of a token, and predicts

    T_k = J_k E[t_k / J_k]                                     (30, 31)

for J_k tokens. If the slowest stands out, ``T_max > 1.5 T_Q3``, it may lose

    floor((T_max - T_Q3) / E[t_k / J_k])                       (32)

tokens: those for which it is the last of the chosen experts, with a weight below the
mean of the weights of its tokens; the least weights first. ``T_Q3`` is the third
quartile of the predictions of all n devices, idle ones too, by linear interpolation
between order statistics (NumPy's default); what the paper takes is not said.
"""

from typing import NamedTuple

import jax.numpy as jnp

from m3jax import base
from m3jax.systems.wdmoe import ratios, selection

STANDS_OUT = 1.5


class History(NamedTuple):
    """What was seen of n devices in the same layer.

    Attributes:
      total_s: sum over blocks of the mean latency of a token, ``[n]``.
      count: blocks in which a device had tokens, ``[n]``.
    """

    total_s: base.Array
    count: base.Array

    @property
    def token_s(self) -> base.Array:
        """Mean seconds of a token, ``[n]``; of a device never seen, that of all."""
        seen = self.count > 0
        mean = jnp.where(seen, self.total_s / jnp.where(seen, self.count, 1.0), 0.0)
        known = jnp.maximum(jnp.sum(seen), 1)
        return jnp.where(seen, mean, jnp.sum(mean) / known)


def start_history(num_devices: int) -> History:
    """Nothing seen yet."""
    return History(jnp.zeros(num_devices), jnp.zeros(num_devices))


def observe(history: History, seconds: base.Array, tokens: base.Array) -> History:
    """Adds a block.

    Args:
      history: so far.
      seconds: t_k, that each device took for its tokens, ``[n]``.
      tokens: J_k, ``[n]``; devices of 0 add nothing.
    """
    busy = tokens > 0
    token_s = jnp.where(busy, seconds / jnp.where(busy, tokens, 1), 0.0)
    return History(history.total_s + token_s, history.count + busy)


def relieve(
    probs: base.Array,
    mask: base.Array,
    latencies: base.Array,
    *,
    k: int = 2,
    renormalise: bool = True,
    stands_out: float = STANDS_OUT,
) -> selection.Selection:
    """Algorithm 2 for one block.

    Args:
      probs: of the gate, ``[T, n]``.
      mask: bool ``[T]``, which tokens are there.
      latencies: mean seconds of a token, ``[n]``, such as ``history.token_s``.
      k: experts of a token at first; it keeps one at least.
      renormalise: weights of a token sum up to 1.
      stands_out: the slowest over the third quartile, from where it loses tokens.

    Example:
      >>> probs = jnp.array([[0.6, 0.1, 0.2, 0.1]] * 2 + [[0.4, 0.1, 0.3, 0.2]])
      >>> found = relieve(probs, jnp.full(3, True), jnp.array([1.0, 1.0, 8.0, 1.0]))
      >>> (found.weights[:, 2] > 0.0).tolist(), int(found.num_dropped)
      ([False, True, True], 1)
    """
    first = ratios.top_k(probs, mask, k)
    tokens = jnp.sum(first, axis=0)
    predicted = tokens * latencies
    slowest = jnp.argmax(predicted)
    quartile = jnp.quantile(predicted, 0.75)
    most, token_s = predicted[slowest], latencies[slowest]
    room = jnp.floor((most - quartile) / jnp.where(token_s > 0.0, token_s, 1.0))
    room = jnp.where(most > stands_out * quartile, room, 0.0)
    weights, chosen = probs[:, slowest], first[:, slowest]
    mean = jnp.sum(jnp.where(chosen, weights, 0.0)) / jnp.maximum(tokens[slowest], 1)
    last = ratios.lowest(probs, first)[:, slowest] & ratios.is_several(first)
    may_go = chosen & last & (weights < mean)
    # The least weights first; of equal ones the token that came first.
    order = jnp.argsort(jnp.where(may_go, weights, jnp.inf), stable=True)
    goes = may_go & (jnp.argsort(order) < room)
    column = jnp.arange(probs.shape[1]) == slowest
    kept = first & ~(goes[:, None] & column)
    return selection.finish(probs, kept, first, latencies, renormalise)
