"""The parts that the vision transformer and the causal decoder are built of.

Parameters are float32; each module's ``dtype`` is the type it computes in. Attention
takes its softmax in float32 whatever the compute type.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import kernel_product
from m3jax.ops import masks, numbers

DType = Any

# Finite, so a query that may see no key gets the mean of all values and not NaN.
MASK_VALUE = -1e30
_TINY = 1e-18  # its square, which the gradient takes, is still a float32


matmul = kernel_product.matmul


def _dot_general(x, kernel, dimension_numbers, precision=None):
    """What ``nn.Dense`` asks for: the last axis of ``x`` against the kernel's first."""
    del dimension_numbers, precision
    return kernel_product.matmul(x, kernel)


Dense = functools.partial(nn.Dense, dot_general=_dot_general)
"""``flax.linen.Dense`` with a faster gradient by its kernel."""


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
      eps: added to the mean square; where that overflows, the output is NaN.
      dtype: compute type; the mean square itself is taken in float32.
    """

    eps: float = 1e-6
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: base.Array) -> base.Array:
        """Normalises the last axis of ``x [..., D]``."""
        ones, shape = nn.initializers.ones, (x.shape[-1],)
        scale = self.param("scale", ones, shape, jnp.float32)
        x = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        # Beyond 1e19 squares overflow: the norm would be zeros, and nobody would know.
        mean_square = jnp.where(jnp.isinf(mean_square), jnp.nan, mean_square)
        inverse_rms = jax.lax.rsqrt(mean_square + self.eps)
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
    x = numbers.as_float(x)
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
    bias: base.Array | None = None,
    gate: base.Array | None = None,
) -> base.Array:
    """Scaled dot-product attention with grouped queries.

    ``softmax(q k^T / sqrt(Dh) + bias) v``; query head ``h`` reads key head
    ``h // (H / Hkv)`` (Ainslie et al. 2023). A query whose mask row is all False gets a
    finite output that means nothing. Keys and values that a mask hides may be anything,
    NaN too; hidden from all queries, they reach no gradient either. One that is not
    finite makes those queries NaN that see it.

    Args:
      queries: [B, Lq, H, Dh].
      keys: [B, Lk, Hkv, Dh], where Hkv divides H.
      values: [B, Lk, Hkv, Dh].
      mask: bool, broadcastable to [B, Lq, Lk]; True where a query may see a key. None:
        everything is seen.
      bias: float, three axes broadcastable to [B, Lq, Lk]; added to the logits of
        every head, such as the logarithm of how many tokens a key stands for.
      gate: float [B, Lk], how much each key counts: weights are ``g_s w_s / sum_r g_r
        w_r``. A gate of 0 hides a key as a mask does, and yet has a gradient, which
        tells what the key would have done (DynamicViT, Rao et al. 2021). A query all
        of whose keys have a gate of 0 gets 0. None: all count alike.

    Returns:
      [B, Lq, H, Dh], of the type of ``values``.
    """
    queries, keys, values = map(numbers.as_float, (queries, keys, values))
    broken = None
    if mask is not None:
        keys, values, broken = _without_broken(keys, values)
    weights = _attention_weights(queries, keys, mask, bias, broken)
    if gate is not None:
        # Only ratios count; of the largest one, so that none is too small to add up.
        largest = jax.lax.stop_gradient(gate.max(axis=-1, keepdims=True))
        gate = gate / jnp.where(largest == 0.0, 1.0, largest)
        weights = weights * gate[:, None, None, None, :]
        total = jnp.sum(weights, axis=-1, keepdims=True)
        weights = weights / jnp.where(total > _TINY, total, 1.0)
    weights = weights.astype(values.dtype)
    batch, num_kv_heads, _, num_queries, num_keys = weights.shape
    values = values.transpose(0, 2, 1, 3)
    mixed = weights.reshape(batch, num_kv_heads, -1, num_keys) @ values
    mixed = mixed.reshape(*weights.shape[:-1], -1).transpose(0, 3, 1, 2, 4)
    return mixed.reshape(batch, num_queries, *queries.shape[2:])


def attention_received(
    queries: base.Array,
    keys: base.Array,
    mask: base.Array | None = None,
    query_mask: base.Array | None = None,
) -> base.Array:
    """How much attention each key receives, the mean over heads and queries.

        a_s = mean_{h, q} softmax_s(q_qh k_sh^T / sqrt(Dh))

    A measure of importance without a class token; with one, give only its query (EViT,
    Liang et al. 2022).

    Args:
      queries: [B, Lq, H, Dh].
      keys: [B, Lk, Hkv, Dh], where Hkv divides H.
      mask: bool, three axes broadcastable to [B, Lq, Lk]; None: everything is seen.
      query_mask: bool [B, Lq], the queries that count, each of which must see a key;
        None: all.

    Returns:
      float32 [B, Lk]; sums to one over the keys, all 0 where no query counts.

    Example:
      >>> attention_received(jnp.ones((1, 2, 1, 4)), jnp.ones((1, 4, 1, 4)))
      Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    queries, keys = map(numbers.as_float, (queries, keys))
    broken = None
    if mask is not None:
        keys, broken = _without_broken(keys)
    if query_mask is not None:
        queries = masks.keep(queries, query_mask)
    received = _attention_weights(queries, keys, mask, None, broken).mean(axis=(1, 2))
    if query_mask is None:
        return received.mean(axis=1)
    received = jnp.where(query_mask[..., None], received, 0.0)
    counts = jnp.sum(query_mask, axis=1, keepdims=True)
    return received.sum(axis=1) / jnp.maximum(counts, 1)


