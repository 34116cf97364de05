"""Servers: a device, the model on it, and its link to the user; and MoE2's eight."""

import dataclasses
import math

import jax.numpy as jnp

from m3jax import base
from m3jax.costs import devices, inference, models
from m3jax.ops import units

LEAST_EFFICIENCY = 0.1523
"""Bits a symbol that a link falls back to: the lowest channel quality of 3GPP TS 38.214
(table 5.2.2.1-2). Without it, the mean delay over Rayleigh fading would be infinite."""


@dataclasses.dataclass(frozen=True)
class Server:
    """An edge server.

    Attributes:
      device: what computes.
      model: what runs on it.
      snr_db: mean SNR of its link, in dB.
      bandwidth_hz: of its link.

    Raises:
      ValueError: the model does not fit the device, or the link makes no sense.
    """

    device: devices.Device
    model: models.LanguageModel
    snr_db: float = 15.0
    bandwidth_hz: float = 2.5e6

    def __post_init__(self):
        inference.check_memory(self.device, self.model)
        if not self.bandwidth_hz > 0 or not math.isfinite(self.bandwidth_hz):
            raise ValueError(
                f"bandwidth_hz is {self.bandwidth_hz}; give a finite number above 0"
            )
        if not math.isfinite(self.snr_db):
            raise ValueError(f"snr_db is {self.snr_db}; give a finite SNR in dB")


_LINKS_DB = (21.0, 14.0, 19.0, 22.0, 13.0, 16.0, 18.0, 11.0)
_LARGE = (0, 1, 2)
_ON_RTX = (0, 1, 3)
TABLE_I = tuple(
    Server(
        devices.RTX_4090 if n in _ON_RTX else devices.JETSON_AGX_ORIN_64GB,
        models.QWEN2_5_7B_Q4 if n in _LARGE else models.QWEN2_5_3B_Q4,
        snr_db=snr_db,
    )
    for n, snr_db in enumerate(_LINKS_DB)
)
"""The eight servers of MoE2's table I, which differs from its text. The paper says
nothing of their links: 20 MHz shared evenly, at SNRs of our choice."""
PRESETS = {"table_i": TABLE_I}
"""Fleets by name."""


def rate(snr_db: base.Array, gain: base.Array, bandwidth_hz: base.Array) -> base.Array:
    """Bits a second of a link: Shannon's, and no less than the most robust mode's.

        B max(log2(1 + SNR |h|^2), 0.1523)

    Args:
      snr_db: mean SNR in dB.
      gain: power gain |h|^2, of mean 1.
      bandwidth_hz: B.
    """
    efficiency = jnp.log2(1.0 + units.db_to_lin(snr_db) * gain)
    return bandwidth_hz * jnp.maximum(efficiency, LEAST_EFFICIENCY)
