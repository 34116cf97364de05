"""The networks of agents: a multilayer perceptron, and several critics as one."""

import itertools

import flax.linen as nn
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import layers


class Mlp(nn.Module):
    """Dense layers with ReLU between them.

    Attributes:
      hidden: widths of the hidden layers.
      num_outputs: width of the last layer.
    """

    hidden: tuple[int, ...]
    num_outputs: int

    @nn.compact
    def __call__(self, *parts: base.Array) -> base.Array:
        """Maps ``[..., D]``, or parts of it in their order, to [..., num_outputs]."""
        for i, width in enumerate(self.hidden):
            parts = (nn.relu(_dense(width, f"dense_{i}", parts)),)
        return _dense(self.num_outputs, "out", parts)


def _dense(width: int, name: str, parts: tuple[base.Array, ...]) -> base.Array:
    if len(parts) == 1:
        return layers.Dense(width, name=name)(*parts)
    return _DenseOfParts(width, name=name)(*parts)


class _DenseOfParts(nn.Module):
    """A dense layer of several arrays, with the parameters of one of them joined.

    What a wide part brings is the same in every use of it, so that a compiler works it
    out once, and no gradient by it is taken where none is asked for.

    Attributes:
      features: width of the output.
    """

    features: int

    @nn.compact
    def __call__(self, *parts: base.Array) -> base.Array:
        ends = list(itertools.accumulate(part.shape[-1] for part in parts))
        shape = ends[-1], self.features
        init, zeros = nn.linear.default_kernel_init, nn.initializers.zeros
        kernel = self.param("kernel", init, shape, jnp.float32)
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        starts = [0, *ends[:-1]]
        return bias + sum(
            layers.matmul(part, kernel[start:end])
            for part, start, end in zip(parts, starts, ends, strict=True)
        )


def make_critics(
    hidden: tuple[int, ...], num_outputs: int, num_critics: int
) -> nn.Module:
    """Makes independent critics whose parameters are stacked on their first axis.

    Args:
      hidden: widths of the hidden layers.
      num_outputs: values of each critic.
      num_critics: how many.

    Returns:
      A Flax module that maps ``[..., D]``, or parts of it in their order, to
      ``[num_critics, ..., num_outputs]``.
    """
    stacked = nn.vmap(
        Mlp,
        in_axes=None,
        out_axes=0,
        axis_size=num_critics,
        variable_axes={"params": 0},
        split_rngs={"params": True},
    )
    return stacked(hidden, num_outputs)
