"""A causal decoder with the semantics of Llama and Qwen2, and its key-value cache.

Pre-RMSNorm, rotary positions, grouped-query attention, SwiGLU, optional biases of
query, key and value, tied or separate output head. Each tensor of published weights is
one parameter here (transposed, and stacked over depth), so a table of names loads them.

Valid tokens may stand anywhere: positions count valid tokens only, so padding on the
left, on the right or in between shifts nothing.
"""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.nn import layers
from m3jax.nn import moe as moe_lib
from m3jax.ops import masks


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Size of a `Decoder`.

    Attributes:
      vocab_size: number of words, V.
      dim: width of the tokens, D.
      depth: number of layers.
      num_heads: query heads, H.
      num_kv_heads: key and value heads, Hkv; divides ``num_heads``.
      ff_dim: hidden width of the feed-forward layers.
      head_dim: size of one head, Dh, even; None means ``dim / num_heads``.
      rope_theta: base of the rotary wavelengths.
      norm_eps: epsilon of the norms.
      qkv_bias: biases of query, key and value (Qwen2: yes, Llama: no).
      tie_embeddings: whether the output head is the embedding table.
      embed_std: standard deviation of the embedding table at first. Published models
        take 0.02 with a tied head; with a prefix of unit scale and a head of its own,
        1.0 keeps the words from drowning in what the first layers add.
      dtype: compute type, by name.
      scan_unroll: layers per turn of the scan over depth; more compile time, less
        overhead.
      moe: experts in place of each feed-forward layer, whose ``ff_dim`` then counts;
        None: there are none.
    """

    vocab_size: int
    dim: int = 128
    depth: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    ff_dim: int = 352
    head_dim: int | None = None
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    tie_embeddings: bool = True
    embed_std: float = 0.02
    dtype: str = "float32"
    scan_unroll: int = 1
    moe: moe_lib.MoeConfig | None = None

    def __post_init__(self):
        names = "vocab_size dim depth num_heads num_kv_heads ff_dim scan_unroll"
        for name in names.split():
            if getattr(self, name) < 1:
                raise ValueError(
                    f"DecoderConfig.{name} must be at least 1, got"
                    f" {getattr(self, name)}."
                )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"DecoderConfig.num_kv_heads={self.num_kv_heads} must divide"
                f" num_heads={self.num_heads}."
            )
        if self.head_dim is None and self.dim % self.num_heads:
            raise ValueError(
                f"DecoderConfig.num_heads={self.num_heads} must divide dim={self.dim};"
                " or set head_dim."
            )
        if self.size_per_head < 2 or self.size_per_head % 2:
            raise ValueError(
                "DecoderConfig.head_dim must be even for rotary positions, got"
                f" {self.size_per_head}."
            )

    @property
    def size_per_head(self) -> int:
        """Size of one head, Dh."""
        return self.dim // self.num_heads if self.head_dim is None else self.head_dim


class KVCache(NamedTuple):
    """Keys and values of the tokens seen so far.

    Attributes:
      k: [depth, B, S, Hkv, Dh] rotated keys.
      v: [depth, B, S, Hkv, Dh] values.
      mask: bool [B, S], True for slots that hold a valid token.
      lengths: int32 [B], valid tokens so far: the position of the next one.
      index: int32 scalar, the slot that the next token is written to.
    """

    k: base.Array
    v: base.Array
    mask: base.Array
    lengths: base.Array
    index: base.Array


def init_cache(config: DecoderConfig, batch_size: int, max_length: int) -> KVCache:
    """An empty cache.

    Args:
      config: the decoder's configuration.
      batch_size: B.
      max_length: S, slots for valid tokens and padding together.

    Returns:
      The cache, in the decoder's compute type.
    """
    shape = (
        config.depth,
        batch_size,
        max_length,
        config.num_kv_heads,
        config.size_per_head,
    )
    return KVCache(
        k=jnp.zeros(shape, config.dtype),
        v=jnp.zeros(shape, config.dtype),
        mask=jnp.zeros((batch_size, max_length), bool),
        lengths=jnp.zeros((batch_size,), jnp.int32),
        index=jnp.zeros((), jnp.int32),
    )


class _Context(NamedTuple):
    """What all layers share in one call."""

    rope: tuple[base.Array, base.Array]
    mask: base.Array  # bool [B, Lq, Lk]
    index: base.Array | None  # first slot to write, None without a cache
    valid: base.Array  # bool [B, Lq]
    select: moe_lib.Select | None  # who answers, of a mixture of experts
    gate: base.Array | None  # float [B, Lk], how much each key counts


class _Attention(nn.Module):
    """Causal grouped-query attention over the call's tokens or over a cache."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x, context, cached):
        config = self.config
        batch, length, _ = x.shape

        def project(name, num_heads):
            dense = layers.Dense(
                num_heads * config.size_per_head,
                use_bias=config.qkv_bias,
                dtype=config.dtype,
                name=name,
            )
            return dense(x).reshape(batch, length, num_heads, config.size_per_head)

        queries = layers.apply_rope(project("q", config.num_heads), context.rope)
        keys = layers.apply_rope(project("k", config.num_kv_heads), context.rope)
        values = project("v", config.num_kv_heads)
        if cached is not None:
            # Of one type: a Python 0 is wider than the index with 64-bit JAX.
            zero = jnp.zeros_like(context.index)
            start = (zero, context.index, zero, zero)
            keys = jax.lax.dynamic_update_slice(cached[0], keys, start)
            values = jax.lax.dynamic_update_slice(cached[1], values, start)
            cached = keys, values
        mixed = layers.attention(queries, keys, values, context.mask, gate=context.gate)
        out = layers.Dense(
            config.dim,
            use_bias=False,
            kernel_init=layers.residual_init(config.depth),
            dtype=config.dtype,
            name="o",
        )
        return out(mixed.reshape(batch, length, -1)), cached


