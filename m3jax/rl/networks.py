"""The networks of agents: a multilayer perceptron, and several critics as one."""

import flax.linen as nn

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
    def __call__(self, x: base.Array) -> base.Array:
        """Maps ``x [..., D]`` to [..., num_outputs]."""
        for i, width in enumerate(self.hidden):
            x = nn.relu(layers.Dense(width, name=f"dense_{i}")(x))
        return layers.Dense(self.num_outputs, name="out")(x)


def make_critics(
    hidden: tuple[int, ...], num_outputs: int, num_critics: int
) -> nn.Module:
    """Makes independent critics whose parameters are stacked on their first axis.

    Args:
      hidden: widths of the hidden layers.
      num_outputs: values of each critic.
      num_critics: how many.

    Returns:
      A Flax module that maps ``[..., D]`` to ``[num_critics, ..., num_outputs]``.
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
