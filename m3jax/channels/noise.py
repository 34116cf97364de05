"""The SNR convention, stated here and nowhere else.

Every channel sends one complex symbol per channel use:

    y = h x + n,   E|x|^2 = 1,   E|h|^2 = 1,   n ~ CN(0, N0),   N0 = 1 / snr

``snr`` is Es/N0: linear, per complex symbol, averaged over fading. A complex symbol
carries two real values, and each of these sees noise of variance N0/2 against a signal
of mean square 1/2, so the SNR per real value is the same ``snr``. ``CN(0, v)`` is the
circular complex normal with ``E|n|^2 = v``. ``snr = inf`` means that the noise is
exactly zero.

Papers and other code state SNRs in other ways. ``Convention`` says which, and converts.
"""

import dataclasses
import math

import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.ops import numbers, random

LEAST_SNR = 1e-18
"""-180 dB: a weaker signal, or none, counts as this strong, and equalisers take it as
no signal at all. Its noise and the slopes of it fit float32."""


@dataclasses.dataclass(frozen=True)
class Convention:
    """How somebody states an SNR, and what it is as Es/N0 per complex symbol.

        stated = (Es a_x / (b r)) / (N0 a_n s),   a = 1 for complex, 1/2 for real

    The settings name what the signal's and the noise's power are counted over; the
    defaults are the convention of this package.

    - Per complex symbol, Es/N0: ``Convention()``.
    - Per real value, its mean square over the variance of its noise:
      ``Convention(signal="real", noise="real")``. The same number as Es/N0.
    - Power of a complex symbol over the variance of *each* real noise, as in
      ``y = x + sigma * (randn(n) + 1j * randn(n))`` with ``sigma^2 = 1 / stated``:
      ``Convention(noise="real")``. Es/N0 is 3 dB less than stated.
    - Mean square of a real value over N0, as in ``y = x + sigma * randn(n)`` with
      ``sigma^2 = 1 / (2 stated)``: ``Convention(signal="real")``. Es/N0 is 3 dB more
      than stated. (Not for BPSK sent alone, whose one axis has all of Es and meets
      N0/2: that is ``Convention()``.)
    - Per bit, Eb/N0: ``Convention(bits_per_symbol=4, code_rate=0.5)``.
    - Per sample, signal over noise in the whole sampled band:
      ``Convention(samples_per_symbol=4)``. White noise fills s times the band of the
      symbols, and the matched filter keeps ``1 / s`` of it.

    Attributes:
      signal: ``"complex"`` or ``"real"``: whose mean square the signal power is.
      noise: ``"complex"`` or ``"real"``: whose variance the noise power is.
      bits_per_symbol: b, coded bits on one complex symbol; 1: SNR per symbol.
      code_rate: r, information bits per coded bit.
      samples_per_symbol: s, the oversampling.

    Raises:
      ValueError: if a setting is out of range.

    Example:
      >>> Convention(bits_per_symbol=4, code_rate=0.5).to_es_n0(10.0)
      20.0
      >>> round(Convention(noise="real").to_es_n0_db(10.0), 2)
      6.99
    """

    signal: str = "complex"
    noise: str = "complex"
    bits_per_symbol: float = 1.0
    code_rate: float = 1.0
    samples_per_symbol: float = 1.0

    def __post_init__(self):
        for name in ("signal", "noise"):
            if getattr(self, name) not in _AXES_SHARE:
                raise ValueError(
                    f"{name} must be one of {tuple(_AXES_SHARE)}, "
                    f"got {getattr(self, name)!r}."
                )
        for name in ("bits_per_symbol", "code_rate", "samples_per_symbol"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be positive and finite, got {getattr(self, name)!r}."
                )
        if self.code_rate > 1.0:
            raise ValueError(f"code_rate must not exceed 1, got {self.code_rate!r}.")

    @property
    def ratio(self) -> float:
        """Es/N0 over the stated SNR, linear."""
        axes = _AXES_SHARE[self.noise] / _AXES_SHARE[self.signal]
        bits = self.bits_per_symbol * self.code_rate
        return axes * bits * self.samples_per_symbol

    def to_es_n0(self, stated: base.Array) -> base.Array:
        """The linear Es/N0 of a stated linear SNR: the ``snr`` of a channel."""
        return stated * self.ratio

    def from_es_n0(self, snr: base.Array) -> base.Array:
        """How this convention states a linear Es/N0, linear."""
        return snr / self.ratio

    def to_es_n0_db(self, stated_db: base.Array) -> base.Array:
        """Es/N0 in dB of a stated SNR in dB: the ``snr_db`` of a link."""
        return stated_db + 10.0 * math.log10(self.ratio)

    def from_es_n0_db(self, snr_db: base.Array) -> base.Array:
        """How this convention states an Es/N0 in dB, in dB."""
        return snr_db - 10.0 * math.log10(self.ratio)


_AXES_SHARE = {"complex": 1.0, "real": 0.5}
"""Share of a circular symbol's or noise's power in what is measured."""


def noise_power(snr: base.Array) -> base.Array:
    """N0 for a linear SNR.

        N0 = 1 / snr

    Args:
      snr: linear Es/N0, any shape; ``inf`` gives 0, and what is below ``LEAST_SNR``,
        0 too, counts as that.

    Returns:
      Noise power per complex symbol, in units of the mean symbol energy.
    """
    return 1.0 / audible(snr)


def audible(snr: base.Array) -> base.Array:
    """An SNR that noise can be computed from: at least ``LEAST_SNR``.

    At 0, which is ``-inf`` dB, the noise would be infinite and all its derivatives NaN.

    Args:
      snr: linear Es/N0, any shape.

    Returns:
      The same, its derivative 0 where it was below; NaN stays NaN.
    """
    return jnp.maximum(numbers.as_float(snr), LEAST_SNR)


def complex_normal(key: base.Array, shape: tuple[int, ...], dtype=None) -> base.Array:
    """Draws circular complex normal numbers CN(0, 1).

    Args:
      key: random key, consumed; of ``random.box_muller`` for other numbers, faster.
      shape: shape of the result.
      dtype: a complex type; by default the widest that is enabled.

    Returns:
      Complex array with ``E|z|^2 = 1``, half of it on each axis. A longer leading axis
      only appends numbers: padding does not change what the valid part meets.
    """
    if dtype is None:
        dtype = jnp.result_type(complex)
    return random.complex_normal(key, shape, dtype)


def add_noise(key: base.Array, x: base.Array, snr: base.Array) -> base.Array:
    """Adds white complex Gaussian noise.

        y = x + n,   n ~ CN(0, 1 / snr)

    Args:
      key: random key, consumed.
      x: complex symbols, any shape, as they arrive (after fading).
      snr: linear Es/N0, scalar or broadcastable to ``x``; ``inf`` adds exact zeros,
        what is below ``LEAST_SNR`` counts as that.

    Returns:
      Complex array of the shape of ``x``. The derivative by ``snr`` is finite for every
      ``snr`` and 0 at ``inf`` and below ``LEAST_SNR``.

    Raises:
      TypeError: if ``x`` is real.
    """
    if not jnp.iscomplexobj(x):
        raise TypeError(
            f"channels carry complex symbols, got {jnp.asarray(x).dtype}; pair real "
            "values first, or send them through a link."
        )
    n = complex_normal(key, x.shape, x.dtype)
    # rsqrt(snr) rather than sqrt(1/snr): the derivative of the latter is NaN at inf.
    std = lax.rsqrt(audible(snr).astype(n.real.dtype))
    return x + std * n
