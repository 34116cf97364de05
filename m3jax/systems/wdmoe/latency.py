"""How long a block and a sequence wait for their experts (WDMoE, equations 2 to 11).

The base station sends each token to the devices of its experts and gets it back:

    R_k = B_k log2(1 + P g_k / (N_0 B_k))          down with P_d, up with P_u (2, 3)
    t_k = L / R_d,k + L / R_u,k + F / C_k           of one token (6 to 8)
    t^i = max_k q^i_k t_k                           of block i (10, 11)

with ``q^i_k`` tokens for device k in block i; a device that got none takes no time.
"""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import fair_round_trips, round_trips, sum_of_maxima
from m3jax.systems.wdmoe import cell as cells


def make_trips(
    cell: cells.Cell, gains: base.Array, expert: cells.Expert | None = None
) -> round_trips.Trips:
    """The way of a token to each device and back.

    Args:
      cell: K devices.
      gains: power gains ``[..., K]``.
      expert: network on every device; Mixtral's if None.

    Returns:
      ``Trips`` of ``[..., K]`` each: ``round_trips.seconds(trips, bandwidths)`` is
      equation 8, and ``vmap`` takes further draws.

    Example:
      >>> gains = jnp.full(8, 10.0 ** (-float(cells.path_loss_db(100.0)) / 10.0))
      >>> snr = make_trips(cells.Cell(), gains).cn0_up[0] / 12.5e6
      >>> round(float(10.0 * jnp.log10(snr)), 1)
      42.8
    """
    expert = expert or cells.mixtral()
    gains = jnp.asarray(gains, float)
    down = cell.down_power_w / (cell.num_devices if cell.shared_power else 1)
    bits = jnp.full_like(gains, expert.payload_bits)
    fixed = jnp.asarray(
        [expert.flops / speed for speed in cell.flops_per_s], gains.dtype
    )
    return round_trips.Trips(
        bits_down=bits,
        bits_up=bits,
        cn0_down=gains * (down / cell.noise_w_per_hz),
        cn0_up=gains * (cell.up_power_w / cell.noise_w_per_hz),
        fixed_s=jnp.broadcast_to(fixed, gains.shape),
    )


def rates(cn0: base.Array, bandwidths: base.Array) -> base.Array:
    """Shannon's rate (equations 2 and 3); 0 where there is no band.

    Args:
      cn0: ``P g / N_0``, Hz, any shape.
      bandwidths: Hz, broadcastable.

    Returns:
      Bits a second.

    Example:
      >>> float(rates(7e6, 1e6)) / 1e6
      3.0
    """
    has_band = jnp.asarray(bandwidths) > 0.0
    band = jnp.where(has_band, bandwidths, 1.0)
    return jnp.where(has_band, band * jnp.log1p(cn0 / band) / jnp.log(2.0), 0.0)


def even_bandwidths(trips: round_trips.Trips, total: base.Array) -> base.Array:
    """The same for all K devices, ``[K]``."""
    num = jnp.shape(trips.cn0_down)[-1]
    return jnp.full(num, total / num, jnp.result_type(trips.cn0_down))


def even_seconds(trips: round_trips.Trips, total: base.Array) -> base.Array:
    """Seconds of a token on each device at even bandwidths, ``[K]`` (18's t)."""
    return round_trips.seconds(trips, even_bandwidths(trips, total))


def waiting(counts: base.Array, token_s: base.Array) -> base.Array:
    """How long blocks wait (equations 10 and 11); the sequence takes their sum.

    Args:
      counts: q, tokens of each device, ``[..., K]``.
      token_s: t, seconds of a token, ``[..., K]``, such as
        ``round_trips.seconds(trips, bandwidths)``.

    Returns:
      Seconds, ``[...]``; 0 where nobody has tokens, ``inf`` where somebody with tokens
      has no link.

    Example:
      >>> waiting(jnp.array([[2.0, 0.0], [1.0, 3.0]]), jnp.array([1.0, 2.0])).tolist()
      [2.0, 6.0]
    """
    busy = counts > 0.0
    return jnp.max(jnp.where(busy, counts * jnp.where(busy, token_s, 0.0), 0.0), -1)


def count_tokens(weights: base.Array) -> base.Array:
    """Tokens of each device, from weights that are 0 where an expert is not asked (9).

    Args:
      weights: ``[..., T, n]``.

    Returns:
      ``[..., n]``, floats.
    """
    return jnp.sum(weights > 0.0, axis=-2).astype(weights.dtype)


def split_seconds(
    counts: base.Array,
    trips: round_trips.Trips,
    total: base.Array,
    split: str,
    stopped: bool = False,
) -> base.Array:
    """How long a sequence waits, with the band split in one of three ways.

    Args:
      counts: q, ``[I, K]``.
      trips: of a token, K devices.
      total: B in Hz.
      split: "even", "per_block" or "per_sequence".
      stopped: hold the gradient through the bandwidths at zero, not the value.

    Returns:
      Scalar, seconds; differentiable by counts and trips.
    """
    if split == "even":
        return jnp.sum(waiting(counts, even_seconds(trips, total)))
    if split == "per_block":
        solve = jax.vmap(fair_round_trips.fair_bandwidths, (0, None, None))
    else:
        solve = sum_of_maxima.sum_of_maxima
    found = solve(counts, trips, total)
    if not stopped:
        return jnp.sum(found.value)
    band = jax.lax.stop_gradient(found.amounts)
    band = jnp.broadcast_to(band, counts.shape)
    token_s = jax.vmap(round_trips.seconds, (None, 0))(trips, band)
    return jnp.sum(waiting(counts, token_s))
