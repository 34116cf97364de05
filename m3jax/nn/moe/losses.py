"""Losses that keep a router's load even and its logits small."""

import math

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn.moe import config as config_lib


def load_balance_loss(
    routing: config_lib.Routing, mask: base.Array | None = None
) -> base.Array:
    """The load-balancing loss of the Switch Transformer (2101.03961, equations 4-6).

        n * sum_i f_i P_i

    ``f_i`` is the share of all askings that went to expert i (before its capacity) and
    carries no gradient; ``P_i`` its mean probability over the valid tokens. An even
    router gives 1, one that puts all on one expert n. With k > 1 a token's k experts
    differ: n is then not reached by top-k itself, but n / k.

    Args:
      routing: of one layer, or stacked over layers.
      mask: bool, True for valid tokens, the shape of ``routing.probs`` without layers
        and experts; None: all are.

    Returns:
      float32, one number for each layer: of shape ``counts.shape[:-1]``. 0 where no
      token is valid.

    Example:
      >>> even = jnp.full((6, 4), 1 / 4)
      >>> zeros = jnp.zeros(4, jnp.int32)
      >>> routing = config_lib.Routing(even, even, None, None, zeros + 3, zeros)
      >>> float(load_balance_loss(routing))
      1.0
    """
    counts = routing.counts.astype(jnp.float32)
    shares = counts / jnp.maximum(counts.sum(axis=-1, keepdims=True), 1)
    mean_probs = _token_mean(routing, routing.probs, mask)
    num_experts = counts.shape[-1]
    return num_experts * jnp.sum(shares * mean_probs, axis=-1)


def router_z_loss(
    routing: config_lib.Routing, mask: base.Array | None = None
) -> base.Array:
    """The router z-loss of ST-MoE (2202.08906, equation 5).

        mean_t logsumexp(logits_t) ** 2

    Args:
      routing: of one layer, or stacked over layers.
      mask: as in `load_balance_loss`.

    Returns:
      float32, one number for each layer.
    """
    squares = jnp.square(jax.nn.logsumexp(routing.logits, axis=-1, keepdims=True))
    return _token_mean(routing, squares, mask)[..., 0]


def _token_mean(routing, values, mask):
    """Mean of values [*layers, *tokens, C] over the valid tokens: [*layers, C]."""
    layers = routing.counts.shape[:-1]
    tokens = values.shape[len(layers) : -1]
    if mask is None:
        mask = jnp.ones(tokens, bool)
    if mask.shape != tokens:
        raise ValueError(
            f"the mask must have the shape of the tokens, {list(tokens)}, got"
            f" {list(mask.shape)}."
        )
    values = values.reshape(*layers, math.prod(tokens), values.shape[-1])
    total = jnp.sum(jnp.where(mask.reshape(-1, 1), values, 0), axis=-2)
    return total / jnp.maximum(mask.sum(), 1)
