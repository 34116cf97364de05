"""Channels for bits: the symmetric one flips some, the erasure one loses some.

Both draw one uniform number per bit with ``generate`` and use it with ``carry``, so the
same key meets the same luck at every SNR: what is lost at a high SNR is lost at every
lower one. One bit is one channel use.
"""

import dataclasses
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

from m3jax import base

FADINGS = ("awgn", "rayleigh")


class ArrivedBits(NamedTuple):
    """Bits at the far end.

    Attributes:
      bits: int32 of 0 and 1, any shape; 0 where erased.
      known: bool, same shape, False where erased; None if that cannot happen.
    """

    bits: base.Array
    known: base.Array | None


class BitChannel(Protocol):
    """A memoryless channel for bits."""

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Draws the state for bits of this shape."""

    def carry(
        self, bits: base.Array, state: base.Array, snr: base.Array
    ) -> ArrivedBits:
        """Sends bits; ``snr`` is linear, a traced scalar."""


@dataclasses.dataclass(frozen=True)
class BSC:
    """Binary symmetric channel: a bit is flipped with probability p.

    p is a constant or that of uncoded BPSK with ideal detection, of energy Es a bit
    (Proakis and Salehi, Digital Communications, 5th ed., sections 4.2 and 13.3):

        AWGN       p = Q(sqrt(2 snr))
        Rayleigh   p = (1 - sqrt(snr / (1 + snr))) / 2, a gain of its own for each bit

    Attributes:
      crossover: p, 0 to 1; None: from the SNR.
      fading: ``"awgn"`` or ``"rayleigh"``, for p from the SNR.

    Raises:
      ValueError: if a setting makes no sense.

    Example:
      >>> channel = BSC(crossover=1.0)
      >>> bits = jnp.array([0, 1, 1])
      >>> channel.carry(bits, channel.generate(jax.random.key(0), (3,)), 1.0).bits
      Array([1, 0, 0], dtype=int32)
    """

    crossover: float | None = None
    fading: str = "awgn"

    def __post_init__(self):
        _check_probability(self.crossover, "crossover")
        if self.fading not in FADINGS:
            raise ValueError(
                f"a BSC takes its crossover from the SNR over one of {FADINGS}, got "
                f"{self.fading!r}; or give the crossover itself."
            )

    def probability(self, snr: base.Array) -> base.Array:
        """The crossover p at a linear SNR."""
        if self.crossover is not None:
            return jnp.asarray(self.crossover, float)
        snr = jnp.asarray(snr, float)
        if self.fading == "awgn":
            return 0.5 * special.erfc(jnp.sqrt(snr))
        rest = 1.0 / (1.0 + snr)
        return 0.5 * rest / (1.0 + jnp.sqrt(1.0 - rest))

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Draws one uniform number in (0, 1] for each bit."""
        return 1.0 - jax.random.uniform(key, shape)

    def carry(
        self, bits: base.Array, state: base.Array, snr: base.Array
    ) -> ArrivedBits:
        """Flips the bits whose number is at most p.

        Args:
          bits: int of 0 and 1, any shape.
          state: from ``generate``, same shape.
          snr: linear Es/N0, scalar.

        Returns:
          The bits; no gradient.
        """
        # Asked this way round, a probability of NaN flips all and spares none.
        flips = ~(state > lax.stop_gradient(self.probability(snr)))
        return ArrivedBits(bits ^ flips.astype(jnp.int32), None)


@dataclasses.dataclass(frozen=True)
class BEC:
    """Binary erasure channel: a bit is lost with probability p, and known to be.

    p is a constant or the outage of one bit per channel use over Rayleigh fading, a
    gain of its own for each bit (Tse and Viswanath, Fundamentals of Wireless
    Communication, 2005, section 5.4.1):

        p = P(log2(1 + |h|^2 snr) < 1) = 1 - exp(-1 / snr)

    Attributes:
      erasure: p, 0 to 1; None: from the SNR.

    Raises:
      ValueError: if ``erasure`` is no probability.

    Example:
      >>> round(float(BEC().probability(1.0)), 4)
      0.6321
    """

    erasure: float | None = None

    def __post_init__(self):
        _check_probability(self.erasure, "erasure")

    def probability(self, snr: base.Array) -> base.Array:
        """The erasure probability p at a linear SNR."""
        if self.erasure is not None:
            return jnp.asarray(self.erasure, float)
        return -jnp.expm1(-1.0 / jnp.asarray(snr, float))

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Draws one uniform number in (0, 1] for each bit."""
        return 1.0 - jax.random.uniform(key, shape)

    def carry(
        self, bits: base.Array, state: base.Array, snr: base.Array
    ) -> ArrivedBits:
        """Erases the bits whose number is at most p.

        Args:
          bits: int of 0 and 1, any shape.
          state: from ``generate``, same shape.
          snr: linear Es/N0, scalar.

        Returns:
          The bits and which of them arrived; no gradient.
        """
        known = state > lax.stop_gradient(self.probability(snr))
        return ArrivedBits(jnp.where(known, bits, 0), known)


def _check_probability(value: float | None, name: str) -> None:
    if value is not None and not 0.0 <= value <= 1.0:
        raise ValueError(
            f"{name} must be a probability from 0 to 1, or None to take it from the "
            f"SNR; got {value!r}."
        )
