"""Machines that run experts, and the links that they are reached over; NumPy."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from m3jax.channels import arq, packet_loss
from m3jax.costs import checks, devices, transmission

_MOST_TIMEOUTS = 6


class Sent(NamedTuple):
    """Messages that were sent; arrays of one shape.

    Attributes:
      lost_s: seconds of failed transmissions and of the waits after them.
      air_s: seconds of the last transmission.
      transmissions: how many there were; 0 where there was no message.
    """

    lost_s: np.ndarray
    air_s: np.ndarray
    transmissions: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        """From the first bit sent to the last bit received."""
        return self.lost_s + self.air_s


@dataclasses.dataclass(frozen=True)
class Link:
    """A link between server and worker.

    Attributes:
      down_bits_per_s: rate to the worker.
      up_bits_per_s: rate back.
      jitter: standard deviation of the logarithm of a transmission's time, whose mean
        stays.
      failures: f_k, probability that a token is not there after k + 1 transmissions,
        as of ``arq.repeated`` or ``arq.chase_rayleigh``; none without loss. See
        ``lossy``.
      feedback_s: from a lost transmission to the next.
      timeout_s: from giving up to sending anew; it doubles each time.
      fading_snr_db: mean SNR of a link that fades in Rayleigh blocks, one for each
        message: its rate is the nominal one, times what ``transmission.rate`` is at
        the block's gain over what it is at gain 1. inf: it does not fade.

    Raises:
      ValueError: a number makes no sense.
    """

    down_bits_per_s: float
    up_bits_per_s: float
    jitter: float = 0.0
    failures: Sequence[float] = ()
    feedback_s: float = 1e-3
    timeout_s: float = 0.2
    fading_snr_db: float = math.inf

    def __post_init__(self):
        for name in ("down_bits_per_s", "up_bits_per_s"):
            checks.number("link", name, getattr(self, name))
        for name in ("jitter", "feedback_s", "timeout_s"):
            checks.number("link", name, getattr(self, name), least=0.0)
        for failure in self.failures:
            checks.number("link", "failures", float(failure), least=0.0, most=1.0)

    def send(
        self, rng: np.random.Generator, bits: np.ndarray | float, bits_per_s: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The seconds of `transmit`: lost to failed transmissions, and of the last."""
        return self.transmit(rng, bits, bits_per_s)[:2]

    def transmit(
        self, rng: np.random.Generator, bits: np.ndarray | float, bits_per_s: float
    ) -> Sent:
        """Sends messages, each drawn for itself.

        Args:
          rng: of jitter, fading and losses.
          bits: of each message, any shape; one of 0 bits is none, and takes no time.
          bits_per_s: nominal rate.

        Returns:
          A `Sent` of the shape of ``bits``.
        """
        bits = np.asarray(bits, float)
        air = bits / bits_per_s * self._stretch(rng, bits.shape)
        waits = bits > 0.0
        lost, count = np.zeros(bits.shape), np.where(waits, 1, 0)
        failures = np.asarray(self.failures, float)
        for again in range(_MOST_TIMEOUTS if len(failures) else 0):
            draw = rng.uniform(size=bits.shape)
            failed = waits * np.sum(draw[..., None] < failures, axis=-1)
            # What arq.ARQ.seconds says, of the transmissions but the last one.
            waits = waits & (failed == len(failures))
            lost = lost + failed * (air + self.feedback_s)
            lost = lost + waits * (self.timeout_s * 2**again - self.feedback_s)
            count = count + failed
            if not waits.any():
                break
        return Sent(lost, air, count)

    def _stretch(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> np.ndarray | float:
        """How much longer messages take than at the nominal rate."""
        stretch = 1.0
        if self.jitter:
            spread = self.jitter * rng.normal(size=shape)
            stretch = np.exp(spread - 0.5 * self.jitter**2)
        if np.isfinite(self.fading_snr_db):
            snr = 10.0 ** (self.fading_snr_db / 10.0)
            faded = np.log2(1.0 + snr * rng.exponential(size=shape))
            least = transmission.LEAST_EFFICIENCY
            stretch = stretch * np.log2(1.0 + snr) / np.maximum(faded, least)
        return stretch


def in_outage(link: Link, snr: float, rate: float, most: int = 4) -> Link:
    """The link with Rayleigh fading that changes with each transmission.

    The rate is fixed, and copies are combined: ``arq.chase_rayleigh``.

    Args:
      link: to change.
      snr: linear mean Es/N0 of a transmission.
      rate: bits a symbol.
      most: transmissions.
    """
    failures = np.asarray(arq.chase_rayleigh(snr, rate, most), float)
    return dataclasses.replace(link, failures=tuple(failures.tolist()))


def lossy(link: Link, loss: packet_loss.IndependentLoss, most: int = 4) -> Link:
    """The link with packets that are lost independently, and so many transmissions."""
    failures = np.asarray(arq.repeated(loss.probability, most), float)
    return dataclasses.replace(link, failures=tuple(failures.tolist()))


@dataclasses.dataclass(frozen=True)
class Worker:
    """Who runs experts.

    Attributes:
      name: of it.
      token_s: seconds that it computes for a token, F / C.
      link: to the server; None is the server itself.
    """

    name: str
    token_s: float
    link: Link | None = None

    def __post_init__(self):
        checks.number(f"worker {self.name!r}", "token_s", self.token_s, least=0.0)


def server_and_devices(
    flops: float, bits_per_s: Sequence[float] = (80e6, 80e6, 80e6, 80e6), **link
) -> list[Worker]:
    """Eight workers as in WDMoE's testbed: four on the server, four devices.

    The server has four A40, one for each of its experts; the devices are two Jetson AGX
    Orin, a Jetson Xavier NX and an RTX 4070 Ti. What the links carry is not said.

    Args:
      flops: operations of an expert for a token.
      bits_per_s: of the four links, the same both ways.
      **link: of all four links, such as ``jitter=0.3``.
    """
    remote = (
        devices.JETSON_AGX_ORIN_64GB,
        devices.JETSON_AGX_ORIN_64GB,
        devices.JETSON_XAVIER_NX,
        devices.RTX_4070_TI,
    )
    server = Worker("server", flops / devices.A40.usable_flops_per_s)
    return [server] * 4 + [
        Worker(one.name, flops / one.usable_flops_per_s, Link(rate, rate, **link))
        for one, rate in zip(remote, bits_per_s, strict=True)
    ]
