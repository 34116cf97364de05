"""A vision transformer for pictures, sounds and video alike.

One trunk serves every modality: the input is a grid with any number of axes and a last
axis of channels, cut into patches of any size (Dosovitskiy et al. 2021).
"""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.nn import layers


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
      order: "z" or "raster", see `token_order`.
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
    order: str = "z"
    stem_dims: tuple[int, ...] = ()
    dtype: str = "float32"
    scan_unroll: int = 1

    def __post_init__(self):
        for name in ("dim", "depth", "num_heads", "mlp_dim", "scan_unroll"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"ViTConfig.{name} must be at least 1, got {getattr(self, name)}."
                )
        if self.dim % self.num_heads:
            raise ValueError(
                f"ViTConfig.num_heads={self.num_heads} must divide dim={self.dim}."
            )
        if self.order not in ("z", "raster"):
            raise ValueError(
                f"ViTConfig.order must be 'z' or 'raster', got {self.order!r}."
            )
        if self.stem_dims and self.patch_shape != (2 ** len(self.stem_dims),) * 2:
            raise ValueError(
                f"ViTConfig.stem_dims={self.stem_dims} makes square patches of"
                f" {2 ** len(self.stem_dims)} pixels; set patch_shape to that, or"
                " stem_dims=()."
            )
        sizes = self.input_shape[:-1]
        if len(sizes) != len(self.patch_shape) or not sizes:
            raise ValueError(
                f"ViTConfig.patch_shape={self.patch_shape} must have one entry for each"
                f" axis of input_shape={self.input_shape} but the last (channels)."
            )
        if any(
            patch < 1 or size < 1 or size % patch
            for size, patch in zip(sizes, self.patch_shape, strict=True)
        ):
            raise ValueError(
                f"ViTConfig.patch_shape={self.patch_shape} must divide"
                f" input_shape={self.input_shape} axis by axis."
            )


def grid_shape(config: ViTConfig) -> tuple[int, ...]:
    """Number of patches along each axis, such as (8, 8)."""
    return tuple(
        size // patch
        for size, patch in zip(config.input_shape[:-1], config.patch_shape, strict=True)
    )


def num_tokens(config: ViTConfig) -> int:
    """Number of tokens L, one for each patch."""
    return math.prod(grid_shape(config))


def token_order(config: ViTConfig) -> np.ndarray:
    """Raster index of the patch that each token stands for.

    In "z" order (Morton 1966) the bits of the patch's coordinates are interleaved, so
    that each aligned window of four tokens is a block of 2 x 2 patches, of sixteen a
    block of 4 x 4: pooling a window of tokens pools a square. It exists where the axes
    of the grid longer than one are equal and a power of two; any other grid keeps
    raster order (last axis fastest). In video the last two axes vary fastest, so
    windows of four lie in one frame.

    Args:
      config: the encoder's configuration.

    Returns:
      int [L], a permutation: ``labels.reshape(L)[token_order(config)]`` puts one label
      per patch in the order of the tokens.

    Example:
      >>> token_order(ViTConfig(input_shape=(4, 4, 1), patch_shape=(1, 1)))[:8]
      array([0, 1, 4, 5, 2, 3, 6, 7])
    """
    grid = grid_shape(config)
    raster = np.arange(math.prod(grid))
    sides = [side for side in grid if side > 1]
    has_z_order = len(set(sides)) == 1 and sides[0] & (sides[0] - 1) == 0
    if config.order == "raster" or not has_z_order:
        return raster
    num_bits = sides[0].bit_length() - 1
    bits = raster.reshape((2,) * (num_bits * len(sides)))
    # Axis a * num_bits + b of ``bits`` is bit b, highest first, of coordinate a.
    axes = np.arange(bits.ndim).reshape(len(sides), num_bits)
    return bits.transpose(axes.T.ravel()).ravel()


