"""Flat fading: the whole symbol is multiplied by one random complex gain."""

import dataclasses
import math

import jax.numpy as jnp

from m3jax import base
from m3jax.channels import noise


@dataclasses.dataclass(frozen=True)
class RayleighBlock:
    """Rayleigh fading whose gain stays for a block of channel uses.

        y_t = h_{floor(t / T)} x_t + n_t,   h ~ CN(0, 1) independent between blocks

    Channel uses are counted in the order of the flattened symbols. A slot left empty by
    padding still takes its channel use, so a mask never shifts the blocks.

    Attributes:
      block_length: T in channel uses; None means one gain for the whole example.

    Raises:
      ValueError: if ``block_length`` is not a positive integer or None.

    Example:
      >>> import jax
      >>> h = RayleighBlock(block_length=2).generate(jax.random.key(0), (2, 3))
      >>> h.shape, bool(h[0, 0] == h[0, 1]), bool(h[0, 1] == h[0, 2])
      ((2, 3), True, False)
    """

    block_length: int | None = None

    def __post_init__(self):
        length = self.block_length
        if length is not None and not (type(length) is int and length > 0):
            raise ValueError(
                f"block_length must be a positive integer or None, got {length!r}."
            )

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Draws the gains.

        Args:
          key: random key, consumed.
          shape: shape of the symbols of one example.

        Returns:
          Complex gains of this shape, ``E|h|^2 = 1``.
        """
        num_uses = math.prod(shape)
        if self.block_length is None:
            return jnp.broadcast_to(noise.complex_normal(key, ()), shape)
        num_blocks = -(-num_uses // self.block_length)
        gains = noise.complex_normal(key, (num_blocks,))
        return jnp.repeat(gains, self.block_length)[:num_uses].reshape(shape)

    def apply(
        self, key: base.Array, x: base.Array, state: base.Array, snr: base.Array
    ) -> base.Array:
        """Sends symbols through ``y = h x + n``.

        Args:
          key: random key of the noise, consumed.
          x: complex symbols of unit mean power.
          state: the gains ``h`` from ``generate``.
          snr: linear Es/N0, scalar, averaged over fading.

        Returns:
          Received symbols, complex, of the shape of ``x``.
        """
        return noise.add_noise(key, state * x, snr)
