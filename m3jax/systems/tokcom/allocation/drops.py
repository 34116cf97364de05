"""Drops of users around a base station, as the allocation takes them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import link_budget, shadowing, topology, tr38901
from m3jax.ops import quantities

CARRIER = quantities.Hertz(3.5e9)
NOISE_FIGURE = quantities.Db(7.0)


class Users(NamedTuple):
    """A drop of users.

    Attributes:
      distances: to the base station along the ground, metres, ``[U]``.
      los: bool ``[U]``, True in line of sight.
      gains: path gain over noise density, Hz/W, ``[U]``.
    """

    distances: base.Array
    los: base.Array
    gains: base.Array


def draw_users(
    key: base.Array,
    num_users: int,
    *,
    min_distance: float = 20.0,
    max_distance: float = 500.0,
    scenario: tr38901.Scenario = tr38901.UMI,
    carrier: quantities.Hertz = CARRIER,
    noise_figure: quantities.Db = NOISE_FIGURE,
) -> Users:
    """Draws users around a base station, with line of sight and shadowing of each.

    Args:
      key: random key, consumed.
      num_users: U.
      min_distance: metres.
      max_distance: metres; users are uniform by area in between.
      scenario: large-scale model.
      carrier: frequency.
      noise_figure: of the receiver.

    Returns:
      ``Users``, of gains averaged over small-scale fading.

    Raises:
      ValueError: there is no user, or the distances make no sense.
    """
    if num_users < 1:
        raise ValueError(f"num_users must be at least 1, got {num_users}.")
    drop_key, los_key, shadow_key = jax.random.split(key, 3)
    positions = topology.annulus(drop_key, num_users, max_distance, min_distance)
    distances = topology.distance_2d(positions, jnp.zeros(2))
    los = scenario.draw_los(los_key, distances)
    std = scenario.shadowing_std(los)
    budget = link_budget.LinkBudget(
        tx_power=quantities.Watt(1.0).to_dbm(),
        bandwidth=quantities.Hertz(1.0),
        path_loss=scenario.path_loss(distances, los, carrier),
        shadowing=shadowing.draw(shadow_key, std, (num_users,)),
        noise_figure=noise_figure,
    )
    return Users(distances, los, budget.snr.value)
