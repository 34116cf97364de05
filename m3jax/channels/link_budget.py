"""From transmit power to SNR and joules, item by item, each with its unit."""

import dataclasses

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import numbers, quantities

BOLTZMANN = 1.380649e-23
"""Boltzmann's constant, joules per kelvin (exact in the SI)."""
REFERENCE_TEMPERATURE = 290.0
"""The temperature in kelvin at which noise figures are defined."""


def thermal_noise(
    bandwidth: quantities.Hertz,
    noise_figure: quantities.Db,
    temperature: base.Array = REFERENCE_TEMPERATURE,
) -> quantities.Watt:
    """Noise power of a receiver, referred to its input.

        N = k B (T + (F - 1) T_0),   T_0 = 290 K

    which is the usual ``k T_0 B F``, so -174 dBm/Hz + 10 log10 B + NF, at ``T = T_0``.
    (Pozar, Microwave Engineering, 4th ed., section 10.2.)

    Args:
      bandwidth: B, any shape.
      noise_figure: F; ``Db(0.0)``: a receiver without noise of its own.
      temperature: T of the antenna in kelvin.

    Returns:
      The noise power.

    Raises:
      TypeError: for an argument of another kind.

    Example:
      >>> noise = thermal_noise(quantities.Hertz(1e6), quantities.Db(7.0))
      >>> round(float(noise.to_dbm().value), 1)
      -107.0
    """
    quantities.require(bandwidth, quantities.Hertz, "bandwidth")
    quantities.require(noise_figure, quantities.Db, "noise_figure")
    # Joules of thermal noise are beyond half precision.
    figure = numbers.as_float(noise_figure.value, least=jnp.float32)
    excess = REFERENCE_TEMPERATURE * (quantities.Db(figure).to_ratio() - 1.0)
    return quantities.Joule(BOLTZMANN) * (excess + temperature) * bandwidth


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LinkBudget:
    """The budget of one link, or of many as arrays of one shape.

        P_r = P_t + G_t + G_r - PL - X,   SNR = P_r - N,   SINR = P_r - 10 log10(N + I)

    (in decibels) with one complex symbol per second and hertz, so that the SNR is the
    Es/N0 of every link of this package: ``link(key, values, mask, budget.snr_db)``.
    A pytree, so it passes through ``jit``, ``vmap`` and ``grad`` whole.

    Attributes:
      tx_power: P_t at the antenna port.
      bandwidth: B.
      path_loss: PL, positive.
      tx_gain: G_t of the transmit antenna.
      rx_gain: G_r of the receive antenna.
      shadowing: X, a loss: positive weakens.
      noise_figure: of the receiver.
      interference: I, total power of all interferers at the receiver's input.

    Raises:
      TypeError: for an item of another kind, with its name and the conversion.

    Example:
      >>> budget = LinkBudget(
      ...     tx_power=quantities.Dbm(23.0),
      ...     bandwidth=quantities.Hertz(20e6),
      ...     path_loss=quantities.Db(110.0),
      ...     noise_figure=quantities.Db(7.0),
      ... )
      >>> round(float(budget.snr_db), 2), round(float(budget.snr.value), 2)
      (6.96, 4.97)
    """

    tx_power: quantities.Dbm
    bandwidth: quantities.Hertz
    path_loss: quantities.Db
    tx_gain: quantities.Db = quantities.Db(0.0)
    rx_gain: quantities.Db = quantities.Db(0.0)
    shadowing: quantities.Db = quantities.Db(0.0)
    noise_figure: quantities.Db = quantities.Db(0.0)
    interference: quantities.Watt = quantities.Watt(0.0)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            quantities.require(getattr(self, field.name), field.type, field.name)

    @property
    def received(self) -> quantities.Dbm:
        """Power at the receiver's input, averaged over small-scale fading."""
        gains = self.tx_gain + self.rx_gain
        return self.tx_power + gains - self.path_loss - self.shadowing

    @property
    def noise(self) -> quantities.Watt:
        """Noise power in the band, with the noise figure, at 290 K."""
        return thermal_noise(self.bandwidth, self.noise_figure)

    @property
    def snr(self) -> quantities.Ratio:
        """Signal to noise, linear: Es/N0. Interference does not count."""
        return self._over(self.noise).to_ratio()

    @property
    def sinr(self) -> quantities.Ratio:
        """Signal to noise and interference, linear."""
        return self._over(self.noise + self.interference).to_ratio()

    @property
    def snr_db(self) -> base.Array:
        """``snr`` as a bare array in dB, as links take it."""
        return jnp.asarray(self._over(self.noise).value)

    @property
    def sinr_db(self) -> base.Array:
        """``sinr`` as a bare array in dB; a link takes all of it as noise."""
        return jnp.asarray(self._over(self.noise + self.interference).value)

    @property
    def energy_per_symbol(self) -> quantities.Joule:
        """Energy sent in one channel use, ``P_t / B``, before the antenna gain.

        A link counts energy in units of this: ``out.energy * budget.energy_per_symbol``
        are the joules of one call.
        """
        return self.tx_power.to_w() / self.bandwidth

    def energy_per_bit(self, bits_per_symbol: base.Array) -> quantities.Joule:
        """Energy sent for one bit, ``P_t / (B bits_per_symbol)``.

        Args:
          bits_per_symbol: information bits in a channel use: ``log2 M`` uncoded, times
            the code rate with a code.

        Returns:
          Joules per bit.
        """
        return self.energy_per_symbol / bits_per_symbol

    def describe(self) -> str:
        """The budget as a table, for one link; host only.

        Returns:
          One item a line, with its sign, value and unit.

        Raises:
          ValueError: if an item is not a scalar.
        """
        if any(jnp.ndim(leaf) for leaf in jax.tree.leaves(self)):
            raise ValueError(
                "describe() takes one link; take the i-th of many with "
                "jax.tree.map(lambda item: item[i], budget), items being arrays."
            )
        density = self.noise / self.bandwidth * quantities.Hertz(1.0)
        in_hertz = self.bandwidth / quantities.Hertz(1.0)
        megahertz = f"{float(self.bandwidth.value) / 1e6:g} MHz"
        rows = [
            ("", "transmit power", self.tx_power, "dBm"),
            ("+", "transmit antenna gain", self.tx_gain, "dB"),
            ("+", "receive antenna gain", self.rx_gain, "dB"),
            ("-", "path loss", self.path_loss, "dB"),
            ("-", "shadowing", self.shadowing, "dB"),
            ("=", "received power", self.received, "dBm"),
            ("", "thermal noise", density.to_dbm() - self.noise_figure, "dBm/Hz"),
            ("+", "noise figure", self.noise_figure, "dB"),
            ("+", f"bandwidth of {megahertz}", in_hertz.to_db(), "dBHz"),
            ("=", "noise power", self.noise.to_dbm(), "dBm"),
            ("", "SNR", self.snr.to_db(), "dB"),
        ]
        if self.interference.value > 0.0:
            rows += [
                ("", "interference", self.interference.to_dbm(), "dBm"),
                ("", "SINR", self.sinr.to_db(), "dB"),
            ]
        lines = [
            f"{sign:<2}{name:<23}{float(item.value):9.2f} {unit}"
            for sign, name, item, unit in rows
        ]
        energy = float(self.energy_per_symbol.value)
        return "\n".join([*lines, f"  {'energy per symbol':<23}{energy:9.3g} J"])

    def _over(self, disturbance: quantities.Watt) -> quantities.Db:
        # In decibels throughout: the watts of a far receiver strain float32.
        return self.received - disturbance.to_dbm()
