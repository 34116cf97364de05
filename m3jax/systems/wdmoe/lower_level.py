"""WDMoE's lower level (problem P2), exactly, where it is small enough to look at."""

import itertools

import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.systems.wdmoe import ratios, selection

_MOST_CHOICES = 2**16


def exact(
    probs: base.Array,
    mask: base.Array,
    latencies: base.Array,
    *,
    renormalise: bool = True,
) -> selection.Selection:
    """The choice of the greatest sum of ratios (problem P2), by looking at all.

    Every token has one expert at least. The ratio is a *mean* of weights over latency,
    so the optimum tends to ask few experts for few tokens: compare policies by latency
    and accuracy, not by it.

    Args:
      probs: of the gate, ``[T, n]``; T <= 4 and n <= 3, or as few choices.
      mask: bool ``[T]``, which tokens are there.
      latencies: seconds of a token, ``[n]``.
      renormalise: weights of a token sum up to 1.

    Raises:
      ValueError: there are more than 65,536 choices.
    """
    num_tokens, num_experts = probs.shape
    count = (2**num_experts - 1) ** num_tokens
    if count > _MOST_CHOICES:
        raise ValueError(
            f"{num_tokens} tokens and {num_experts} experts have {count} choices; exact"
            f" looks at {_MOST_CHOICES} at most: give fewer tokens or experts."
        )
    sets = list(itertools.product((False, True), repeat=num_experts))[1:]
    choices = np.array(list(itertools.product(sets, repeat=num_tokens)))
    choices = jnp.asarray(choices) & mask[:, None]
    values = ratios.weight_latency_ratio(probs, choices, latencies)
    kept = choices[jnp.argmax(jnp.sum(values, axis=-1))]
    return selection.finish(probs, kept, kept, latencies, renormalise)
