"""The cell of WDMoE: its expert networks, its devices, and their draws of the channel.

What the paper leaves open is a setting: noise -174 dBm/Hz, distances uniform in 20 to
200 m, ``h ~ CN(0, 10^(-PL/10))``, whose square is the power gain, C_k of the devices.
"""

import dataclasses

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.costs import checks, devices
from m3jax.ops import units

ALIKE = (10e12,) * 8
"""Eight devices of 10 TFLOP/s each."""
MIXED = (
    *(devices.JETSON_AGX_ORIN_64GB.usable_flops_per_s,) * 2,
    devices.JETSON_XAVIER_NX.usable_flops_per_s,
    devices.RTX_4070_TI.usable_flops_per_s,
) * 2
"""The four devices of the paper's testbed, twice."""


@dataclasses.dataclass
class Expert:
    """An expert network, as it counts for costs.

    Attributes:
      width: m, of a token's embedding.
      hidden: m_h.
      bits: epsilon, of a number that is sent.
      activation_flops: eta, operations of the activation function for a number.
    """

    width: int
    hidden: int
    bits: int = 16
    activation_flops: float = 5.0

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for field in dataclasses.fields(self):
            checks.number("expert", field.name, getattr(self, field.name))

    @property
    def payload_bits(self) -> int:
        """Bits of a token one way, ``epsilon m`` (equation 4)."""
        return self.bits * self.width

    @property
    def flops(self) -> float:
        """Operations for a token (equation 5).

            4 m m_h + 2 m_h m + eta m_h + m_h

        Example:
          >>> mixtral().flops, mixtral().payload_bits
          (352407552.0, 65536)
        """
        m, h = self.width, self.hidden
        return 4.0 * m * h + 2.0 * h * m + self.activation_flops * h + h


def mixtral() -> Expert:
    """Of Mixtral 8x7B (arXiv:2401.04088)."""
    return Expert(width=4096, hidden=14336)


@dataclasses.dataclass
class Cell:
    """A base station and its devices; the defaults are those of section V-A.

    Plain and mutable, so that the command line can override a field.

    Attributes:
      flops_per_s: C_k of each of the K devices, such as `ALIKE` or `MIXED`.
      bandwidth_hz: B of all.
      carrier_hz: f.
      down_power_w: of the base station for each device.
      up_power_w: of a device.
      shared_power: whether the base station shares its power evenly among the devices
        instead; the paper's P_k is of each.
      noise_dbm_per_hz: N_0.
      noise_figure_db: of both receivers.
      near_m: least distance.
      far_m: greatest distance.
    """

    flops_per_s: tuple[float, ...] = ALIKE
    bandwidth_hz: float = 100e6
    carrier_hz: float = 3.5e9
    down_power_w: float = 10.0
    up_power_w: float = 0.2
    shared_power: bool = False
    noise_dbm_per_hz: float = -174.0
    noise_figure_db: float = 0.0
    near_m: float = 20.0
    far_m: float = 200.0

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        if not len(self.flops_per_s):
            raise ValueError("cell has no device; give flops_per_s of at least one")
        for name in ("bandwidth_hz", "carrier_hz", "down_power_w", "up_power_w"):
            checks.number("cell", name, getattr(self, name))
        checks.number("cell", "noise_dbm_per_hz", self.noise_dbm_per_hz, least=-1e3)
        checks.number("cell", "noise_figure_db", self.noise_figure_db, least=0.0)
        checks.number("cell", "far_m", self.far_m)
        checks.number("cell", "near_m", self.near_m, most=self.far_m)
        for speed in self.flops_per_s:
            checks.number("cell", "flops_per_s", speed)

    @property
    def num_devices(self) -> int:
        """K."""
        return len(self.flops_per_s)

    @property
    def noise_w_per_hz(self) -> float:
        """N_0 in W/Hz."""
        return 10.0 ** ((self.noise_dbm_per_hz + self.noise_figure_db - 30.0) / 10.0)


def path_loss_db(distance: base.Array, carrier_hz: base.Array = 3.5e9) -> base.Array:
    """Path loss of section V-A.

        PL = 32.4 + 20 log10(f / GHz) + 20 log10(d / m)

    Args:
      distance: d in metres, any shape.
      carrier_hz: f.

    Returns:
      dB.
    """
    return 32.4 + 20.0 * jnp.log10(carrier_hz / 1e9) + 20.0 * jnp.log10(distance)


def draw_gains(key: base.Array, cell: Cell, num: int) -> base.Array:
    """Draws power gains over distances and Rayleigh fading, the same both ways.

    Args:
      key: random key, consumed.
      cell: K devices.
      num: draws.

    Returns:
      ``[num, K]``, linear.
    """
    places, fading = jax.random.split(key)
    shape = (num, cell.num_devices)
    distance = jax.random.uniform(places, shape, minval=cell.near_m, maxval=cell.far_m)
    mean = units.db_to_lin(-path_loss_db(distance, cell.carrier_hz))
    return mean * jax.random.exponential(fading, shape)
