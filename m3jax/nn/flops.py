"""Operations of encoders and decoder, counted from their shapes.

A multiply and an add are two operations, as in XLA's cost analysis. Only the products
of matrices count, the two of attention among them; norms, activations and softmax, a
few per cent, do not. Everything is exact for what one call computes, for one example.
"""

import math

from m3jax.nn import decoder as decoder_lib
from m3jax.nn import vit


def dense(rows: int, *dims: int) -> int:
    """A chain of dense layers, ``dims[0] -> dims[1] -> ...``, on so many rows.

    >>> dense(10, 4, 8, 1)
    800
    """
    pairs = zip(dims[:-1], dims[1:], strict=True)
    return sum(2 * rows * fan_in * fan_out for fan_in, fan_out in pairs)


def vit_embedding(config: vit.ViTConfig) -> int:
    """An encoder's stem, if it has one, and its patch embedding."""
    num_patches = math.prod(vit.grid_shape(config))
    if not config.stem_dims:
        patch = math.prod(config.patch_shape) * config.input_shape[-1]
        return dense(num_patches, patch, config.dim)
    height, width, channels = config.input_shape
    total = 0
    for dim in config.stem_dims:
        height, width = height // 2, width // 2
        total += dense(height * width, 9 * channels, dim)
        channels = dim
    total += dense(height * width, 9 * channels, channels)
    return total + dense(num_patches, channels, config.dim)


def vit_layers(config: vit.ViTConfig, num_layers: int, num_tokens: int) -> int:
    """So many layers of an encoder over so many tokens."""
    dim = config.dim
    projections = dense(num_tokens, dim, 3 * dim) + dense(num_tokens, dim, dim)
    attention = 4 * num_tokens * num_tokens * dim
    mlp = dense(num_tokens, dim, config.mlp_dim, dim)
    return num_layers * (projections + attention + mlp)


def vit_encoder(config: vit.ViTConfig) -> int:
    """A whole encoder.

    >>> vit_encoder(vit.ViTConfig(depth=2, dim=128)) // 1_000_000
    57
    """
    tokens = vit.num_tokens(config)
    return vit_embedding(config) + vit_layers(config, config.depth, tokens)


def decoder(
    config: decoder_lib.DecoderConfig,
    num_tokens: int,
    num_scored: int = 0,
    num_slots: int | None = None,
) -> int:
    """One call of a decoder.

    Args:
      config: the decoder's configuration.
      num_tokens: tokens of the call, L, padding too.
      num_scored: positions whose words are scored.
      num_slots: keys that each attends over, S, those masked too; None: L.

    Raises:
      ValueError: the decoder has experts, whose work depends on the routing.
    """
    if config.moe is not None:
        raise ValueError("a mixture of experts is counted by its routing, not here.")
    slots = num_tokens if num_slots is None else num_slots
    dim, head = config.dim, config.size_per_head
    queries, keys = config.num_heads * head, config.num_kv_heads * head
    layer = dense(num_tokens, dim, queries) + dense(num_tokens, queries, dim)
    layer += 2 * dense(num_tokens, dim, keys)
    layer += 4 * num_tokens * slots * queries
    layer += 2 * dense(num_tokens, dim, config.ff_dim)
    layer += dense(num_tokens, config.ff_dim, dim)
    return config.depth * layer + dense(num_scored, dim, config.vocab_size)
