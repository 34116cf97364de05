"""MIMO with gains that both sides know: parallel channels by singular values.

    H = U diag(g) V^H,   x = V diag(sqrt p) s,   U^H y = diag(g sqrt p) s + n

With the powers p of water-filling this reaches the capacity of the channel

    C = sum_i log2(1 + p_i g_i^2 snr)

(Telatar, Eur. Trans. Telecommun. 10(6), 1999; Tse and Viswanath, Fundamentals of
Wireless Communication, 2005, section 7.1.1). Conventions are those of
``channels/mimo.py``; all functions take any leading axes.
"""

from typing import NamedTuple

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import masks, roots, water_filling


class Eigenmodes(NamedTuple):
    """``H = U diag(g) V^H``: parallel channels, strongest first.

    Attributes:
      u: orthonormal columns ``[..., Nr, n]``, n = min(Nr, Nt).
      gains: singular values ``[..., n]``, at least 0.
      v: orthonormal columns ``[..., Nt, n]``.
    """

    u: base.Array
    gains: base.Array
    v: base.Array


def eigenmodes(h: base.Array) -> Eigenmodes:
    """Splits a channel that both sides know into parallel ones.

    Args:
      h: gains ``[..., Nr, Nt]``.

    Returns:
      The ``Eigenmodes``. Gains are differentiable while they differ from each other;
      the vectors have a free phase each, so only phase-free functions of them are.
    """
    u, gains, v_adjoint = jnp.linalg.svd(h, full_matrices=False)
    return Eigenmodes(u, gains, v_adjoint.mT.conj())


def precode(s: base.Array, modes: Eigenmodes, powers: base.Array) -> base.Array:
    """Sends each stream along its eigenmode: ``x = V diag(sqrt p) s``.

    Args:
      s: complex streams of unit power ``[..., n]``.
      modes: from ``eigenmodes``.
      powers: p ``[..., n]``, whose sum is 1, such as ``mode_powers`` gives.

    Returns:
      Complex ``[..., Nt]``, ``E sum |x|^2 = 1``.
    """
    return jnp.matvec(modes.v, roots.sqrt(powers) * s)


def combine(y: base.Array, modes: Eigenmodes) -> base.Array:
    """Receives along the eigenmodes: ``U^H y = diag(g sqrt p) s + n``.

    The noise stays white, so that what is left are parallel channels for the one-tap
    ``equalisers``, with gains ``modes.gains * sqrt(powers)``.

    Args:
      y: received ``[..., Nr]``.
      modes: from ``eigenmodes``.

    Returns:
      Complex ``[..., n]``.
    """
    return jnp.matvec(modes.u.mT.conj(), y)


def mode_powers(modes: Eigenmodes, snr: base.Array) -> base.Array:
    """Water-filling over the eigenmodes, of unit power in all.

    Args:
      modes: from ``eigenmodes``.
      snr: linear Es/N0, finite, scalar.

    Returns:
      Powers ``[..., n]``, sum 1.

    Example:
      >>> modes = eigenmodes(jnp.diag(jnp.array([2.0, 1.0, 0.5])))
      >>> [round(p, 3) for p in mode_powers(modes, snr=2.0).tolist()]
      [0.688, 0.312, 0.0]
    """
    return water_filling.powers(snr * masks.abs_square(modes.gains), 1.0)
