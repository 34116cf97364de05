"""Bits of tokens from end to end: through a modem, or over a bit channel."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from m3jax import base
from m3jax.channels import bit_channels, equalisers, modulation
from m3jax.channels import bits as bits_lib
from m3jax.channels import csi as csi_lib
from m3jax.channels.links import contract, transmission
from m3jax.ops import masks


class Delivered(NamedTuple):
    """Bits at the receiver and what they cost.

    Attributes:
      bits: int32 ``[L, N]`` of 0 and 1.
      known: bool ``[L, N]``, False where the receiver knows that it has no bit; None
        where nothing is ever erased.
      uses_per_token: channel uses of the data of a token.
      pilot_uses: int32 scalar, channel uses of all pilots.
      energy: float scalar in joules, of data and pilots.
    """

    bits: base.Array
    known: base.Array | None
    uses_per_token: int
    pilot_uses: base.Array | int
    energy: base.Array


@dataclasses.dataclass(frozen=True)
class BitPipe:
    """Sends the bits of tokens, uncoded, with hard decisions.

    Through a modem a token's bits fill whole symbols (the last one is filled up with
    zero bits), so tokens never share a symbol and padding costs nothing. Bits are
    scrambled by a fixed sequence, which makes them as good as equally likely: so the
    constellation keeps its unit mean energy. The energy really sent is counted.

    Over a ``BSC`` or ``BEC`` a bit is one channel use of energy Es.

    Attributes:
      channel: a channel for symbols, or a bit channel.
      qam_order: of the modem, one of ``modulation.ORDERS``.
      csi: what the modem's receiver knows of the gains.
      symbol_energy: Es in joules.
    """

    channel: base.Channel | bit_channels.BitChannel
    qam_order: int
    csi: csi_lib.CSI
    symbol_energy: float

    def __post_init__(self):
        contract.check_energy(self.symbol_energy)
        if not self._is_bit_channel:
            transmission.check(self.channel, self.csi)
            modulation.bits_per_symbol(self.qam_order)

    def send(
        self, key: base.Array, bits: base.Array, mask: base.Array, snr: base.Array
    ) -> Delivered:
        """Sends the bits of one example.

        Args:
          key: random key, consumed.
          bits: int ``[L, N]`` of 0 and 1.
          mask: bool ``[L]``, True where a token is sent.
          snr: linear Es/N0.

        Returns:
          What is ``Delivered``; no gradient reaches it.
        """
        if self._is_bit_channel:
            return self._carry(key, bits, mask, snr)
        return self._through_modem(key, bits, mask, snr)

    @property
    def _is_bit_channel(self) -> bool:
        return callable(getattr(self.channel, "carry", None))

    def _carry(self, key, bits, mask, snr) -> Delivered:
        state = self.channel.generate(key, bits.shape)
        arrived, known = self.channel.carry(bits, state, snr)
        num_tokens = jnp.sum(jnp.asarray(mask).astype(bool), dtype=float)
        energy = self.symbol_energy * bits.shape[1] * num_tokens
        return Delivered(arrived, known, bits.shape[1], 0, energy)

    def _through_modem(self, key, bits, mask, snr) -> Delivered:
        x = masks.keep(self._modulate(bits), mask)
        received = transmission.transmit(
            key, x, mask, snr, self.channel, self.csi, self.symbol_energy
        )
        x_hat = equalisers.zero_forcing(received.y, received.known.h)
        arrived = bits_lib.scramble(modulation.demodulate(x_hat, self.qam_order))
        return Delivered(
            bits=arrived.reshape(len(bits), -1)[:, : bits.shape[1]],
            known=None,
            uses_per_token=x.shape[1],
            pilot_uses=received.pilot_uses,
            energy=received.energy,
        )

    def _modulate(self, bits: base.Array) -> base.Array:
        """Bits ``[L, N]`` to complex symbols ``[L, S]``."""
        per_symbol = modulation.bits_per_symbol(self.qam_order)
        fill = -bits.shape[1] % per_symbol
        bits = jnp.pad(bits, ((0, 0), (0, fill)))
        bits = bits.reshape(len(bits), -1, per_symbol)
        return modulation.modulate(bits_lib.scramble(bits), self.qam_order)
