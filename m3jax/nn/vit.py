"""A vision transformer for pictures, sounds and video alike.

One trunk serves every modality: the input is a grid with any number of axes and a last
axis of channels, cut into patches of any size (Dosovitskiy et al. 2021).
"""

import dataclasses
import math
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.nn import layers, patches


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Size and input of a `ViT`.

    Attributes:
      dim: width of the tokens, D.
      depth: number of layers.
      num_heads: attention heads; divides ``dim``.
      mlp_dim: hidden width of the feed-forward layers.
      input_shape: shape of one input, channels last, such as (64, 64, 3).
      patch_shape: shape of one patch, without channels; divides ``input_shape``.
      patch_stride: steps between patches that overlap; these need not divide
        ``input_shape``, and what is left over at the end is not read. None: no overlap.
      num_class_tokens: learned tokens that stand in front of those of the patches.
      order: "z", see `patches.z_order`, or "raster".
      stem_dims: channels of a convolutional stem's layers, which take the place of the
        patch embedding; (): none. Early convolutions learn from far fewer examples
        (Xiao et al. 2021). Each layer is 3x3 and halves both sides, so their number
        fixes the patch: 2 ** len(stem_dims). Pictures only.
      dtype: compute type, by name.
      scan_unroll: layers per turn of the scan over depth; more compile time, less
        overhead.
    """

    dim: int = 128
    depth: int = 4
    num_heads: int = 4
    mlp_dim: int = 512
    input_shape: tuple[int, ...] = (64, 64, 3)
    patch_shape: tuple[int, ...] = (8, 8)
    patch_stride: tuple[int, ...] | None = None
    num_class_tokens: int = 0
    order: str = "z"
    stem_dims: tuple[int, ...] = ()
    dtype: str = "float32"
    scan_unroll: int = 1

    def __post_init__(self):
        for name in "dim depth num_heads mlp_dim num_class_tokens scan_unroll".split():
            value, least = getattr(self, name), int(name != "num_class_tokens")
            if value < least:
                raise ValueError(
                    f"ViTConfig.{name} must be at least {least}, got {value}."
                )
        if self.dim % self.num_heads:
            raise ValueError(
                f"ViTConfig.num_heads={self.num_heads} must divide dim={self.dim}."
            )
        if self.order not in ("z", "raster"):
            raise ValueError(
                f"ViTConfig.order must be 'z' or 'raster', got {self.order!r}."
            )
        self._check_patches()

    def _check_patches(self):
        sizes = self.input_shape[:-1]
        if len(sizes) != len(self.patch_shape) or not sizes:
            raise ValueError(
                f"ViTConfig.patch_shape={self.patch_shape} must have one entry for each"
                f" axis of input_shape={self.input_shape} but the last (channels)."
            )
        fits = all(
            1 <= patch <= size
            for size, patch in zip(sizes, self.patch_shape, strict=True)
        )
        divides = fits and not any(np.mod(sizes, self.patch_shape))
        if not (divides if self.patch_stride is None else fits):
            raise ValueError(
                f"ViTConfig.patch_shape={self.patch_shape} must divide input_shape="
                f"{self.input_shape} axis by axis, or fit into it with a patch_stride."
            )
        if self.patch_stride is not None and (
            len(self.patch_stride) != len(sizes)
            or any(np.less(self.patch_stride, 1))
            or any(np.greater(self.patch_stride, self.patch_shape))
        ):
            raise ValueError(
                f"ViTConfig.patch_stride={self.patch_stride} must be from 1 to"
                f" patch_shape={self.patch_shape} axis by axis."
            )
        if self.stem_dims and (
            self.patch_shape != (2 ** len(self.stem_dims),) * 2 or self.patch_stride
        ):
            raise ValueError(
                f"ViTConfig.stem_dims={self.stem_dims} makes square patches of"
                f" {2 ** len(self.stem_dims)} pixels that do not overlap; set"
                " patch_shape to that and patch_stride=None, or stem_dims=()."
            )


def grid_shape(config: ViTConfig) -> tuple[int, ...]:
    """Number of patches along each axis, such as (8, 8)."""
    stride = config.patch_stride or config.patch_shape
    return tuple(
        (size - patch) // step + 1
        for size, patch, step in zip(
            config.input_shape[:-1], config.patch_shape, stride, strict=True
        )
    )


def num_tokens(config: ViTConfig) -> int:
    """Number of tokens L: the class tokens, and one for each patch."""
    return config.num_class_tokens + math.prod(grid_shape(config))


def token_order(config: ViTConfig) -> np.ndarray:
    """Raster index of the patch that each token stands for, class tokens left out.

    Args:
      config: the encoder's configuration.

    Returns:
      int [P], a permutation of the patches: ``labels.reshape(P)[token_order(config)]``
      puts one label per patch in the order of the tokens.

    Example:
      >>> token_order(ViTConfig(input_shape=(4, 4, 1), patch_shape=(1, 1)))[:8]
      array([0, 1, 4, 5, 2, 3, 6, 7])
    """
    grid = grid_shape(config)
    return patches.z_order(grid) if config.order == "z" else np.arange(math.prod(grid))


class Seen(NamedTuple):
    """What tokens may see of each other; None: everything.

    Attributes:
      mask: bool [B, L], True where a token is valid.
      gate: float [B, L], how much each counts, see `layers.attention`.
    """

    mask: base.Array | None = None
    gate: base.Array | None = None


class _Block(nn.Module):
    """One pre-norm encoder layer, in the form that ``nn.scan`` wants."""

    config: ViTConfig

    @nn.compact
    def __call__(
        self, x: base.Array, seen: Seen, with_scores: bool
    ) -> tuple[base.Array, base.Array | None]:
        config = self.config
        out_init = layers.residual_init(config.depth)
        normed = nn.LayerNorm(dtype=config.dtype, name="attention_norm")(x)
        mixed = layers.SelfAttention(
            config.num_heads, out_init, config.dtype, name="attention"
        )(normed, seen.mask, with_scores, seen.gate)
        mixed, scores = mixed if with_scores else (mixed, None)
        x = x + mixed
        normed = nn.LayerNorm(dtype=config.dtype, name="mlp_norm")(x)
        mlp = layers.GeluMlp(config.mlp_dim, out_init, config.dtype, name="mlp")
        return x + mlp(normed), scores


def stack(config: ViTConfig, num_layers: int) -> nn.Module:
    """So many layers of an encoder, their parameters stacked over depth.

    They take ``(tokens, seen, with_scores)`` and give ``(tokens, scores)``.
    """
    scanned = nn.scan(
        _Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=nn.broadcast,
        length=num_layers,
        unroll=min(config.scan_unroll, num_layers),
    )
    return scanned(config)


class ViT(nn.Module):
    """Encodes an array as one token for each patch.

    `m3jax.nn.vit_stages` runs some of the layers alone.

    Attributes:
      config: size and input.

    Example:
      >>> import jax
      >>> model = ViT(ViTConfig(dim=32, depth=2))
      >>> images = jnp.zeros((1, 64, 64, 3))
      >>> params = model.init(jax.random.key(0), images)
      >>> model.apply(params, images).shape
      (1, 64, 32)
    """

    config: ViTConfig

    def setup(self):
        """Declares the parts, in the order of the computation."""
        config = self.config
        if config.stem_dims:
            self.stem = patches.ConvStem(config.stem_dims, config.dtype)
        self.patch_embed = layers.Dense(config.dim, dtype=config.dtype)
        if config.num_class_tokens:
            # Zeros at first: their positions tell them apart.
            shape = config.num_class_tokens, config.dim
            zeros = nn.initializers.zeros
            self.class_embed = self.param("class_embed", zeros, shape, jnp.float32)
        self.position_embed = self.param(
            "position_embed",
            nn.initializers.normal(config.dim**-0.5),
            (num_tokens(config), config.dim),
            jnp.float32,
        )
        self.layers = stack(config, config.depth)
        self.final_norm = nn.LayerNorm(dtype=config.dtype)

    def __call__(
        self, x: base.Array, with_scores: bool = False
    ) -> base.Array | tuple[base.Array, base.Array]:
        """Encodes a batch.

        Args:
          x: [B, *input_shape], floats of about unit scale (bytes are to be scaled by
            the caller).
          with_scores: also return how much attention each token receives in the last
            layer, the mean over heads and queries (`layers.attention_received`).

        Returns:
          Tokens [B, L, D] after a final LayerNorm, first the class tokens, then those
          of the patches in the order of `token_order`. With scores ``(tokens,
          scores)``, where scores are float32 [B, L] and sum to one over L.

        Raises:
          ValueError: the shape or type of ``x`` is wrong.
        """
        tokens, scores = self.layers(self.embed(x), Seen(), with_scores)
        tokens = self.final_norm(tokens)
        return (tokens, scores[-1]) if with_scores else tokens

    def embed(self, x: base.Array) -> base.Array:
        """Class and patch tokens [B, L, D] that know their place, before any layer."""
        self._check(x)
        config = self.config
        if config.stem_dims:
            cut = self.stem(x)
            cut = cut.reshape(x.shape[0], -1, cut.shape[-1])
        else:
            cut = patches.patchify(
                x.astype(config.dtype), config.patch_shape, config.patch_stride
            )
        order = token_order(config)
        if not np.array_equal(order, np.arange(order.size)):
            # Ordered before the first parameter, so no gradient needs a scatter.
            cut = cut[:, order]
        tokens = self.patch_embed(cut)
        if config.num_class_tokens:
            first = self.class_embed.astype(config.dtype)
            first = jnp.broadcast_to(first, (len(x), *first.shape))
            tokens = jnp.concatenate([first, tokens], axis=1)
        return tokens + self.position_embed.astype(config.dtype)

    def finish(self, tokens: base.Array) -> base.Array:
        """The norm ``[B, L, D] -> [B, L, D]`` after the last layer."""
        return self.final_norm(tokens)

    def _check(self, x):
        shape = self.config.input_shape
        if x.shape[1:] != tuple(shape):
            raise ValueError(
                f"ViT expects [B, {', '.join(map(str, shape))}], got {list(x.shape)}."
            )
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"ViT expects floats of about unit scale, got {x.dtype}: scale the"
                " input first, for bytes by x / 127.5 - 1."
            )
