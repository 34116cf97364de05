"""Path loss of the textbooks; the urban models of 3GPP are in ``tr38901``.

Distances are in metres, carriers are ``Hertz`` and losses are ``Db``, positive.
"""

import math

import jax.numpy as jnp

from m3jax import base
from m3jax.ops import numbers, quantities

LIGHT_SPEED = 299_792_458.0
"""Speed of light in vacuum, metres per second."""


def free_space(distance: base.Array, carrier: quantities.Hertz) -> quantities.Db:
    """Loss between isotropic antennas in free space.

        PL = 20 log10(4 pi d f / c)

    (Friis, Proc. IRE 34, 1946.) Below ``d = c / (4 pi f)``, 7 mm at 3.5 GHz, the far
    field formula would give a gain, so the loss is held at 0 dB there and its slope
    by distance at 0.

    Args:
      distance: any shape, in metres.
      carrier: scalar or broadcastable.

    Returns:
      The loss, of the broadcast shape.

    Raises:
      TypeError: if ``carrier`` is no ``Hertz``.

    Example:
      >>> round(float(free_space(1000.0, quantities.Hertz(2.4e9)).value), 2)
      100.05
    """
    quantities.require(carrier, quantities.Hertz, "carrier")
    turns = 4.0 * math.pi / LIGHT_SPEED * numbers.as_float(distance) * carrier.value
    return quantities.Ratio(jnp.maximum(turns, 1.0)).to_db() * 2.0


def log_distance(
    distance: base.Array,
    exponent: base.Array,
    reference_loss: quantities.Db,
    reference_distance: float = 1.0,
) -> quantities.Db:
    """Loss that grows by a constant number of dB per decade.

        PL = PL(d_0) + 10 n log10(d / d_0)

    (Rappaport, Wireless Communications, 2nd ed., section 4.9.1.) Nearer than ``d_0``
    the loss is held at ``PL(d_0)`` and its slope by distance at 0.

    Args:
      distance: any shape, in metres.
      exponent: n; 2 in free space, 2.7 to 3.5 in cities; broadcastable.
      reference_loss: the loss at ``d_0``, such as ``free_space(d_0, carrier)``.
      reference_distance: ``d_0`` in metres.

    Returns:
      The loss, of the broadcast shape.

    Raises:
      TypeError: if ``reference_loss`` is no ``Db``.
      ValueError: unless ``reference_distance > 0``.
    """
    quantities.require(reference_loss, quantities.Db, "reference_loss")
    if not reference_distance > 0.0:
        raise ValueError(
            f"reference_distance must be positive metres, got {reference_distance}."
        )
    distance = numbers.as_float(distance)
    growth = jnp.maximum(distance, reference_distance) / reference_distance
    return reference_loss + quantities.Ratio(growth).to_db() * exponent
