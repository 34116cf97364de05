"""Users that move: straight lines at constant speed, mirrored at the walls."""

import jax
import jax.numpy as jnp

from m3jax import base


def draw_velocities(key: base.Array, num_users: int, speed: base.Array) -> base.Array:
    """Draws velocities of one speed in directions uniform over the circle.

    Args:
      key: random key, consumed.
      num_users: number of users.
      speed: in metres per second, scalar or ``[num_users]``.

    Returns:
      Velocities ``[num_users, 2]`` in metres per second.
    """
    angle = jax.random.uniform(key, (num_users,), maxval=2.0 * jnp.pi)
    heading = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return jnp.asarray(speed)[..., None] * heading


def straight_line(
    start: base.Array, velocity: base.Array, time: base.Array, half_width: float
) -> base.Array:
    """Positions after some time in a square whose walls mirror the path.

        x(t) = w - | (x_0 + v t + w) mod 4 w  -  2 w |,   each axis alone

    A pure function of time: no state to carry, no error that builds up, any number of
    reflections in one call; ``vmap`` over times gives trajectories. Speed is constant
    and users that start uniform over the square stay so, which random waypoint does
    not give. The way moved between two times is ``speed * dt``, bounces or not: that is
    what correlated shadowing asks for.

    Args:
      start: positions ``[..., 2]`` in metres, inside the square.
      velocity: ``[..., 2]`` in metres per second, such as ``draw_velocities`` gives.
      time: in seconds, scalar or ``[...]``.
      half_width: w in metres; the square is ``[-w, w]`` by ``[-w, w]``.

    Returns:
      Positions ``[..., 2]`` in metres, differentiable by all arguments.

    Example:
      >>> start, velocity = jnp.array([90.0, 0.0]), jnp.array([20.0, 1.0])
      >>> straight_line(start, velocity, 1.0, half_width=100.0).tolist()
      [90.0, 1.0]
    """
    unfolded = start + velocity * jnp.asarray(time)[..., None]
    phase = jnp.mod(unfolded + half_width, 4.0 * half_width)
    return half_width - jnp.abs(phase - 2.0 * half_width)
