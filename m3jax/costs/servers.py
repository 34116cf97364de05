"""Servers: a device, the model on it, and its link to the user; and MoE2's eight."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from m3jax import base
from m3jax.costs import checks, devices, inference, models, transmission


@dataclasses.dataclass(frozen=True)
class Server:
    """An edge server.

    Attributes:
      device: what computes.
      model: what runs on it.
      snr_db: mean SNR of its link to the user, in dB; of a distance, see
        `at_distance`.
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
        checks.number("server", "bandwidth_hz", self.bandwidth_hz)
        checks.number("server", "snr_db", self.snr_db, least=-1e3)


def at_distance(
    device: devices.Device,
    model: models.LanguageModel,
    distance: float,
    bandwidth_hz: float = 2.5e6,
    **link: float,
) -> Server:
    """A server so many metres away.

    Args:
      device: what computes.
      model: what runs on it.
      distance: metres.
      bandwidth_hz: of its link.
      **link: of ``transmission.snr_db_at``, such as ``exponent=2.0``.

    Raises:
      ValueError: the distance is not positive, or as `Server`.
    """
    checks.number("server", "distance", distance)
    snr_db = float(transmission.snr_db_at(distance, bandwidth_hz, **link))
    return Server(device, model, snr_db, bandwidth_hz)


class Fleet(NamedTuple):
    """N servers as arrays, entry n of each leaf being server n's; a pytree for vmap.

    Attributes:
      device: a device whose numbers are ``[N]``.
      model: a model whose numbers are ``[N]``.
      snr_db: ``[N]``.
      bandwidth_hz: ``[N]``.
    """

    device: devices.Device
    model: models.LanguageModel
    snr_db: base.Array
    bandwidth_hz: base.Array

    @property
    def num_servers(self) -> int:
        """N."""
        return self.snr_db.shape[0]


def stack(servers: "Sequence[Server] | Fleet") -> Fleet:
    """Servers as a fleet; a fleet passes as it is.

    Args:
      servers: at least one.

    Raises:
      ValueError: there is none.
    """
    if isinstance(servers, Fleet):
        return servers
    if not servers:
        raise ValueError("a fleet needs at least one server; servers is empty")

    def joined(values):
        # Names differ between servers and would make trees of different kinds.
        alike = [dataclasses.replace(v, name="fleet", source="") for v in values]
        return jax.tree.map(lambda *leaves: _array(leaves), *alike)

    return Fleet(
        joined([server.device for server in servers]),
        joined([server.model for server in servers]),
        _array([float(server.snr_db) for server in servers]),
        _array([float(server.bandwidth_hz) for server in servers]),
    )


def _array(values: Sequence[float]) -> base.Array:
    """The values in JAX's types, and known inside of a traced function too."""
    array = np.array(values)
    is_count = array.dtype.kind == "i" and array.max() < 2**31
    kind = int if is_count else float
    return array.astype(jax.dtypes.canonicalize_dtype(kind))


_LINKS_DB = (21.0, 14.0, 19.0, 22.0, 13.0, 16.0, 18.0, 12.0)
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


def preset(name: str) -> tuple[Server, ...]:
    """The fleet of a name.

    Raises:
      ValueError: there is none; names those that there are.
    """
    return checks.preset("fleet", name, PRESETS)