class _Block(nn.Module):
    """One decoder layer, in the form that ``nn.scan`` wants."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x, context, cached, select_data):
        config = self.config

        def norm(name):
            return layers.RMSNorm(config.norm_eps, config.dtype, name=name)

        mixed, cached = _Attention(config, name="attention")(
            norm("attention_norm")(x), context, cached
        )
        x = x + mixed
        normed, out_init = norm("mlp_norm")(x), layers.residual_init(config.depth)
        if config.moe is None:
            mlp = layers.SwiGlu(config.ff_dim, out_init, config.dtype, name="mlp")
            return x + mlp(normed), (cached, None)
        experts = moe_lib.MoeLayer(config.moe, out_init, config.dtype, name="moe")
        mixed, routing = experts(normed, context.valid, context.select, select_data)
        return x + mixed, (cached, routing)


class Decoder(nn.Module):
    """A causal language model that reads embeddings, so any modality can be its prefix.

    ``init`` through any method that calls the decoder creates all parameters.

    Attributes:
      config: sizes.

    Example:
      >>> decoder = Decoder(DecoderConfig(vocab_size=11, dim=32, depth=2))
      >>> tokens = jnp.array([[1, 5, 7, 0]])
      >>> embeds = jnp.zeros((1, 4, 32))
      >>> params = decoder.init(jax.random.key(0), embeds, tokens != 0)
      >>> embeds = decoder.apply(params, tokens, method="embed")
      >>> hidden, _ = decoder.apply(params, embeds, tokens != 0)
      >>> decoder.apply(params, hidden, method="logits").shape
      (1, 4, 11)
    """

    config: DecoderConfig

    def setup(self):
        """Declares the parts, in the order of the computation."""
        config = self.config
        self.embedder = nn.Embed(
            config.vocab_size,
            config.dim,
            embedding_init=nn.initializers.normal(config.embed_std),
            dtype=config.dtype,
        )
        self.layers = nn.scan(
            _Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast, 0, 0),
            length=config.depth,
            unroll=config.scan_unroll,
        )(config)
        self.final_norm = layers.RMSNorm(config.norm_eps, config.dtype)
        if not config.tie_embeddings:
            self.head = layers.Dense(
                config.vocab_size,
                use_bias=False,
                kernel_init=nn.initializers.normal(0.02),
                dtype=config.dtype,
            )

    def embed(self, tokens: base.Array) -> base.Array:
        """Looks up ``tokens [B, L]``; returns embeddings [B, L, D]."""
        return self.embedder(tokens)

    def similarity(self, embeds: base.Array) -> base.Array:
        """Scores of the word that ``embeds [..., D]`` lie near, float32 [..., V].

        Inner products with the embeddings of all words, over sqrt(D).
        """
        scores = self.embedder.attend(embeds) / np.sqrt(self.config.dim)
        return scores.astype(jnp.float32)

    def logits(self, hidden: base.Array) -> base.Array:
        """Scores of the next word, float32 [..., V], from ``hidden [..., D]``.

        Apart from `__call__`, so that training scores only the positions it needs.
        """
        if self.config.tie_embeddings:
            return self.embedder.attend(hidden).astype(jnp.float32)
        return self.head(hidden).astype(jnp.float32)

    def __call__(
        self,
        embeds: base.Array,
        mask: base.Array,
        cache: KVCache | None = None,
        *,
        select: moe_lib.Select | None = None,
        select_data: base.Params = None,
        with_routing: bool = False,
        positions: base.Array | None = None,
        gate: base.Array | None = None,
    ) -> tuple[base.Array, KVCache | None]:
        """Runs the layers over a whole sequence, or over its next part.

        Args:
          embeds: [B, L, D], what the tokens or another modality embed to.
          mask: bool [B, L], True for valid tokens. Padding may hold anything, NaN too;
            the output there is finite and means nothing.
          cache: what went before; None for a sequence that starts here.
          select: which experts answer a token, if the config has any; see
            `m3jax.nn.moe.Select`. None: the most probable ones.
          select_data: what ``select`` gets besides, arrays [depth, ...] of which each
            layer gets its own; None: nothing.
          with_routing: whether to tell who answered.
          positions: int [B, L], the place of each token, for tokens between which
            others were left out; with a cache counted from its ``lengths``, and the
            next call goes on behind the last valid one. None: valid tokens are counted.
          gate: float [B, L], how much each token counts for those that attend to it,
            see `layers.attention`; without a cache. None: all alike.

        Returns:
          ``(hidden, cache)``: [B, L, D] after the final norm, for `logits`, and the
          cache with these tokens written to it (None if none was given). If a traced
          write index passes the end of the cache, ``hidden`` is NaN. With
          ``with_routing`` a third, the `m3jax.nn.moe.Routing`, each array with a
          leading axis of layers.

        Raises:
          ValueError: shapes disagree, the cache is known to be too short, the config
            has no experts to select or tell of, or there is a gate and a cache.
        """
        self._check(embeds, mask, cache)
        told = select is not None or select_data is not None or with_routing
        if self.config.moe is None and told:
            raise ValueError(
                "select, select_data and with_routing need experts: set"
                " DecoderConfig.moe."
            )
        if gate is not None and cache is not None:
            raise ValueError("gate works on whole sequences: call without a cache.")
        length = embeds.shape[1]
        if positions is None:
            positions = jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1
        read = jnp.max(jnp.where(mask, positions, -1), axis=1).astype(jnp.int32) + 1
        if cache is None:
            index, cached, lengths, valid = None, None, 0, mask
            query_slots = jnp.arange(length)
        else:
            index, cached = cache.index, (cache.k, cache.v)
            lengths = cache.lengths[:, None]
            start = (jnp.zeros_like(index), index)
            valid = jax.lax.dynamic_update_slice(cache.mask, mask, start)
            query_slots = index + jnp.arange(length)
        causal = jnp.arange(valid.shape[1]) <= query_slots[:, None]
        rope = layers.rope_tables(
            jnp.maximum(lengths + positions, 0),
            self.config.size_per_head,
            self.config.rope_theta,
        )
        seen = causal & valid[:, None, :]
        context = _Context(rope, seen, index, mask, select, gate)
        hidden, (cached, routing) = self.layers(
            masks.keep(embeds.astype(self.config.dtype), mask),
            context,
            cached,
            select_data,
        )
        hidden = self.final_norm(hidden)
        if cache is not None:
            full = index + length > valid.shape[1]
            hidden = jnp.where(full, jnp.nan, hidden)
            cache = KVCache(*cached, valid, cache.lengths + read, index + length)
        if self.is_initializing():
            self.embed(jnp.zeros((1, 1), jnp.int32))
            self.logits(hidden[:1, :1])
        return (hidden, cache, routing) if with_routing else (hidden, cache)

    def _check(self, embeds, mask, cache):
        if embeds.ndim != 3 or embeds.shape[-1] != self.config.dim:
            raise ValueError(
                f"Decoder expects embeds [B, L, {self.config.dim}], got"
                f" {list(embeds.shape)}."
            )
        if mask.shape != embeds.shape[:2] or mask.dtype != jnp.bool_:
            raise ValueError(
                f"Decoder expects a bool mask {list(embeds.shape[:2])}, got"
                f" {mask.dtype} {list(mask.shape)}."
            )
        if cache is None:
            return
        batch_size, num_slots = cache.mask.shape
        if batch_size != embeds.shape[0]:
            raise ValueError(
                f"The cache holds {batch_size} sequences, but embeds {embeds.shape[0]}."
            )
        used = 0 if isinstance(cache.index, jax.core.Tracer) else int(cache.index)
        if used + embeds.shape[1] > num_slots:
            raise ValueError(
                f"The cache has {num_slots} slots, {used} in use, and cannot take"
                f" {embeds.shape[1]} more: make it longer in init_cache."
            )