def patchify(x: base.Array, patch_shape: tuple[int, ...]) -> base.Array:
    """Cuts a batch of N-dimensional arrays into patches in raster order.

    Args:
      x: [B, *sizes, C].
      patch_shape: one entry for each of ``sizes``, dividing it.

    Returns:
      [B, L, prod(patch_shape) * C]; in each patch the channels vary fastest.
    """
    rank = len(patch_shape)
    split = [x.shape[0]]
    for size, patch in zip(x.shape[1:-1], patch_shape, strict=True):
        split += [size // patch, patch]
    x = x.reshape(*split, x.shape[-1])
    grid_axes = range(1, 2 * rank, 2)
    patch_axes = range(2, 2 * rank + 1, 2)
    x = x.transpose(0, *grid_axes, *patch_axes, 2 * rank + 1)
    return x.reshape(x.shape[0], math.prod(split[1::2]), -1)


def neighbourhoods(x: base.Array, stride: int) -> base.Array:
    """The 3 x 3 neighbourhood of every ``stride``-th pixel, zero beyond the border.

    A convolution is this and a dense layer; as plain slices and one matrix product its
    gradient is fast on CPUs too, where that of XLA's convolution is not.

    Args:
      x: [B, H, W, C], where ``stride`` divides H and W.
      stride: 1 or 2.

    Returns:
      [B, H / stride, W / stride, 9 C]; in each neighbourhood the channels vary fastest.
    """
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [
        x[:, row : row + height : stride, column : column + width : stride]
        for row in range(3)
        for column in range(3)
    ]
    return jnp.concatenate(shifted, axis=-1)


class ConvStem(nn.Module):
    """3 x 3 convolutions of stride 2, then one of stride 1 that looks further.

    Attributes:
      dims: channels of the layers of stride 2; the last has ``dims[-1]`` too.
      dtype: compute type.
    """

    dims: tuple[int, ...]
    dtype: layers.DType = jnp.float32

    @nn.compact
    def __call__(self, x: base.Array) -> base.Array:
        """Maps [B, H, W, C] to [B, H / 2**n, W / 2**n, dims[-1]], n layers."""
        x = x.astype(self.dtype)
        for number, dim in enumerate((*self.dims, self.dims[-1])):
            stride = 2 if number < len(self.dims) else 1
            x = layers.Dense(dim, dtype=self.dtype, name=f"conv_{number}")(
                neighbourhoods(x, stride)
            )
            x = nn.gelu(nn.LayerNorm(dtype=self.dtype, name=f"norm_{number}")(x))
        return x


class _Block(nn.Module):
    """One pre-norm encoder layer, in the form that ``nn.scan`` wants."""

    config: ViTConfig

    @nn.compact
    def __call__(self, x: base.Array, _: None) -> tuple[base.Array, None]:
        config = self.config
        out_init = layers.residual_init(config.depth)
        normed = nn.LayerNorm(dtype=config.dtype, name="attention_norm")(x)
        x = x + layers.SelfAttention(
            config.num_heads, out_init, config.dtype, name="attention"
        )(normed)
        normed = nn.LayerNorm(dtype=config.dtype, name="mlp_norm")(x)
        x = x + layers.GeluMlp(config.mlp_dim, out_init, config.dtype, name="mlp")(
            normed
        )
        return x, None


class ViT(nn.Module):
    """Encodes an array as one token for each patch.

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

    @nn.compact
    def __call__(self, x: base.Array) -> base.Array:
        """Encodes a batch.

        Args:
          x: [B, *input_shape], floats of about unit scale (bytes are to be scaled by
            the caller).

        Returns:
          Tokens [B, L, D] after a final LayerNorm, in the order of `token_order`.

        Raises:
          ValueError: the shape or type of ``x`` is wrong.
        """
        config = self.config
        if x.shape[1:] != tuple(config.input_shape):
            raise ValueError(
                f"ViT expects [B, {', '.join(map(str, config.input_shape))}], got"
                f" {list(x.shape)}."
            )
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"ViT expects floats of about unit scale, got {x.dtype}: scale the"
                " input first, for bytes by x / 127.5 - 1."
            )
        if config.stem_dims:
            x = ConvStem(config.stem_dims, config.dtype, name="stem")(x)
            patches = x.reshape(x.shape[0], -1, x.shape[-1])
        else:
            patches = patchify(x.astype(config.dtype), config.patch_shape)
        order = token_order(config)
        if not np.array_equal(order, np.arange(order.size)):
            # Ordered before the first parameter, so no gradient needs a scatter.
            patches = patches[:, order]
        tokens = layers.Dense(config.dim, dtype=config.dtype, name="patch_embed")(
            patches
        )
        tokens += self.param(
            "position_embed",
            nn.initializers.normal(config.dim**-0.5),
            (order.size, config.dim),
        ).astype(config.dtype)
        stack = nn.scan(
            _Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=config.depth,
            unroll=config.scan_unroll,
        )
        tokens, _ = stack(config, name="layers")(tokens, None)
        return nn.LayerNorm(dtype=config.dtype, name="final_norm")(tokens)
