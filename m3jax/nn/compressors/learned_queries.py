"""Compression by cross-attention from learned queries."""

import flax.linen as nn
import jax.numpy as jnp

from m3jax.nn import layers
from m3jax.nn.compressors import contract
from m3jax.ops import masks


class LearnedQueries(contract.Compressor):
    """Cross-attention from learned queries, as in the Perceiver (Jaegle et al. 2021).

    A summary mixes all tokens and has no place of its own: all slots are -1, and sizes
    are one.

    Attributes:
      num_tokens: number of queries, M; at most the input's L.
      num_heads: attention heads; divides the width of the tokens.
      dtype: compute type.
    """

    num_heads: int = 4
    dtype: layers.DType = jnp.float32

    @nn.compact
    def compress(self, tokens, mask, *, scores=None, key=None):
        """Returns M summaries; masked and zero where no input token is valid."""
        contract.check_inputs(tokens, mask, self.num_tokens)
        batch, length, dim = tokens.shape
        if dim % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} must divide the width {dim} of the tokens."
            )
        queries = self.param(
            "queries",
            nn.initializers.normal(1.0),
            (self.num_tokens, dim),
            jnp.float32,
        )
        heads = (self.num_heads, dim // self.num_heads)
        normed = nn.LayerNorm(dtype=self.dtype, name="token_norm")(
            masks.keep(tokens, mask)
        )
        q = layers.Dense(dim, dtype=self.dtype, name="q")(queries)
        kv = layers.Dense(2 * dim, dtype=self.dtype, name="kv")(normed)
        kv = kv.reshape(batch, length, 2, *heads)
        q = jnp.broadcast_to(
            q.reshape(self.num_tokens, *heads), (batch, self.num_tokens, *heads)
        )
        mixed = layers.attention(q, kv[:, :, 0], kv[:, :, 1], mask[:, None, :])
        mixed = mixed.reshape(batch, self.num_tokens, dim)
        mixed = layers.Dense(dim, dtype=self.dtype, name="out")(mixed)
        summaries = queries.astype(self.dtype) + mixed
        normed = nn.LayerNorm(dtype=self.dtype, name="mlp_norm")(summaries)
        summaries += layers.GeluMlp(2 * dim, dtype=self.dtype, name="mlp")(normed)
        valid = jnp.broadcast_to(
            mask.any(axis=1, keepdims=True), (batch, self.num_tokens)
        )
        return contract.Compressed(
            masks.keep(summaries, valid),
            valid,
            jnp.full(mask.shape, contract.NO_SLOT),
            valid.astype(jnp.float32),
        )
