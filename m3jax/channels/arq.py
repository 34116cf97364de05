"""Automatic repeat request (ARQ): what retransmissions cost in time, and what they buy.

A scheme is described by its failures

    f_k = P(the block is not decoded after k + 1 transmissions),   k = 0 ... K-1

which never increase; K is the largest number of transmissions, after which the block is
given up. ``repeated`` gives them for plain ARQ, ``chase`` and ``chase_rayleigh`` for
hybrid ARQ with Chase combining. Everything else follows from them:

    E[transmissions] = 1 + f_0 + ... + f_{K-2},   P(delivered) = 1 - f_{K-1}
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import special

from m3jax import base
from m3jax.channels import capacity
from m3jax.ops import numbers

_LEAST_SNR = 1e-12


class Expected(NamedTuple):
    """Expectations over blocks.

    Attributes:
      transmissions: mean number for a block, delivered or given up; from 1 to K.
      delivered: probability that the block is decoded at last.
      latency: mean seconds until the block is decoded or given up.
      delivered_latency: mean seconds until decoding, of the delivered blocks; that of K
        transmissions where none is delivered.
      throughput: delivered blocks per second of a stop-and-wait sender.
    """

    transmissions: base.Array
    delivered: base.Array
    latency: base.Array
    delivered_latency: base.Array
    throughput: base.Array


class Outcome(NamedTuple):
    """What happened to simulated blocks; all of the shape that was asked for.

    Attributes:
      transmissions: int32, from 1 to K.
      delivered: bool.
      latency: seconds until the block was decoded or given up.
    """

    transmissions: base.Array
    delivered: base.Array
    latency: base.Array


@dataclasses.dataclass(frozen=True)
class ARQ:
    """The timing of a repeat request protocol.

    A transmission takes ``transmission_slots``; before the next one, the sender waits
    ``feedback_slots`` for the answer. So t transmissions take
    ``t transmission_slots + (t - 1) feedback_slots`` until the block is decoded, and
    occupy a stop-and-wait sender for one ``feedback_slots`` more.

    Attributes:
      transmission_slots: slots on the air.
      feedback_slots: slots from the end of a transmission to the next possible one.
      slot_seconds: length of a slot; 0.5 ms is that of 5G at 30 kHz spacing. With 1,
        all times are in slots.

    Raises:
      ValueError: if a length is out of range.

    Example:
      >>> arq = ARQ(transmission_slots=1, feedback_slots=3, slot_seconds=1e-3)
      >>> expected = arq.expect(repeated(0.1, max_transmissions=2))
      >>> [round(float(v), 4) for v in expected[:3]]
      [1.1, 0.99, 0.0014]
    """

    transmission_slots: float = 1.0
    feedback_slots: float = 3.0
    slot_seconds: float = 0.5e-3

    def __post_init__(self):
        if self.transmission_slots <= 0 or self.slot_seconds <= 0:
            raise ValueError(
                "transmission_slots and slot_seconds must be positive, got "
                f"{self.transmission_slots!r} and {self.slot_seconds!r}."
            )
        if self.feedback_slots < 0:
            raise ValueError(
                f"feedback_slots must not be negative, got {self.feedback_slots!r}."
            )

    def seconds(self, transmissions: base.Array) -> base.Array:
        """Seconds from the start of the first to the end of the last transmission."""
        transmissions = numbers.as_float(transmissions)
        waits = (transmissions - 1) * self.feedback_slots
        return self.slot_seconds * (transmissions * self.transmission_slots + waits)

    def expect(self, failures: base.Array) -> Expected:
        """Expectations in closed form.

        Args:
          failures: ``[K]``, f.

        Returns:
          ``Expected``, scalars, differentiable by the failures.
        """
        numbers.require_some(failures, "failures")
        failures = numbers.as_float(failures)
        reached = jnp.concatenate([jnp.ones_like(failures[:1]), failures[:-1]])
        transmissions = jnp.sum(reached)
        delivered = 1.0 - failures[-1]
        count = jnp.arange(1, failures.shape[0] + 1)
        ended = jnp.sum((reached - failures) * self.seconds(count))
        never = delivered <= 0.0
        safe = jnp.where(never, 1.0, delivered)
        latency = jnp.where(never, self.seconds(count[-1]), ended / safe)
        occupied = self.seconds(transmissions) + self.slot_seconds * self.feedback_slots
        return Expected(
            transmissions=transmissions,
            delivered=delivered,
            latency=self.seconds(transmissions),
            delivered_latency=latency,
            throughput=delivered / occupied,
        )

    def simulate(
        self, key: base.Array, failures: base.Array, shape: tuple[int, ...] = ()
    ) -> Outcome:
        """Draws blocks.

        One uniform number u decides each block: it has failed t times if
        ``u < f_{t-1}``.

        Args:
          key: random key, consumed.
          failures: ``[K]``, f.
          shape: of the blocks.

        Returns:
          ``Outcome``, without gradient.
        """
        failures = numbers.as_float(failures)
        draw = jax.random.uniform(key, (*shape, 1), failures.dtype)
        failed = ~(draw >= failures)  # NaN delivers nothing
        again = jnp.sum(failed[..., :-1], axis=-1, dtype=jnp.int32)
        return Outcome(1 + again, ~failed[..., -1], self.seconds(1 + again))


def repeated(block_error: base.Array, max_transmissions: int) -> base.Array:
    """Plain ARQ: each transmission is decoded alone, ``f_k = e^(k + 1)``.

    Args:
      block_error: e of one transmission, scalar; independent each time.
      max_transmissions: K.

    Returns:
      Failures ``[K]``.
    """
    _check_count(max_transmissions)
    block_error = numbers.as_float(block_error)
    return jnp.cumprod(jnp.broadcast_to(block_error, (max_transmissions,)))


def chase(
    block_error_fn: Callable[[base.Array], base.Array],
    snr: base.Array,
    max_transmissions: int,
) -> base.Array:
    """Chase combining on a constant channel: k + 1 copies add their SNRs.

        f_k = e((k + 1) snr)

    Chase, "Code combining", IEEE Trans. Communications 33(5), 1985. A block that fails
    with more copies is taken to have failed with fewer.

    Args:
      block_error_fn: e, from linear SNR, a scalar, to block error probability; it must
        not increase.
      snr: linear Es/N0 of one transmission, scalar.
      max_transmissions: K.

    Returns:
      Failures ``[K]``.
    """
    _check_count(max_transmissions)
    copies = jnp.arange(1, max_transmissions + 1)
    return jax.vmap(block_error_fn)(numbers.as_float(snr) * copies)


def chase_rayleigh(
    snr: base.Array, rate: base.Array, max_transmissions: int
) -> base.Array:
    """Chase combining over Rayleigh fading that changes with each transmission.

        f_k = P[log2(1 + snr sum_{i<=k} |h_i|^2) < R]
            = gamma(k + 1, (2^R - 1) / snr) / k!

    an ideal code's outage; the sum of gains is Erlang distributed. Caire and Tuninetti,
    "The throughput of hybrid-ARQ protocols for the Gaussian collision channel", IEEE
    Trans. Information Theory 47(5), 2001.

    Args:
      snr: linear mean Es/N0 of one transmission, scalar.
      rate: R of the first transmission, bits per complex symbol, scalar.
      max_transmissions: K.

    Returns:
      Failures ``[K]``.

    Example:
      >>> [round(float(f), 3) for f in chase_rayleigh(1.0, 1.0, max_transmissions=2)]
      [0.632, 0.264]
    """
    _check_count(max_transmissions)
    needed = capacity.shannon_snr(rate) / jnp.maximum(snr, _LEAST_SNR)
    copies = jnp.arange(1, max_transmissions + 1, dtype=jnp.result_type(float, needed))
    return special.gammainc(copies, needed)


def _check_count(max_transmissions: int) -> None:
    if max_transmissions < 1:
        raise ValueError(
            f"max_transmissions must be at least 1, got {max_transmissions!r}."
        )
