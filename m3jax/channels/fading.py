"""Flat fading: the whole symbol is multiplied by one random complex gain.

Every channel here has ``block_length``: None is one gain for the whole example, 1 is a
fresh gain for every symbol. Gains that change slowly: ``channels/doppler.py``.
"""

import dataclasses
import math
import numbers

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import blocks, noise
from m3jax.ops import random


class FlatFading:
    """What all flat fading shares: the state is the gains, and they multiply."""

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


@dataclasses.dataclass(frozen=True)
class RayleighBlock(FlatFading):
    """Rayleigh fading whose gain stays for a block of channel uses.

        y_t = h_{floor(t / T)} x_t + n_t,   h ~ CN(0, 1) independent between blocks

    Attributes:
      block_length: T in channel uses; None means one gain for the whole example.

    Raises:
      ValueError: if ``block_length`` is not a positive integer or None.

    Example:
      >>> h = RayleighBlock(block_length=2).generate(jax.random.key(0), (2, 3))
      >>> h.shape, bool(h[0, 0] == h[0, 1]), bool(h[0, 1] == h[0, 2])
      ((2, 3), True, False)
    """

    block_length: int | None = None

    def __post_init__(self):
        if self.block_length is not None:
            blocks.check_length(self.block_length)

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Draws the gains.

        Args:
          key: random key, consumed.
          shape: shape of the symbols of one example.

        Returns:
          Complex gains of this shape, ``E|h|^2 = 1``.
        """
        if self.block_length is None:
            return jnp.broadcast_to(noise.complex_normal(key, ()), shape)
        num_blocks = blocks.count(shape, self.block_length)
        gains = random.stored_complex_normal(
            key, (num_blocks,), jnp.result_type(complex)
        )
        return blocks.spread(gains, self.block_length, shape)


@dataclasses.dataclass(frozen=True)
class RicianBlock(FlatFading):
    """Rician fading: a steady line of sight (LOS) and scattered paths around it.

        h = sqrt(K / (K + 1)) + sqrt(1 / (K + 1)) g,   g ~ CN(0, 1) as RayleighBlock's

    so ``E|h|^2 = 1`` for every K, the power of the line of sight over that of the
    scattered paths (Goldsmith, Wireless Communications, 2005, section 3.2.2). The phase
    of the line of sight is 0, as a receiver locked to its carrier sees it; with perfect
    CSI it makes no difference. ``-inf`` dB is Rayleigh, ``inf`` dB is AWGN.

    Attributes:
      k_db: K in dB, a number; inside of a traced function also a traced scalar, by
        which the gains are differentiable.
      block_length: T in channel uses; None means one gain for the whole example.

    Raises:
      ValueError: if ``k_db`` is not a number, or ``block_length`` is not a positive
        integer or None.

    Example:
      >>> h = RicianBlock(k_db=60.0).generate(jax.random.key(0), (2, 3))
      >>> h.shape, bool(jnp.abs(h - 1.0).max() < 0.01)
      ((2, 3), True)
    """

    k_db: float
    block_length: int | None = None

    def __post_init__(self):
        check_number("k_db", self.k_db, -math.inf, math.inf)
        if self.block_length is not None:
            blocks.check_length(self.block_length)

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Draws the gains.

        Args:
          key: random key, consumed.
          shape: shape of the symbols of one example.

        Returns:
          Complex gains of this shape, ``E|h|^2 = 1``.
        """
        scattered = RayleighBlock(self.block_length).generate(key, shape)
        # K / (K + 1) is the logistic function of ln K: finite at both ends of K.
        log_k = jnp.asarray(self.k_db, scattered.real.dtype) * (math.log(10.0) / 10.0)
        line_of_sight = jnp.exp(0.5 * jax.nn.log_sigmoid(log_k))
        return line_of_sight + jnp.exp(0.5 * jax.nn.log_sigmoid(-log_k)) * scattered


def check_number(name: str, value: base.Array, low: float, high: float) -> None:
    """Refuses a setting that is no number or out of range.

    Args:
      name: of the setting.
      value: a number; a JAX array is let through, as its value may not be known yet.
      low: least value that is allowed.
      high: greatest value that is allowed.

    Raises:
      ValueError: names the setting and its range.
    """
    if isinstance(value, jax.Array):
        return
    if not (isinstance(value, numbers.Real) and low <= value <= high):
        raise ValueError(
            f"{name} must be a number from {low} to {high}, got {value!r}."
        )
