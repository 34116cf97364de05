"""Machines that run experts, and the links that they are reached over; NumPy."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from m3jax.channels import arq, packet_loss
from m3jax.costs import checks, devices

_MOST_TIMEOUTS = 6


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

    Raises:
      ValueError: a number makes no sense.
    """

    down_bits_per_s: float
    up_bits_per_s: float
    jitter: float = 0.0
    failures: Sequence[float] = ()
    feedback_s: float = 1e-3
    timeout_s: float = 0.2

    def __post_init__(self):
        for name in ("down_bits_per_s", "up_bits_per_s"):
            checks.number("link", name, getattr(self, name))
        for name in ("jitter", "feedback_s", "timeout_s"):
            checks.number("link", name, getattr(self, name), least=0.0)
        for failure in self.failures:
            checks.number("link", "failures", float(failure), least=0.0, most=1.0)

    def send(
        self, rng: np.random.Generator, bits: float, bits_per_s: float
    ) -> tuple[float, float]:
        """Seconds lost to failed transmissions, and seconds of the last one."""
        air = bits / bits_per_s
        if self.jitter:
            air *= np.exp(self.jitter * rng.normal() - 0.5 * self.jitter**2)
        lost, failures = 0.0, self.failures
        if len(failures):
            timing = arq.ARQ(max(air, 1e-12), self.feedback_s, slot_seconds=1.0)
            for again in range(_MOST_TIMEOUTS):
                failed = int(np.sum(rng.uniform() < np.asarray(failures)))
                if failed < len(failures):
                    return lost + timing.seconds(failed + 1) - air, air
                lost += timing.seconds(failed) + self.timeout_s * 2**again
        return lost, air


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
