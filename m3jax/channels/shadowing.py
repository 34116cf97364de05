"""Log-normal shadowing, correlated along a path or between users.

Shadowing is a normal number of decibels, here a loss: positive weakens the signal, so
it adds to the path loss. (TR 38.901, section 7.5, gives it the other sign; the
distribution is the same.) Its correlation falls with distance as

    R(x) = std^2 exp(-|x| / d_corr)

(Gudmundson, Electronics Letters 27(23), 1991). ``tr38901`` has the standard deviations
and correlation distances of 3GPP's urban scenarios.
"""

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.channels import topology
from m3jax.ops import quantities

_NUGGET = 1e-5
"""Share of the variance that is each user's own, so that users may coincide."""


def draw(
    key: base.Array, std: quantities.Db, shape: tuple[int, ...] = ()
) -> quantities.Db:
    """Draws independent shadowing, which is also the stationary start of ``step``.

    Args:
      key: random key, consumed.
      std: standard deviation, broadcastable to ``shape``.
      shape: shape of the result.

    Returns:
      Loss of this shape, zero mean.

    Raises:
      TypeError: if ``std`` is no ``Db``.
    """
    quantities.require(std, quantities.Db, "std")
    return std * jax.random.normal(key, shape)


def step(
    key: base.Array,
    shadowing: quantities.Db,
    moved: base.Array,
    std: quantities.Db,
    correlation_distance: base.Array,
) -> quantities.Db:
    """Shadowing after a user has moved: one step of a Gauss-Markov process.

        s' = rho s + sqrt(1 - rho^2) std n,   rho = exp(-moved / d_corr),   n ~ N(0, 1)

    Steps of any length, even unequal ones, give exactly the correlation above along
    the path. For one in time, ``moved = speed * dt``.

    Args:
      key: random key, consumed.
      shadowing: s, any shape.
      moved: way since s was current, metres, broadcastable; 0 changes nothing.
      std: standard deviation, broadcastable.
      correlation_distance: d_corr in metres, broadcastable.

    Returns:
      s', of the broadcast shape. By ``moved`` its slope is infinite at 0 and is taken
      as 0 there.
    """
    shape = jnp.broadcast_shapes(
        *map(jnp.shape, (shadowing.value, moved, std.value, correlation_distance))
    )
    return _advance(shadowing, draw(key, std, shape), moved, correlation_distance)


def along_path(
    key: base.Array,
    moved: base.Array,
    std: quantities.Db,
    correlation_distance: base.Array,
    shape: tuple[int, ...] = (),
) -> quantities.Db:
    """Shadowing along whole paths, from a stationary start.

    Args:
      key: random key, consumed.
      moved: ``[T]`` or ``[T, *shape]``, metres moved in each step.
      std: standard deviation, broadcastable to ``shape``.
      correlation_distance: d_corr in metres, broadcastable to ``shape``.
      shape: shape of the users, who are independent; ``correlated`` has them close.

    Returns:
      ``[T + 1, *shape]``: before the first step and after each.

    Raises:
      TypeError: if ``std`` is no ``Db``.

    Example:
      >>> moved = jnp.full(100, 0.5)  # 100 steps of 50 ms at 10 m/s
      >>> along_path(jax.random.key(0), moved, quantities.Db(4.0), 37.0).value.shape
      (101,)
    """
    innovations = draw(key, std, (len(moved) + 1, *shape))
    start, later = jax.tree.map(lambda a: a[0], innovations), innovations.value[1:]

    def advance(shadowing, inputs):
        innovation, step_moved = inputs
        innovation = quantities.Db(innovation)
        after = _advance(shadowing, innovation, step_moved, correlation_distance)
        return after, after.value

    _, path = lax.scan(advance, start, (later, jnp.asarray(moved)))
    return quantities.Db(jnp.concatenate([start.value[None], path]))


def correlated(
    key: base.Array,
    positions: base.Array,
    std: quantities.Db,
    correlation_distance: base.Array,
) -> quantities.Db:
    """Shadowing of several users of one base station at one time.

        s = std L n,   L L^T = K,   K_ij = exp(-|x_i - x_j| / d_corr),   n ~ N(0, 1)

    Users in line of sight and users out of it are shadowed independently of each
    other: draw once for each state and choose by ``jnp.where`` of the two values. A
    share of 1e-5 of the variance is each user's own, which keeps the factorisation good
    in float32 when users coincide. It takes U^3 / 3 operations.

    Args:
      key: random key, consumed.
      positions: ``[U, 2]`` in metres.
      std: standard deviation, scalar or ``[U]``.
      correlation_distance: d_corr in metres, scalar.

    Returns:
      Loss ``[U]``.

    Raises:
      TypeError: if ``std`` is no ``Db``.
    """
    quantities.require(std, quantities.Db, "std")
    apart = topology.distance_2d(positions[:, None], positions[None])
    # Who stands at one place has one shadow, even without any correlation beyond it.
    apart = jnp.where(apart == 0.0, 0.0, apart / correlation_distance)
    kernel = (1.0 - _NUGGET) * jnp.exp(-apart)
    kernel += _NUGGET * jnp.eye(len(positions))
    unit = jax.random.normal(key, (len(positions),))
    return std * (jnp.linalg.cholesky(kernel) @ unit)


def _advance(
    shadowing: quantities.Db,
    innovation: quantities.Db,
    moved: base.Array,
    correlation_distance: base.Array,
) -> quantities.Db:
    way = jnp.asarray(moved) / correlation_distance
    # expm1: in float32, 1 - rho^2 of a short step would round to 0. The inner where
    # keeps the infinite slope of the root at 0 out of the gradient.
    has_moved = way > 0.0
    fresh = -jnp.expm1(-2.0 * jnp.where(has_moved, way, 1.0))
    fresh = jnp.where(has_moved, jnp.sqrt(fresh), 0.0)
    return shadowing * jnp.exp(-way) + innovation * fresh
