"""Flat Rayleigh fading that changes slowly, as terminals or scatterers move.

Two models of one thing. ``Jakes`` has the spectrum of the textbooks: waves from all
directions, autocorrelation J0. ``GaussMarkov`` keeps only the correlation between
neighbours: cheaper, and a Markov chain, which is what trackers and agents want. The
functions below turn a speed into the parameters of both.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.channels import blocks, fading, noise, path_loss
from m3jax.ops import bessel, roots


def from_speed(
    speed: base.Array, carrier: base.Array, symbol_time: base.Array
) -> base.Array:
    """Doppler shift in cycles per channel use.

        f_d T = v f_c T / c

    Args:
      speed: v in m/s.
      carrier: f_c in Hz.
      symbol_time: T in s, of one channel use.

    Returns:
      The greatest Doppler shift, normalised: ``doppler`` of ``Jakes``.

    Example:
      >>> round(from_speed(speed=30.0, carrier=3.5e9, symbol_time=71.4e-6), 4)
      0.025
    """
    return speed * carrier * symbol_time / path_loss.LIGHT_SPEED


def correlation(doppler: base.Array, lag: base.Array = 1.0) -> base.Array:
    """Autocorrelation of fading with scatterers all around, by Clarke's model.

        E[h_{t + d} conj(h_t)] = J0(2 pi f_d T d)

    (Goldsmith, Wireless Communications, 2005, section 3.2.1.) With ``lag`` the block
    length this is the ``correlation`` of a ``GaussMarkov`` that matches ``Jakes``
    between neighbouring blocks.

    Args:
      doppler: ``f_d T``, cycles per channel use.
      lag: d in channel uses.

    Returns:
      Real correlation in [-0.41, 1], broadcast shape.

    Example:
      >>> round(float(correlation(doppler=0.01, lag=10)), 3)
      0.904
    """
    return bessel.j0(2.0 * jnp.pi * jnp.asarray(doppler) * lag)


@dataclasses.dataclass(frozen=True)
class GaussMarkov(fading.FlatFading):
    """Rayleigh fading whose gain moves a little from block to block (AR(1)).

        h_0 ~ CN(0, 1),   h_{b+1} = r h_b + sqrt(1 - r^2) w_b,   w_b ~ CN(0, 1)

    so that every ``h_b ~ CN(0, 1)`` and ``E[h_{b+k} conj(h_b)] = r^k``.

    Attributes:
      correlation: r, a number in [-1, 1]; 0 is ``RayleighBlock``, 1 is one gain per
        example. Inside of a traced function also a traced scalar: the gains are
        differentiable by it for ``|r| < 1``.
      block_length: channel uses per block.

    Raises:
      ValueError: if a setting is out of range.

    Example:
      >>> h = GaussMarkov(correlation=0.9999).generate(jax.random.key(0), (2, 3))
      >>> h.shape, bool(jnp.abs(h - h[0, 0]).max() < 0.1)
      ((2, 3), True)
    """

    correlation: float
    block_length: int = 1

    def __post_init__(self):
        fading.check_number("correlation", self.correlation, -1.0, 1.0)
        blocks.check_length(self.block_length)

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Draws the gains.

        Args:
          key: random key, consumed.
          shape: shape of the symbols of one example.

        Returns:
          Complex gains of this shape, ``E|h|^2 = 1``.
        """
        w = noise.complex_normal(key, (blocks.count(shape, self.block_length),))
        r = jnp.asarray(self.correlation, w.real.dtype)
        steps = w.at[1:].multiply(roots.sqrt((1.0 - r) * (1.0 + r)))
        gains = _accumulate(steps, r)
        return blocks.spread(gains, self.block_length, shape)


@dataclasses.dataclass(frozen=True)
class Jakes(fading.FlatFading):
    """Rayleigh fading with Clarke's Doppler spectrum, as a sum of sinusoids.

        h_t = N^(-1/2) sum_n exp(j (2 pi f_d T t cos a_n + p_n)),
        a_n = (2 pi n + u_n) / N,   u_n, p_n ~ U(-pi, pi),   n = 1 ... N

    (Xiao, Zheng and Beaulieu, IEEE Trans. Wireless Commun. 5(12), 2006, section II.)
    Since angles are random within their sectors, ``E[h_{t+d} conj(h_t)]`` is exactly
    ``J0(2 pi f_d T d)`` for every N, over draws. Gains tend to normal ones as N grows:
    ``E|h|^4 = 2 - 1 / N``. Angles and phases are drawn once per example.

    Attributes:
      doppler: ``f_d T``, cycles per channel use, at least 0 (``from_speed``). Inside of
        a traced function also a traced scalar, by which the gains are differentiable.
      block_length: channel uses over which the gain is held, at its value at the start.
      num_paths: N; the cost grows with it.

    Raises:
      ValueError: if a setting is out of range.

    Example:
      >>> h = Jakes(doppler=0.001).generate(jax.random.key(0), (2, 3))
      >>> h.shape, bool(jnp.abs(h - h[0, 0]).max() < 0.1)
      ((2, 3), True)
    """

    doppler: float
    block_length: int = 1
    num_paths: int = 32

    def __post_init__(self):
        fading.check_number("doppler", self.doppler, 0.0, math.inf)
        blocks.check_length(self.block_length)
        if not (type(self.num_paths) is int and self.num_paths > 0):
            raise ValueError(
                f"num_paths must be a positive integer, got {self.num_paths!r}."
            )

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Draws the gains.

        Args:
          key: random key, consumed.
          shape: shape of the symbols of one example.

        Returns:
          Complex gains of this shape, ``E|h|^2 = 1``.
        """
        u, turns = jax.random.uniform(key, (2, self.num_paths), minval=-0.5, maxval=0.5)
        sectors = (jnp.arange(self.num_paths, dtype=u.dtype) + u) / self.num_paths
        shifts = self.doppler * jnp.cos(2.0 * jnp.pi * sectors)
        num_blocks = blocks.count(shape, self.block_length)
        t = self.block_length * jnp.arange(num_blocks, dtype=u.dtype)
        phases = 2.0 * jnp.pi * (t[:, None] * shifts + turns)
        gains = jnp.sum(lax.complex(jnp.cos(phases), jnp.sin(phases)), axis=1)
        gains *= 1.0 / math.sqrt(self.num_paths)
        return blocks.spread(gains, self.block_length, shape)


def _accumulate(steps: base.Array, r: base.Array) -> base.Array:
    """Runs ``h_b = r h_{b-1} + steps_b`` from ``h_{-1} = 0``, by doubling.

    Each round joins twice as long a past: parallel, and unlike a scan over pairs it
    rounds the start of a sequence alike whatever its length.
    """
    gains, span = steps, 1
    while span < steps.size:
        gains += r * jnp.pad(gains[:-span], (span, 0))
        r, span = r * r, 2 * span
    return gains
