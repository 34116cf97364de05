"""The parts that the vision transformer and the causal decoder are built of.

Parameters are float32; each module's ``dtype`` is the type it computes in. Attention
takes its softmax in float32 whatever the compute type.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from m3jax import base

DType = Any

# Finite, so a query that may see no key gets the mean of all values and not NaN.
MASK_VALUE = -1e30


def residual_init(depth: int) -> nn.initializers.Initializer:
    """Initialiser of the last kernel of a residual branch.

    A stack of ``depth`` layers adds ``2 * depth`` branches to its stream. Giving each a
    variance of ``1 / (2 * depth)`` keeps the stream's scale independent of the depth.

    Args:
      depth: number of layers in the stack.

    Returns:
      A Flax initialiser, fan-in scaled.
    """
    return nn.initializers.variance_scaling(
        1.0 / (2 * depth), "fan_in", "truncated_normal"
    )


class RMSNorm(nn.Module):
    """Root-mean-square normalisation, as in Llama: ``x / rms(x) * scale``.

    Attributes:
      eps: added to the mean square.
      dtype: compute type; the mean square itself is taken in float32.
    """

    eps: float = 1e-6
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: base.Array) -> base.Array:
        """Normalises the last axis of ``x [..., D]``."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        x = x.astype(jnp.float32)
        inverse_rms = jax.lax.rsqrt(
            jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.eps
        )
        return (x * inverse_rms).astype(self.dtype) * scale.astype(self.dtype)


def rope_tables(
    positions: base.Array, head_dim: int, theta: float
) -> tuple[base.Array, base.Array]:
    """Cosines and sines of rotary position embedding (RoFormer, Su et al. 2021).

    The angle of pair ``i`` at position ``p`` is ``p * theta ** (-2 i / head_dim)``.

    Args:
      positions: [B, L] integers.
      head_dim: size of one head, even.
      theta: the base of the geometric series of wavelengths.

    Returns:
      ``(cos, sin)``, each float32 [B, L, 1, head_dim / 2], to broadcast over heads.
    """
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    angles = positions[..., None].astype(jnp.float32) * theta**-exponents
    angles = angles[..., None, :]
    return jnp.cos(angles), jnp.sin(angles)


def apply_rope(x: base.Array, tables: tuple[base.Array, base.Array]) -> base.Array:
    """Rotates pairs ``(i, i + head_dim / 2)``: the half-rotation of Llama and Qwen2.

    Args:
      x: [B, L, H, head_dim] queries or keys.
      tables: ``(cos, sin)`` from `rope_tables`.

    Returns:
      The rotated array, of the shape and type of ``x``.
    """
    cos, sin = (table.astype(x.dtype) for table in tables)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate(
        [first * cos - second * sin, second * cos + first * sin], axis=-1
    )


def attention(
    queries: base.Array,
    keys: base.Array,
    values: base.Array,
    mask: base.Array | None = None,
) -> base.Array:
    """Scaled dot-product attention with grouped queries.

    ``softmax(q k^T / sqrt(Dh)) v``; query head ``h`` reads key head
    ``h // (H / Hkv)`` (Ainslie et al. 2023). A query whose mask row is all False gets a
    finite output that means nothing.

    Args:
      queries: [B, Lq, H, Dh].
      keys: [B, Lk, Hkv, Dh], where Hkv divides H.
      values: [B, Lk, Hkv, Dh].
      mask: bool, broadcastable to [B, Lq, Lk]; True where a query may see a key. None:
        everything is seen.

    Returns:
      [B, Lq, H, Dh], of the type of ``values``.
    """
    batch, num_queries, num_heads, head_dim = queries.shape
    num_kv_heads = keys.shape[2]
    # Scaling the queries costs less than scaling the larger matrix of logits.
    queries = (queries * head_dim**-0.5).reshape(
        batch, num_queries, num_kv_heads, num_heads // num_kv_heads, head_dim
    )
    logits = jnp.einsum(
        "bqkgd,bskd->bkgqs", queries, keys, preferred_element_type=jnp.float32
    )
    if mask is not None:
        logits = jnp.where(mask[:, None, None], logits, MASK_VALUE)
    weights = jax.nn.softmax(logits, axis=-1).astype(values.dtype)
    mixed = jnp.einsum("bkgqs,bskd->bqkgd", weights, values)
    return mixed.reshape(batch, num_queries, num_heads, head_dim)


class SelfAttention(nn.Module):
    """Bidirectional multi-head self-attention with one fused query-key-value matmul.

    Attributes:
      num_heads: number of heads; divides the width of the tokens.
      out_init: initialiser of the output kernel.
      dtype: compute type.
    """

    num_heads: int
    out_init: nn.initializers.Initializer
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: base.Array, mask: base.Array | None = None) -> base.Array:
        """Mixes tokens ``x [B, L, D]``; ``mask [B, L]`` marks the valid ones."""
        batch, length, dim = x.shape
        qkv = nn.Dense(3 * dim, dtype=self.dtype, name="qkv")(x)
        qkv = qkv.reshape(batch, length, 3, self.num_heads, dim // self.num_heads)
        queries, keys, values = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        key_mask = None if mask is None else mask[:, None, :]
        mixed = attention(queries, keys, values, key_mask)
        return nn.Dense(dim, kernel_init=self.out_init, dtype=self.dtype, name="out")(
            mixed.reshape(batch, length, dim)
        )


class GeluMlp(nn.Module):
    """Two dense layers with a GELU between.

    Attributes:
      hidden_dim: width between the layers.
      out_init: initialiser of the second kernel.
      dtype: compute type.
    """

    hidden_dim: int
    out_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: base.Array) -> base.Array:
        """Maps ``x [..., D]`` to [..., D]."""
        hidden = nn.Dense(self.hidden_dim, dtype=self.dtype, name="up")(x)
        hidden = nn.gelu(hidden)
        return nn.Dense(
            x.shape[-1], kernel_init=self.out_init, dtype=self.dtype, name="down"
        )(hidden)


class SwiGlu(nn.Module):
    """Gated feed-forward layer: ``down(silu(gate(x)) * up(x))`` (Shazeer 2020).

    Attributes:
      hidden_dim: width of the gate.
      out_init: initialiser of the ``down`` kernel.
      dtype: compute type.
    """

    hidden_dim: int
    out_init: nn.initializers.Initializer
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: base.Array) -> base.Array:
        """Maps ``x [..., D]`` to [..., D]."""
        # Two kernels, not one fused: each then matches one tensor of published weights.
        gate = nn.Dense(self.hidden_dim, use_bias=False, dtype=self.dtype, name="gate")
        up = nn.Dense(self.hidden_dim, use_bias=False, dtype=self.dtype, name="up")
        down = nn.Dense(
            x.shape[-1],
            use_bias=False,
            kernel_init=self.out_init,
            dtype=self.dtype,
            name="down",
        )
        return down(nn.silu(gate(x)) * up(x))
