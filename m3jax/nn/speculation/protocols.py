"""What is sent of a draft, and therefore what it must be drawn from.

| | the draft is | sent for each | the target judges by |
|---|---|---|---|
| `ids` | the most probable word | its index | a point mass |
| `ids_and_probs` | drawn from q | index, q(x) | q(x); if it falls q, run again |
| `top_k` | drawn from q cut to k words | those words and their probabilities | those |

Each is exact. Drawing from the whole q and sending its best k words is not: the target
then judges by a law that the draft was not drawn from. What each costs on air is
counted by `m3jax.costs.drafts`.
"""

from collections.abc import Callable
from typing import NamedTuple

from m3jax import base
from m3jax.ops import truncation

Encode = Callable[[base.Array], base.Array]
"""Log-probabilities ``[..., V]`` to those that the other side reads, normalised."""


class Protocol(NamedTuple):
    """How a draft is made and sent.

    Attributes:
      name: of the protocol.
      encode: from log q to what the draft is drawn from and judged by; None: the draft
        is the most probable word.
    """

    name: str
    encode: Encode | None


def ids() -> Protocol:
    """Indices alone: the most probable word, a point mass for who judges it.

    The only one that greedy decoding needs. With a temperature it is exact too, and
    accepts p(x) of the drafts.
    """
    return Protocol("ids", None)


def ids_and_probs() -> Protocol:
    """Indices and q(x); the target's side runs the draft again where one falls.

    It has the draft's weights then, and pays for its FLOPs; q(x) goes as the float32
    that the draft was drawn by, since a rounded one would bend the law.
    """
    return Protocol("ids_and_probs", _whole)


def top_k(k: int, rounded: Encode | None = None) -> Protocol:
    """The k most probable words and their probabilities, which the draft is drawn from.

    Args:
      k: words that are sent.
      rounded: from log-probabilities to those that so many bits can say, as
        `m3jax.costs.payload.quantised`; None: they go as they are.

    Raises:
      ValueError: ``k`` is below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> sent = top_k(2).encode(jnp.log(jnp.array([0.5, 0.3, 0.2])))
      >>> [round(float(p), 3) for p in jnp.exp(sent)]
      [0.625, 0.375, 0.0]
    """
    if k < 1:
        raise ValueError(f"top_k needs 1 word or more, got k={k}.")

    def encode(log_probs):
        sent = truncation.top_k_renormalised(log_probs, k)
        return sent if rounded is None else rounded(sent)

    return Protocol("top_k", encode)


def _whole(log_probs):
    return log_probs
