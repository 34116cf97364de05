"""Where users and base stations are: draws on the plane, distances, sites.

Positions are ``[..., 2]`` in metres. Every draw is uniform by area around the origin;
add a site's position to move it there, and ``vmap`` over keys for several drops.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base

_BISECTIONS = 32  # beyond float32: each halves an angle of at most pi / 6


def distance_2d(a: base.Array, b: base.Array) -> base.Array:
    """Horizontal distance between positions.

        d = sqrt((a_x - b_x)^2 + (a_y - b_y)^2)

    Args:
      a: positions ``[..., 2]`` in metres.
      b: positions, broadcastable to ``a``.

    Returns:
      Distances ``[...]`` in metres. Where the positions coincide the gradient is 0
      rather than NaN.

    Example:
      >>> float(distance_2d(jnp.array([3.0, 4.0]), jnp.zeros(2)))
      5.0
    """
    return _safe_sqrt(jnp.sum((jnp.asarray(a) - jnp.asarray(b)) ** 2, axis=-1))


def distance_3d(distance: base.Array, height_difference: base.Array) -> base.Array:
    """Distance between antennas at different heights.

        d_3D = sqrt(d_2D^2 + (h_1 - h_2)^2)

    Args:
      distance: horizontal distance in metres, any shape.
      height_difference: in metres, of either sign, broadcastable.

    Returns:
      Distances in metres; gradient 0 where both arguments are 0.
    """
    return _safe_sqrt(jnp.square(distance) + jnp.square(height_difference))


def annulus(
    key: base.Array, num_users: int, radius: float, min_distance: float = 0.0
) -> base.Array:
    """Draws users in a disc with a hole, uniform by area.

        r = sqrt(r_0^2 + u (R^2 - r_0^2)),   u ~ U[0, 1),   angle ~ U[0, 2 pi)

    Args:
      key: random key, consumed.
      num_users: number of users.
      radius: R in metres.
      min_distance: r_0 in metres, the least distance from the centre; 0: a full disc.

    Returns:
      Positions ``[num_users, 2]`` in metres.

    Raises:
      ValueError: unless ``0 <= min_distance < radius``.

    Example:
      >>> annulus(jax.random.key(0), 100, radius=250.0, min_distance=10.0).shape
      (100, 2)
    """
    _check_hole(min_distance, radius, "radius")
    u, v = jax.random.uniform(key, (2, num_users))
    r = jnp.sqrt(min_distance**2 + u * (radius**2 - min_distance**2))
    return _from_polar(r, 2.0 * jnp.pi * v)


def hexagon(
    key: base.Array, num_users: int, radius: float, min_distance: float = 0.0
) -> base.Array:
    """Draws users in a hexagonal cell with a round hole, uniform by area.

    No draw is rejected. The cell is twelve like triangles; in one of them, with the
    apothem ``a = R sqrt(3) / 2``, the angle from it has the distribution

        F(t) = (a^2 tan t - r_0^2 t) / (a^2 tan(pi/6) - r_0^2 pi/6),   0 <= t <= pi/6

    which is inverted by bisection, and at that angle the cell ends at ``a / cos t``.

    Args:
      key: random key, consumed.
      num_users: number of users.
      radius: R in metres, from the centre to a corner; a corner lies on the y axis.
      min_distance: r_0 in metres, the least distance from the centre.

    Returns:
      Positions ``[num_users, 2]`` in metres.

    Raises:
      ValueError: unless ``0 <= min_distance < R sqrt(3) / 2``.
    """
    apothem = radius * math.sqrt(3.0) / 2.0
    _check_hole(min_distance, apothem, "radius * sqrt(3) / 2")
    u, v = jax.random.uniform(key, (2, num_users))
    # One uniform number gives the triangle and what is left of it the angle.
    triangle = jnp.floor(12.0 * u)
    angle = _invert_sector(12.0 * u - triangle, min_distance / apothem)
    edge = apothem / jnp.cos(angle)
    r = jnp.sqrt(min_distance**2 + v * (edge**2 - min_distance**2))
    side, half = jnp.floor(triangle / 2.0), triangle % 2.0
    return _from_polar(r, side * (jnp.pi / 3.0) + jnp.where(half > 0.0, angle, -angle))


def hexagonal_sites(num_rings: int, cell_radius: float) -> base.Array:
    """Centres of the cells of ``hexagon`` that tile the plane, the origin first.

    Args:
      num_rings: rings of cells around the centre; 0, 1, 2 give 1, 7, 19 sites.
      cell_radius: from the centre of a cell to a corner, in metres.

    Returns:
      Positions ``[1 + 3 n (n + 1), 2]`` in metres; neighbours are
      ``sqrt(3) cell_radius`` apart.

    Raises:
      ValueError: if ``num_rings`` is not an integer of at least 0.

    Example:
      >>> hexagonal_sites(1, 100.0).shape
      (7, 2)
    """
    if not (type(num_rings) is int and num_rings >= 0):
        raise ValueError(f"num_rings must be an integer >= 0, got {num_rings!r}.")
    span = range(-num_rings, num_rings + 1)
    cells = [(q, r) for q in span for r in span if abs(q + r) <= num_rings]
    cells.sort(key=lambda cell: max(map(abs, (*cell, sum(cell)))))
    spacing = math.sqrt(3.0) * cell_radius
    return jnp.array(
        [(spacing * (q + r / 2.0), 1.5 * cell_radius * r) for q, r in cells]
    )


def _invert_sector(share: base.Array, hole: float) -> base.Array:
    """The angle below which a share of one triangle's area lies; apothem 1."""

    def area(t: base.Array) -> base.Array:
        return jnp.tan(t) - hole**2 * t

    wanted = share * area(jnp.pi / 6.0)

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        below = area(middle) < wanted
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    start = jnp.zeros_like(share), jnp.full_like(share, jnp.pi / 6.0)
    low, high = lax.fori_loop(0, _BISECTIONS, halve, start)
    return 0.5 * (low + high)


def _from_polar(r: base.Array, angle: base.Array) -> base.Array:
    return jnp.stack([r * jnp.cos(angle), r * jnp.sin(angle)], axis=-1)


def _safe_sqrt(x: base.Array) -> base.Array:
    """The square root, of gradient 0 at 0."""
    positive = ~(x <= 0.0)  # NaN stays
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _check_hole(min_distance: float, limit: float, name: str) -> None:
    if not 0.0 <= min_distance < limit:
        raise ValueError(
            f"min_distance must lie in [0, {name}), here [0, {limit:g}) m; "
            f"got {min_distance}."
        )
