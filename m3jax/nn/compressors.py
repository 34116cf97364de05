"""Token compressors: fewer tokens, so less to send.

All share one signature, ``(tokens [B, L, D], mask [B, L]) -> (tokens [B, M, D],
mask [B, M])``, with static shapes. What a masked token holds never reaches a valid
output, and masked outputs are zero.
"""

import flax.linen as nn
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import layers


def _zero_masked(tokens, mask):
    # A select, not a product, so that even NaN in padding stays behind.
    return jnp.where(mask[..., None], tokens, 0)


def _window_size(tokens, mask, num_tokens):
    """Checks a compressor's input and returns the tokens per window."""
    if tokens.ndim != 3 or mask.shape != tokens.shape[:2]:
        raise ValueError(
            "A compressor expects tokens [B, L, D] and mask [B, L], got"
            f" {list(tokens.shape)} and {list(mask.shape)}."
        )
    length = tokens.shape[1]
    if not 1 <= num_tokens <= length:
        raise ValueError(
            f"num_tokens={num_tokens} must be between 1 and the number of input tokens,"
            f" {length}."
        )
    return length // num_tokens


def _equal_window_size(tokens, mask, num_tokens):
    """As `_window_size`, and windows must fill the input exactly."""
    window = _window_size(tokens, mask, num_tokens)
    length = tokens.shape[1]
    if length % num_tokens:
        choices = [n for n in range(1, length + 1) if length % n == 0]
        raise ValueError(
            f"num_tokens={num_tokens} does not divide the {length} input tokens into"
            f" equal windows; choose one of {choices}."
        )
    return window


class Identity(nn.Module):
    """Keeps every token.

    Attributes:
      num_tokens: if given, the number of tokens the input must have.
    """

    num_tokens: int | None = None

    @nn.compact
    def __call__(
        self, tokens: base.Array, mask: base.Array
    ) -> tuple[base.Array, base.Array]:
        """Returns the input, zero where masked."""
        length = tokens.shape[1]
        if self.num_tokens not in (None, length):
            raise ValueError(
                f"The identity compressor was asked for {self.num_tokens} tokens of"
                f" {length}: set num_tokens to {length} or choose another compressor."
            )
        return _zero_masked(tokens, mask), mask


class Stride(nn.Module):
    """Keeps the first token of each of ``num_tokens`` equal windows.

    Attributes:
      num_tokens: tokens to keep, M; divides the input's L.
    """

    num_tokens: int

    @nn.compact
    def __call__(
        self, tokens: base.Array, mask: base.Array
    ) -> tuple[base.Array, base.Array]:
        """Returns every (L / M)-th token and its mask."""
        window = _equal_window_size(tokens, mask, self.num_tokens)
        kept = mask[:, ::window]
        return _zero_masked(tokens[:, ::window], kept), kept


class WindowPool(nn.Module):
    """Mean over the valid tokens of each of ``num_tokens`` equal windows.

    With a vision transformer in Z order a window of four tokens is a block of 2 x 2
    patches.

    Attributes:
      num_tokens: number of windows, M; divides the input's L.
    """

    num_tokens: int

    @nn.compact
    def __call__(
        self, tokens: base.Array, mask: base.Array
    ) -> tuple[base.Array, base.Array]:
        """Returns the means; a window with no valid token is masked and zero."""
        window = _equal_window_size(tokens, mask, self.num_tokens)
        batch, _, dim = tokens.shape
        windows = _zero_masked(tokens, mask).reshape(
            batch, self.num_tokens, window, dim
        )
        counts = mask.reshape(batch, self.num_tokens, window).sum(axis=-1)
        divisors = jnp.maximum(counts, 1).astype(tokens.dtype)
        return windows.sum(axis=2) / divisors[..., None], counts > 0


class LearnedQueries(nn.Module):
    """Cross-attention from learned queries, as in the Perceiver (Jaegle et al. 2021).

    Attributes:
      num_tokens: number of queries, M; at most the input's L.
      num_heads: attention heads; divides the width of the tokens.
      dtype: compute type.
    """

    num_tokens: int
    num_heads: int = 4
    dtype: layers.DType = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: base.Array, mask: base.Array
    ) -> tuple[base.Array, base.Array]:
        """Returns M summaries; masked and zero where no input token is valid."""
        _window_size(tokens, mask, self.num_tokens)
        batch, length, dim = tokens.shape
        if dim % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} must divide the width {dim} of the tokens."
            )
        queries = self.param(
            "queries", nn.initializers.normal(1.0), (self.num_tokens, dim)
        )
        heads = (self.num_heads, dim // self.num_heads)
        normed = nn.LayerNorm(dtype=self.dtype, name="token_norm")(
            _zero_masked(tokens, mask)
        )
        q = nn.Dense(dim, dtype=self.dtype, name="q")(queries)
        kv = nn.Dense(2 * dim, dtype=self.dtype, name="kv")(normed)
        kv = kv.reshape(batch, length, 2, *heads)
        q = jnp.broadcast_to(
            q.reshape(self.num_tokens, *heads), (batch, self.num_tokens, *heads)
        )
        mixed = layers.attention(q, kv[:, :, 0], kv[:, :, 1], mask[:, None, :])
        mixed = mixed.reshape(batch, self.num_tokens, dim)
        mixed = nn.Dense(dim, dtype=self.dtype, name="out")(mixed)
        summaries = queries.astype(self.dtype) + mixed
        normed = nn.LayerNorm(dtype=self.dtype, name="mlp_norm")(summaries)
        summaries += layers.GeluMlp(2 * dim, dtype=self.dtype, name="mlp")(normed)
        valid = jnp.broadcast_to(
            mask.any(axis=1, keepdims=True), (batch, self.num_tokens)
        )
        return _zero_masked(summaries, valid), valid


_COMPRESSORS = {
    "identity": Identity,
    "stride": Stride,
    "window_pool": WindowPool,
    "learned_queries": LearnedQueries,
}


def make_compressor(name: str, num_tokens: int) -> nn.Module:
    """The compressor of a configuration.

    Args:
      name: "identity", "stride", "window_pool" or "learned_queries".
      num_tokens: tokens after compression, M.

    Returns:
      A Flax module with the signature of this file.

    Raises:
      ValueError: the name is not known.
    """
    if name not in _COMPRESSORS:
        raise ValueError(
            f"Unknown compressor {name!r}; known are {sorted(_COMPRESSORS)}."
        )
    return _COMPRESSORS[name](num_tokens=num_tokens)
