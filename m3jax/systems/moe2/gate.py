"""MoE2's gate: from the embedding of a prompt to a weight for each expert.

Two hidden layers of 128 with PReLU and dropout; the input of every layer goes into the
last one too (MoE2, appendix A, table VI).
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import layers

NEVER = -1e9
"""Score of an expert that is not in use."""


@dataclasses.dataclass
class Config:
    """Sizes of the gate, those of the paper.

    Attributes:
      hidden_dim: width of the hidden layers.
      num_hidden: how many there are.
      dropout: share of hidden values that training drops.
    """

    hidden_dim: int = 128
    num_hidden: int = 2
    dropout: float = 0.1

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for name in ("hidden_dim", "num_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"system.gate.{name} must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"system.gate.dropout is {self.dropout}; give a share in [0, 1)"
            )


class Gate(nn.Module):
    """Scores experts by the embedding of a prompt.

    Attributes:
      config: sizes.
      num_experts: N.
    """

    config: Config
    num_experts: int

    @nn.compact
    def __call__(
        self, embedding: base.Array, dropout_key: base.Array | None = None
    ) -> base.Array:
        """Scores every expert.

        Args:
          embedding: float32 [B, D], of unit length.
          dropout_key: drops hidden values by it; None drops none.

        Returns:
          float32 ``[B, N]``: logarithms of the paper's g_n(x, theta), which so are
          positive and make equation 2 a softmax.
        """
        config = self.config
        # Values of about one, whatever the width.
        x = embedding * jnp.sqrt(embedding.shape[-1])
        seen = [x]
        for number in range(config.num_hidden):
            x = layers.Dense(config.hidden_dim, name=f"hidden_{number}")(x)
            x = nn.PReLU(name=f"slope_{number}")(x)
            if dropout_key is not None and config.dropout:
                key = jax.random.fold_in(dropout_key, number)
                kept = jax.random.bernoulli(key, 1 - config.dropout, x.shape)
                x = jnp.where(kept, x / (1 - config.dropout), 0.0)
            seen.append(x)
        small = nn.initializers.normal(0.01)  # all experts weigh about alike at first
        out = layers.Dense(self.num_experts, kernel_init=small, name="out")
        return out(jnp.concatenate(seen, axis=-1))


def log_weights(
    scores: base.Array, members: base.Array, top_k: int | None = None
) -> base.Array:
    """Logarithms of the weights over a subset of experts (MoE2, equations 2 and 28).

    Args:
      scores: ``[..., N]``, logarithms of gating values.
      members: bool, broadcast to ``[..., N]``: the subset S; at least one True.
      top_k: keep the members of the highest scores, at most that many; None keeps all.
        Of equal scores the lower index is kept.

    Returns:
      ``[..., N]``; about `NEVER` outside of the subset.

    Example:
      >>> scores, members = jnp.array([1.0, 2.0, 3.0]), jnp.array([True, True, False])
      >>> jnp.exp(log_weights(scores, members, top_k=1))
      Array([0., 1., 0.], dtype=float32)
    """
    masked = jnp.where(members, scores, NEVER)
    if top_k is not None:
        masked = jnp.where(chosen(masked, members, top_k), masked, NEVER)
    return jax.nn.log_softmax(masked, axis=-1)


def chosen(scores: base.Array, members: base.Array, top_k: int) -> base.Array:
    """Which members have the ``top_k`` highest scores; bool ``[..., N]``.

    Args:
      scores: ``[..., N]``.
      members: bool, broadcast to ``[..., N]``.
      top_k: how many, at most.
    """
    masked = jnp.where(members, scores, NEVER)
    rank = jnp.argsort(jnp.argsort(-masked, axis=-1, stable=True), axis=-1)
    return (rank < top_k) & members