def _without_broken(*arrays):
    """Keys and values [B, Lk, Hkv, Dh], zero where not finite; and where, [B, Lk, Hkv].

    Zero times NaN is NaN: what a mask hides has to be replaced before the products, in
    the gradient as well.
    """
    finite = functools.reduce(
        jnp.logical_and, (jnp.isfinite(x).all(axis=-1) for x in arrays)
    )
    return *(masks.keep(x, finite) for x in arrays), ~finite


def _attention_weights(queries, keys, mask, bias, broken):
    """Softmax over keys, float32 [B, Hkv, H / Hkv, Lq, Lk]; NaN where one is broken."""
    batch, num_queries, num_heads, head_dim = queries.shape
    num_kv_heads = keys.shape[2]
    # Heads before positions, and the heads of a group after one another: then each is
    # a plain batched product, the one form that is fast on CPUs.
    # Scaling the queries costs less than scaling the larger matrix of logits.
    queries = (queries * head_dim**-0.5).transpose(0, 2, 1, 3)
    queries = queries.reshape(batch, num_kv_heads, -1, head_dim)
    logits = jnp.matmul(
        queries, keys.transpose(0, 2, 3, 1), preferred_element_type=jnp.float32
    )
    logits = logits.reshape(batch, num_kv_heads, -1, num_queries, keys.shape[1])
    if bias is not None:
        logits = logits + bias[:, None, None]
    if broken is not None:
        broken = broken.transpose(0, 2, 1)[:, :, None, None]
        logits = jnp.where(broken, jnp.nan, logits)
    if mask is not None:
        logits = jnp.where(mask[:, None, None], logits, MASK_VALUE)
    return jax.nn.softmax(logits, axis=-1)


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
    def __call__(
        self,
        x: base.Array,
        mask: base.Array | None = None,
        with_scores: bool = False,
        gate: base.Array | None = None,
    ) -> base.Array | tuple[base.Array, base.Array]:
        """Mixes tokens ``x [B, L, D]``; ``mask [B, L]`` marks the valid ones.

        What the others hold reaches no valid one, be it NaN.
        ``gate [B, L]`` is how much each counts for the others, see `attention`.

        ``with_scores`` returns ``(mixed, scores)``, where scores are what
        `attention_received` makes of these tokens, float32 [B, L].
        """
        batch, length, dim = x.shape
        x = x if mask is None else masks.keep(x, mask)
        qkv = Dense(3 * dim, dtype=self.dtype, name="qkv")(x)
        queries, keys, values = (
            part.reshape(batch, length, self.num_heads, dim // self.num_heads)
            for part in jnp.split(qkv, 3, axis=-1)
        )
        key_mask = None if mask is None else mask[:, None, :]
        mixed = attention(queries, keys, values, key_mask, gate=gate)
        mixed = Dense(dim, kernel_init=self.out_init, dtype=self.dtype, name="out")(
            mixed.reshape(batch, length, dim)
        )
        if not with_scores:
            return mixed
        return mixed, attention_received(queries, keys, key_mask, mask)


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
        hidden = Dense(self.hidden_dim, dtype=self.dtype, name="up")(x)
        hidden = nn.gelu(hidden)
        return Dense(
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
        gate = Dense(self.hidden_dim, use_bias=False, dtype=self.dtype, name="gate")
        up = Dense(self.hidden_dim, use_bias=False, dtype=self.dtype, name="up")
        down = Dense(
            x.shape[-1],
            use_bias=False,
            kernel_init=self.out_init,
            dtype=self.dtype,
            name="down",
        )
        return down(nn.silu(gate(x)) * up(x))
