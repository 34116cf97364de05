"""Packets that arrive whole or not at all."""

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import fading
from m3jax.ops import masks, numbers


class PacketLoss(Protocol):
    """Which packets of one example arrive.

    Attributes:
      rate: information bits per channel use of the code.
    """

    rate: float

    def arrivals(
        self, key: base.Array, num_packets: int, num_uses: int, snr: base.Array
    ) -> base.Array:
        """Bool ``[num_packets]`` for packets of ``num_uses`` channel uses."""


@dataclasses.dataclass(frozen=True)
class IndependentLoss:
    """Each packet is lost with the same probability, whatever the SNR.

    Attributes:
      probability: of a loss, 0 to 1.
      rate: information bits per channel use.

    Raises:
      ValueError: if a setting is out of range.
    """

    probability: float
    rate: float = 1.0

    def __post_init__(self):
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(
                f"loss probability must be from 0 to 1, got {self.probability!r}."
            )
        _check_rate(self.rate)

    def arrivals(
        self, key: base.Array, num_packets: int, num_uses: int, snr: base.Array
    ) -> base.Array:
        """Draws which packets arrive.

        Args:
          key: random key, consumed.
          num_packets: packets of one example.
          num_uses: not used.
          snr: not used.

        Returns:
          bool ``[num_packets]``.
        """
        del num_uses, snr
        return jax.random.uniform(key, (num_packets,)) >= self.probability


@dataclasses.dataclass(frozen=True)
class Outage:
    """A packet is lost where the channel could not carry the rate.

        lost  <=>  1/T sum_t log2(1 + |h_t|^2 snr) < rate

    over the T channel uses of the packet: information outage, which long codes come
    close to (Tse and Viswanath, Fundamentals of Wireless Communication, 2005, sections
    5.4.1 and 5.4.4). Where the gain is constant over a packet and Rayleigh, the
    probability is

        1 - exp(-(2^rate - 1) / snr)

    and gains that outlast a packet lose packets in bursts. Over AWGN every packet
    arrives, or none does.

    Attributes:
      channel: where the gains come from; its state must be the complex gains.
      rate: information bits per channel use.

    Raises:
      ValueError: if a setting makes no sense.

    Example:
      >>> loss = Outage(fading.RayleighBlock(block_length=16), rate=2.0)
      >>> loss.arrivals(jax.random.key(0), 4, 16, snr=2.0).tolist()
      [True, True, False, False]
    """

    channel: base.Channel = fading.RayleighBlock()
    rate: float = 1.0

    def __post_init__(self):
        if not callable(getattr(self.channel, "generate", None)):
            raise ValueError(
                "channel must have generate(), as base.Channel says; got "
                f"{self.channel!r}."
            )
        _check_rate(self.rate)

    def arrivals(
        self, key: base.Array, num_packets: int, num_uses: int, snr: base.Array
    ) -> base.Array:
        """Draws the gains and says which packets arrive.

        Args:
          key: random key, consumed.
          num_packets: packets of one example, sent one after the other.
          num_uses: T, channel uses of a packet.
          snr: linear Es/N0, scalar, averaged over fading.

        Returns:
          bool ``[num_packets]``.
        """
        h = self.channel.generate(key, (num_packets, num_uses))
        nats = jnp.mean(jnp.log1p(masks.abs_square(h) * snr), axis=1)
        # Not "less than": a gain of exactly 0 without noise gives NaN and is a loss.
        return nats >= self.rate * math.log(2.0)


def channel_uses(num_bits: int, rate: float) -> int:
    """Whole channel uses that bits take at a rate: ``ceil(num_bits / rate)``."""
    return numbers.ceil_ratio(num_bits, rate)


def check(loss: Any) -> None:
    """Checks that something says which packets arrive.

    Raises:
      ValueError: if it lacks ``arrivals()`` or a rate.
    """
    if not (callable(getattr(loss, "arrivals", None)) and hasattr(loss, "rate")):
        raise ValueError(
            "loss must have arrivals() and a rate, as packet_loss.Outage; got "
            f"{loss!r}."
        )


def _check_rate(rate: float) -> None:
    if not 0.0 < rate < math.inf:
        raise ValueError(
            f"rate must be positive and finite, in bits per channel use; got {rate!r}."
        )
