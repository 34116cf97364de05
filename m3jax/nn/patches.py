"""Patches of pictures, sounds and video: cut out or convolved, and their order."""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.nn import layers


def patchify(
    x: base.Array,
    patch_shape: tuple[int, ...],
    patch_stride: tuple[int, ...] | None = None,
) -> base.Array:
    """Cuts a batch of N-dimensional arrays into patches in raster order.

    Args:
      x: [B, *sizes, C].
      patch_shape: one entry for each of ``sizes``.
      patch_stride: from the start of one patch to that of the next, along each axis;
        what is left over at the end is dropped. None: ``patch_shape``, which then
        divides ``sizes``.

    Returns:
      [B, L, prod(patch_shape) * C]; in each patch the channels vary fastest.
    """
    rank = len(patch_shape)
    split = [x.shape[0]]
    if patch_stride is None:
        for size, patch in zip(x.shape[1:-1], patch_shape, strict=True):
            split += [size // patch, patch]
    else:
        for axis, (patch, stride) in enumerate(
            zip(patch_shape, patch_stride, strict=True)
        ):
            places = np.arange(0, x.shape[1 + 2 * axis] - patch + 1, stride)
            x = jnp.take(x, places[:, None] + np.arange(patch), axis=1 + 2 * axis)
            split += [len(places), patch]
    x = x.reshape(*split, x.shape[-1])
    grid_axes = range(1, 2 * rank, 2)
    patch_axes = range(2, 2 * rank + 1, 2)
    x = x.transpose(0, *grid_axes, *patch_axes, 2 * rank + 1)
    return x.reshape(x.shape[0], math.prod(split[1::2]), -1)


def z_order(grid: tuple[int, ...]) -> np.ndarray:
    """Raster indices of a grid's places, in the order in which squares stay together.

    In this order (Morton 1966) the bits of the coordinates are interleaved, so that
    each aligned window of four is a block of 2 x 2, of sixteen a block of 4 x 4:
    pooling a window of tokens pools a square. It exists where the axes longer than one
    are equal and a power of two; any other grid keeps raster order (last axis fastest).
    In video the last two axes vary fastest, so windows of four lie in one frame.

    Args:
      grid: number of places along each axis.

    Returns:
      int [P], a permutation.

    Example:
      >>> z_order((4, 4))[:8]
      array([0, 1, 4, 5, 2, 3, 6, 7])
    """
    raster = np.arange(math.prod(grid))
    sides = [side for side in grid if side > 1]
    if len(set(sides)) != 1 or sides[0] & (sides[0] - 1):
        return raster
    num_bits = sides[0].bit_length() - 1
    bits = raster.reshape((2,) * (num_bits * len(sides)))
    # Axis a * num_bits + b of ``bits`` is bit b, highest first, of coordinate a.
    axes = np.arange(bits.ndim).reshape(len(sides), num_bits)
    return bits.transpose(axes.T.ravel()).ravel()


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
