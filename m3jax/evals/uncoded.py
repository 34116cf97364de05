"""Bit errors of uncoded symbols over a channel, one batch at a time."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import csi as csi_lib
from m3jax.channels import equalisers, labels, modulation


@dataclasses.dataclass(frozen=True)
class UncodedLink:
    """Random bits, Gray symbols, a channel, zero forcing, hard decisions.

    What ``monte_carlo.run`` calls; ``channels/theory.py`` has the exact rates.

    Attributes:
      channel: its state must be the complex gains.
      order: of the modulation, one of ``modulation.ORDERS``.
      shape: of the symbols of a batch, two axes; fading runs along the last one. A
        multiple of the fading's block length there is fastest.
      csi: what the receiver knows of the gains.

    Raises:
      ValueError: for an unknown order, or a shape without two positive axes.

    Example:
      >>> from m3jax.channels import awgn
      >>> simulate = UncodedLink(awgn.AWGN(), order=4, shape=(8, 128))
      >>> errors, trials = simulate(jax.random.key(0), jnp.inf)
      >>> int(errors), int(trials)
      (0, 2048)
    """

    channel: base.Channel
    order: int
    shape: tuple[int, int] = (128, 1024)
    csi: csi_lib.CSI = csi_lib.PerfectCSI()

    def __post_init__(self):
        modulation.bits_per_symbol(self.order)
        if len(self.shape) != 2 or not all(
            type(size) is int and size > 0 for size in self.shape
        ):
            raise ValueError(
                f"shape must be two positive integers, got {self.shape!r}."
            )

    @property
    def bits(self) -> int:
        """Bits sent in a batch."""
        return math.prod(self.shape) * modulation.bits_per_symbol(self.order)

    def __call__(
        self, key: base.Array, snr: base.Array
    ) -> tuple[base.Array, base.Array]:
        """Sends one batch.

        Args:
          key: random key, consumed.
          snr: linear Es/N0.

        Returns:
          Wrong bits and sent bits, int32.
        """
        label_key, gain_key, noise_key, csi_key = jax.random.split(key, 4)
        sent = labels.draw(label_key, self.shape, self.order)
        x = labels.modulate(sent, self.order)
        h = self.channel.generate(gain_key, self.shape)
        y = self.channel.apply(noise_key, x, h, snr)
        known = self.csi.estimate(csi_key, h, snr)
        x_hat = equalisers.zero_forcing(y, known.h)
        wrong = labels.bit_errors(sent, labels.demodulate(x_hat, self.order))
        # By rows first: XLA shares out the rows among the cores of a CPU.
        errors = jnp.sum(jnp.sum(wrong, axis=1))
        return errors, jnp.int32(self.bits)
