"""Links of servers: SNR from a budget, bits a second from SNR, seconds from bits."""

import jax.numpy as jnp

from m3jax import base
from m3jax.channels import capacity, link_budget, path_loss
from m3jax.ops import quantities, units

LEAST_EFFICIENCY = 0.1523
"""Bits a symbol that a link falls back to: the lowest channel quality of 3GPP TS 38.214
(table 5.2.2.1-2), QPSK at the code rate 78/1024."""


def rate(
    snr_db: base.Array,
    gain: base.Array,
    bandwidth_hz: base.Array,
    least: float = LEAST_EFFICIENCY,
) -> base.Array:
    """Bits a second of a link: Shannon's, and no less than the most robust mode's.

        R = B max(log2(1 + SNR |h|^2), 0.1523)

    Without the floor the mean delay over Rayleigh fading, E[1 / R], is infinite: near
    a gain of 0 the delay grows as 1 / |h|^2, whose mean diverges. A real link leaves
    Shannon's curve there: below its lowest mode it repeats or raises power.
    `floor_share` says how often that is.

    Args:
      snr_db: mean SNR in dB.
      gain: power gain |h|^2, of mean 1.
      bandwidth_hz: B.
      least: bits a symbol of the most robust mode; 0 for Shannon's rate alone.

    Example:
      >>> float(rate(jnp.array(0.0), jnp.array(3.0), 1e6)) / 1e6
      2.0
    """
    efficiency = capacity.shannon(units.db_to_lin(snr_db) * gain)
    return bandwidth_hz * jnp.maximum(efficiency, least)


def delay(bits: base.Array, bits_per_s: base.Array) -> base.Array:
    """Seconds of sending so many bits (MoE2, equation 5)."""
    return bits / bits_per_s


def floor_share(snr_db: base.Array, least: float = LEAST_EFFICIENCY) -> base.Array:
    """How often a Rayleigh link is slower than its most robust mode.

    Args:
      snr_db: mean SNR in dB.
      least: bits a symbol of that mode.

    Returns:
      Probability.
    """
    return capacity.outage_probability_rayleigh(units.db_to_lin(snr_db), least)


def snr_db_at(
    distance: base.Array,
    bandwidth_hz: base.Array,
    *,
    tx_power_dbm: base.Array = 23.0,
    carrier_hz: base.Array = 3.5e9,
    exponent: base.Array = 3.0,
    noise_figure_db: base.Array = 7.0,
) -> base.Array:
    """Mean SNR of a link over a distance: free space to 1 m, a power law beyond.

    Args:
      distance: metres, any shape.
      bandwidth_hz: of the link.
      tx_power_dbm: sent.
      carrier_hz: of the carrier.
      exponent: of the path loss; 2 is free space.
      noise_figure_db: of the receiver.

    Returns:
      dB, of the broadcast shape.

    Example:
      >>> round(float(snr_db_at(100.0, 2.5e6)), 1)
      22.7
    """
    carrier = quantities.Hertz(carrier_hz)
    budget = link_budget.LinkBudget(
        tx_power=quantities.Dbm(tx_power_dbm),
        bandwidth=quantities.Hertz(bandwidth_hz),
        path_loss=path_loss.log_distance(
            distance, exponent, path_loss.free_space(1.0, carrier)
        ),
        noise_figure=quantities.Db(noise_figure_db),
    )
    return budget.snr_db
