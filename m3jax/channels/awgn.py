"""Additive white Gaussian noise: the channel without fading."""

import dataclasses

import jax.numpy as jnp

from m3jax import base
from m3jax.channels import noise


@dataclasses.dataclass(frozen=True)
class AWGN:
    """A channel of gain one: ``y = x + n`` (SNR convention: ``channels/noise.py``).

    Example:
      >>> import jax
      >>> channel = AWGN()
      >>> gain_key, noise_key = jax.random.split(jax.random.key(0))
      >>> x = jnp.ones((3,), complex)
      >>> h = channel.generate(gain_key, x.shape)
      >>> y = channel.apply(noise_key, x, h, snr=jnp.inf)
      >>> bool((y == x).all())
      True
    """

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Returns gains of one.

        Args:
          key: not used; there is no randomness in the medium.
          shape: shape of the symbols.

        Returns:
          Complex gains, all one, of this shape.
        """
        del key
        return jnp.ones(shape, jnp.result_type(complex))

    def apply(
        self, key: base.Array, x: base.Array, state: base.Array, snr: base.Array
    ) -> base.Array:
        """Sends symbols through ``y = h x + n``.

        Args:
          key: random key of the noise, consumed.
          x: complex symbols of unit mean power.
          state: the gains ``h`` from ``generate``.
          snr: linear Es/N0, scalar.

        Returns:
          Received symbols, complex, of the shape of ``x``.
        """
        return noise.add_noise(key, state * x, snr)
