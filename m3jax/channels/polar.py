"""Polar codes: construction and encoding; ``channels/polar_decoders.py`` decodes them.

A codeword is ``x = u F^(n)`` over GF(2), ``F = [[1, 0], [1, 1]]`` and ``F^(n)`` its
n-fold Kronecker power without bit reversal, as in 3GPP TS 38.212, section 5.3.1. The
information bits stand at the most reliable places of u, zeros at the others (Arikan,
"Channel polarization", IEEE Trans. Information Theory 55(7), 2009). There is no CRC and
no rate matching: lengths are powers of two.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from m3jax import base

_BETA = 2.0**0.25


@dataclasses.dataclass(frozen=True)
class PolarCode:
    """A polar code; everything about it is static.

    Attributes:
      length: N, coded bits, a power of two.
      positions: where the information bits stand in u, ascending.

    Raises:
      ValueError: for another length, or positions out of range or order.

    Example:
      >>> code = make_polar_code(num_bits=4, length=8)
      >>> code.positions
      (3, 5, 6, 7)
      >>> encode(code, jnp.array([0, 0, 0, 1])).tolist()
      [1, 1, 1, 1, 1, 1, 1, 1]
    """

    length: int
    positions: tuple[int, ...]

    def __post_init__(self):
        if self.length < 2 or self.length & (self.length - 1):
            raise ValueError(
                f"length of a polar code must be a power of two, got {self.length!r}."
            )
        places = self.positions
        if not places or list(places) != sorted(set(places)):
            raise ValueError(f"positions must be ascending, got {places!r}.")
        if places[0] < 0 or places[-1] >= self.length:
            raise ValueError(
                f"positions must be from 0 to {self.length - 1}, got {places!r}."
            )

    @property
    def num_bits(self) -> int:
        """K, information bits."""
        return len(self.positions)

    @property
    def rate(self) -> float:
        """``K / N``."""
        return self.num_bits / self.length


def make_polar_code(num_bits: int, length: int) -> PolarCode:
    """The code that uses the most reliable places.

    Reliability is the polarisation weight, which depends on no SNR:

        w(i) = sum_j b_j(i) beta^j,   beta = 2^(1/4),   i = sum_j b_j(i) 2^j

    He et al., "beta-expansion: a theoretical framework for fast and recursive
    construction of polar codes", IEEE Globecom 2017; the order of 5G (TS 38.212, Table
    5.3.1.2-1) was refined from it.

    Args:
      num_bits: K, information bits, 1 to N.
      length: N, coded bits, a power of two.

    Returns:
      A ``PolarCode``.

    Raises:
      ValueError: if ``num_bits`` or ``length`` is out of range.
    """
    if not 1 <= num_bits <= length:
        raise ValueError(
            f"a polar code of length {length!r} carries 1 to {length!r} bits, got "
            f"{num_bits!r}."
        )
    places = np.arange(length)
    digits = (places[:, None] >> np.arange(length.bit_length())) & 1
    weights = digits @ _BETA ** np.arange(length.bit_length())
    best = np.argsort(weights, kind="stable")[length - num_bits :]
    return PolarCode(length, tuple(sorted(best.tolist())))


def encode(code: PolarCode, bits: base.Array) -> base.Array:
    """Encodes one block.

    Args:
      code: the code.
      bits: ``[K]`` of 0 and 1.

    Returns:
      int32 ``[N]`` of 0 and 1.

    Raises:
      ValueError: if ``bits`` is not ``[K]``.
    """
    if bits.shape != (code.num_bits,):
        raise ValueError(
            f"this polar code takes bits of shape ({code.num_bits},), got "
            f"{bits.shape}; use jax.vmap for a batch."
        )
    u = jnp.zeros(code.length, jnp.int32)
    u = u.at[np.array(code.positions)].set(bits.astype(jnp.int32))
    return transform(u)


def transform(u: base.Array) -> base.Array:
    """``u F^(n)`` over GF(2), by butterflies; its own inverse.

    Args:
      u: int32 ``[..., N]`` of 0 and 1, N a power of two.

    Returns:
      int32 of the same shape.
    """
    length, half = u.shape[-1], 1
    while half < length:
        pairs = u.reshape(*u.shape[:-1], length // (2 * half), 2, half)
        upper, lower = pairs[..., 0, :], pairs[..., 1, :]
        u = jnp.stack([upper ^ lower, lower], axis=-2).reshape(u.shape)
        half *= 2
    return u
