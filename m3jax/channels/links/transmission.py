"""From sent symbols to received ones, with what the receiver knows of the gains."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import blocks, noise
from m3jax.channels import csi as csi_lib
from m3jax.ops import masks, units


class Received(NamedTuple):
    """What the receiver has in hand.

    Attributes:
      y: received symbols, complex, of the shape of those sent.
      known: the receiver's estimate of the gains.
      pilot_uses: int32 scalar, channel uses that pilots took.
      energy: float scalar in joules, of data and pilots.
    """

    y: base.Array
    known: csi_lib.Estimate
    pilot_uses: base.Array
    energy: base.Array


def transmit(
    key: base.Array,
    x: base.Array,
    mask: base.Array,
    snr: base.Array,
    channel: base.Channel,
    csi: csi_lib.CSI,
    symbol_energy: float,
) -> Received:
    """Sends the symbols of one example, and the pilots that its blocks need.

    A block is a run of equal gains, as for ``csi.PilotCSI``. Each block that carries a
    valid token gets one set of pilots; they come on top of the data and do not shift
    the blocks. A pilot of another SNR than the data's meets the same noise, so it is
    sent, and counted, with ``snr_p / snr`` of a symbol's energy. Gains and noise are
    the same whatever the receiver knows.

    Args:
      key: random key, consumed.
      x: complex ``[L, S]``, zeros where the mask is False.
      mask: bool ``[L]``.
      snr: linear Es/N0.
      channel: its state must be the complex gains.
      csi: what the receiver knows of them; only ``PilotCSI`` costs anything.
      symbol_energy: Es in joules.

    Returns:
      A ``Received``.
    """
    gain_key, noise_key, pilot_key = jax.random.split(key, 3)
    h = channel.generate(gain_key, x.shape)
    y = channel.apply(noise_key, x, h, snr)
    known = csi.estimate(pilot_key, h, snr)
    data_energy = symbol_energy * jnp.sum(masks.abs_square(x))
    if not isinstance(csi, csi_lib.PilotCSI):
        return Received(y, known, jnp.zeros((), jnp.int32), data_energy)
    pilot_uses = csi.num_pilots * _num_blocks(h, mask)
    energy = data_energy + symbol_energy * _pilot_energy(csi, snr) * pilot_uses
    return Received(y, known, pilot_uses, energy)


def check(channel: Any, csi: Any) -> None:
    """Checks the settings of ``transmit``.

    Raises:
      ValueError: if one lacks a method that its contract names, or pilots would take
        infinite energy.
    """
    for name in ("generate", "apply"):
        if not callable(getattr(channel, name, None)):
            raise ValueError(
                f"channel must have {name}(), as base.Channel says; got {channel!r}."
            )
    if not callable(getattr(csi, "estimate", None)):
        raise ValueError(f"csi must have estimate(), as csi.PerfectCSI; got {csi!r}.")
    if isinstance(csi, csi_lib.PilotCSI) and csi.pilot_snr_db == math.inf:
        raise ValueError(
            "pilots at pilot_snr_db=inf would take infinite energy; take PerfectCSI, "
            "or pilot_snr_db=None for pilots at the SNR of the data."
        )


def _num_blocks(h: base.Array, mask: base.Array) -> base.Array:
    """How many runs of equal gains hold a symbol of a valid token; int32."""
    valid = jnp.repeat(jnp.asarray(mask).astype(bool), h.shape[1])
    used = jnp.zeros(h.size, bool).at[blocks.run_index(h)].max(valid)
    return jnp.sum(used, dtype=jnp.int32)


def _pilot_energy(csi: csi_lib.PilotCSI, snr: base.Array) -> base.Array:
    """Energy of one pilot symbol over that of a data symbol; 0 without noise."""
    if csi.pilot_snr_db is None:
        return jnp.ones(())
    return units.db_to_lin(csi.pilot_snr_db) * noise.noise_power(snr)
