"""Channel state information (CSI): what the receiver knows of the gains.

A CSI object is asked once per example, after the gains are drawn:

    estimate(key, h, snr) -> Estimate(h, error_variance)

and the equalisers take the answer in place of the gains. ``mmse`` takes the error
variance too, so that it trusts a poor estimate less.
"""

import dataclasses
import math
import numbers
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.channels import blocks, noise
from m3jax.ops import units

ESTIMATORS = ("lmmse", "ls")


class Estimate(NamedTuple):
    """The gains as the receiver sees them.

    Attributes:
      h: complex, of the shape of the gains.
      error_variance: real scalar, what the receiver takes for ``E|h - h_hat|^2``.
    """

    h: base.Array
    error_variance: base.Array


@dataclasses.dataclass(frozen=True)
class PerfectCSI:
    """The receiver knows the gains exactly.

    Example:
      >>> import jax
      >>> h = jnp.array([1.0 + 1.0j])
      >>> known = PerfectCSI().estimate(jax.random.key(0), h, snr=10.0)
      >>> bool((known.h == h).all()), float(known.error_variance)
      (True, 0.0)
    """

    def estimate(self, key: base.Array, h: base.Array, snr: base.Array) -> Estimate:
        """Returns the gains themselves and an error variance of 0.

        Args:
          key: not used.
          h: complex gains, any shape.
          snr: not used.
        """
        del key, snr
        return Estimate(h, jnp.zeros((), h.real.dtype))


@dataclasses.dataclass(frozen=True)
class PilotCSI:
    """The receiver estimates the gains from pilots, one set of them per block.

    A set is ``P`` known symbols of unit power, sent over the gain of its block. Their
    matched filter is the least-squares (LS) estimate; the linear one of least mean
    square error (LMMSE) leans it towards zero (Kay, Fundamentals of Statistical Signal
    Processing I, 1993, section 12.3):

        h_ls = h + e,   e ~ CN(0, v),   v = 1 / (P snr_p)
        h_lmmse = h_ls / (1 + v),   E|h - h_lmmse|^2 = v / (1 + v)

    The latter needs ``E|h|^2 = 1`` and nothing else of the fading; if this is Rayleigh
    it is the conditional mean, its error is independent of it, and ``equalisers.mmse``
    given both is again the best linear receiver.

    A block is a run of equal gains, in the order of the flattened symbols: the estimate
    is constant where the gain is. So the object fits any block length with no setting
    of its own, and gains that change with every symbol get pilots with every symbol.

    Attributes:
      pilot_snr_db: Es/N0 of one pilot symbol in dB, whatever the SNR of the data; None:
        the pilots have the SNR of the data, for any SNR it is called with.
      num_pilots: P, pilot symbols per block.
      estimator: ``"lmmse"`` or ``"ls"``.

    Raises:
      ValueError: if a setting is out of range.

    Example:
      >>> import jax
      >>> h = jnp.ones((4,), complex)
      >>> known = PilotCSI(num_pilots=4).estimate(jax.random.key(0), h, snr=1.0)
      >>> round(float(known.error_variance), 3), bool((known.h == known.h[0]).all())
      (0.2, True)
    """

    pilot_snr_db: float | None = None
    num_pilots: int = 1
    estimator: str = "lmmse"

    def __post_init__(self):
        snr_db, num_pilots = self.pilot_snr_db, self.num_pilots
        is_number = isinstance(snr_db, numbers.Real) and snr_db > -math.inf
        if snr_db is not None and not is_number:
            raise ValueError(
                f"pilot_snr_db must be a number above -inf in dB, or None for the SNR "
                f"of the data; got {snr_db!r}."
            )
        if not (type(num_pilots) is int and num_pilots > 0):
            raise ValueError(
                f"num_pilots must be a positive integer, got {num_pilots}."
            )
        if self.estimator not in ESTIMATORS:
            raise ValueError(
                f"estimator must be one of {ESTIMATORS}, got {self.estimator!r}."
            )

    def estimate(self, key: base.Array, h: base.Array, snr: base.Array) -> Estimate:
        """Estimates the gains.

        Args:
          key: random key of the noise on the pilots, consumed.
          h: complex gains, any shape.
          snr: linear Es/N0 of the data, scalar; ``inf`` gives the gains exactly.

        Returns:
          The estimate and its error variance. Gradients by ``h`` and ``snr`` are exact.
        """
        if self.pilot_snr_db is not None:
            snr = units.db_to_lin(self.pilot_snr_db)
        pilot_energy = self.num_pilots * noise.audible(snr).astype(h.real.dtype)
        e = noise.complex_normal(key, (h.size,), h.dtype)[blocks.run_index(h)]
        # rsqrt and not the root of 1 / snr, whose derivative is NaN at inf.
        h_ls = h + lax.rsqrt(pilot_energy) * e.reshape(h.shape)
        v = 1.0 / pilot_energy
        if self.estimator == "ls":
            return Estimate(h_ls, v)
        return Estimate(h_ls / (1.0 + v), v / (1.0 + v))


@dataclasses.dataclass(frozen=True)
class NoCSI:
    """The receiver knows nothing of the gains and takes them for one.

    The equalisers then hand on what arrived, scaled by a constant. Over AWGN this is
    all there is to know. Over Rayleigh fading the phase is lost: given ``x`` and no
    gain, ``y ~ CN(0, |x|^2 + N0)``, so within one use only the power of a symbol tells
    something, and hard decisions on QAM are guesses. What is left is for a learned
    receiver: powers, ratios of symbols that share a block, or tokens that serve as
    pilots. The error variance is given as 0, which is this receiver's belief and not
    the truth: ``E|h - 1|^2 = 2`` over Rayleigh fading.

    Example:
      >>> import jax
      >>> h = jnp.array([1j, -1j])
      >>> NoCSI().estimate(jax.random.key(0), h, snr=10.0).h.tolist()
      [(1+0j), (1+0j)]
    """

    def estimate(self, key: base.Array, h: base.Array, snr: base.Array) -> Estimate:
        """Returns gains of one and an error variance of 0.

        Args:
          key: not used.
          h: complex gains, for their shape.
          snr: not used.
        """
        del key, snr
        return Estimate(jnp.ones_like(h), jnp.zeros((), h.real.dtype))


CSI = PerfectCSI | PilotCSI | NoCSI
