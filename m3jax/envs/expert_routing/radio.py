"""How the links of M3LLM move: equations 1 to 7.

What is drawn once for an episode, what moves from step to step, and the SNR that
follows from both are apart. One link for each of N experts.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import mobility, path_loss, shadowing, topology
from m3jax.envs.expert_routing import events
from m3jax.ops import quantities, roots, units

REFERENCE_DISTANCE = 1.0
"""d_0 in metres; no expert is nearer."""
# A gain of exactly 0 would be -inf dB.
_LEAST_GAIN = 1e-9


class RadioParams(NamedTuple):
    """What the links are drawn from; the defaults are M3LLM's section IV-A.

    Attributes:
      mean_snr_db: mean over links of mu_SNR,i (equation 1).
      std_snr_db: its standard deviation over links.
      mean_distance: of d_i in metres (equation 2).
      std_distance: of d_i in metres.
      mean_shadow_std_db: of sigma_shadow,i (equation 3).
      std_shadow_std_db: of sigma_shadow,i.
      path_loss_exponent: n (equation 4).
      reference_loss_db: L_0, at one metre.
      fading_mean: mu_h (equation 5), real.
      fading_std: sigma_h.
      fading_correlation: r in [-1, 1] between the gains of neighbouring steps;
        0: independent, as printed.
      shadow_correlation: rho in [0, 1] between neighbouring steps of an expert that
        stands still (equation 7).
      tx_power_dbm: P_tx (equation 6).
      noise_density_dbm_hz: N_0.
      bandwidth_hz: B; 180 kHz give 19.1 dB at the mean distance.
      noise_figure_db: NF of the receiver.
    """

    mean_snr_db: base.Array = 25.0
    std_snr_db: base.Array = 5.0
    mean_distance: base.Array = 275.0
    std_distance: base.Array = 75.0
    mean_shadow_std_db: base.Array = 8.0
    std_shadow_std_db: base.Array = 1.3
    path_loss_exponent: base.Array = 3.5
    reference_loss_db: base.Array = 40.0
    fading_mean: base.Array = 0.0
    fading_std: base.Array = 1.0
    fading_correlation: base.Array = 0.0
    shadow_correlation: base.Array = 0.9
    tx_power_dbm: base.Array = 23.0
    noise_density_dbm_hz: base.Array = -174.0
    bandwidth_hz: base.Array = 180e3
    noise_figure_db: base.Array = 0.0


class Radio(NamedTuple):
    """Where N links stand.

    Attributes:
      mean_snr_db: [N], mu_SNR,i.
      start: [N, 2], positions at the start in metres, the coordinator at the origin.
      velocity: [N, 2], metres per second.
      shadow_std_db: [N], sigma_shadow,i.
      shadow_db: [N], X, a loss.
      scatter: [N, 2], real and imaginary part of the fading, CN(0, 1).
    """

    mean_snr_db: base.Array
    start: base.Array
    velocity: base.Array
    shadow_std_db: base.Array
    shadow_db: base.Array
    scatter: base.Array


def start(
    key: base.Array, num_links: int, params: RadioParams, moving: events.EventParams
) -> Radio:
    """Draws the links of an episode, in their stationary state (equations 1 to 5).

    Distances below one metre count as one metre and deviations below 0 as 0.

    Args:
      key: PRNG key, consumed.
      num_links: N.
      params: what to draw from.
      moving: of which `speed` is read.

    Returns:
      The links.
    """
    normal_key, angle_key, speed_key = jax.random.split(key, 3)
    n = jax.random.normal(normal_key, (6, num_links), jnp.float32)
    distance = params.mean_distance + params.std_distance * n[0]
    distance = jnp.maximum(distance, REFERENCE_DISTANCE)
    turns = jax.random.uniform(angle_key, (num_links,), jnp.float32)
    angle = 2.0 * jnp.pi * turns
    std = params.mean_shadow_std_db + params.std_shadow_std_db * n[1]
    std = jnp.maximum(std, 0.0)
    return Radio(
        mean_snr_db=params.mean_snr_db + params.std_snr_db * n[2],
        start=distance[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1),
        velocity=mobility.draw_velocities(speed_key, num_links, moving.speed),
        shadow_std_db=std,
        shadow_db=std * n[3],
        scatter=roots.sqrt(0.5) * n[4:].T,
    )


def advance(
    key: base.Array, radio: Radio, params: RadioParams, moving: events.EventParams
) -> Radio:
    """One step of shadowing and fading (equations 7 and 5).

        X' = rho' X + sqrt(1 - rho'^2) sigma w,   rho' = rho exp(-v dt / d_corr)
        h' = r h + sqrt(1 - r^2) w

    Args:
      key: PRNG key, consumed.
      radio: before the step.
      params: of the links.
      moving: speed v, time dt of a step, and d_corr (Gudmundson 1991).

    Returns:
      After the step.
    """
    shadow_key, scatter_key = jax.random.split(key)
    # One unit of this way takes the correlation down e-fold.
    way = moving.speed * moving.step_time / moving.correlation_distance
    way -= jnp.log(jnp.asarray(params.shadow_correlation, jnp.float32))
    shadow = shadowing.step(
        shadow_key,
        quantities.Db(radio.shadow_db),
        way,
        quantities.Db(radio.shadow_std_db),
        1.0,
    )
    r = jnp.asarray(params.fading_correlation, jnp.float32)
    fresh = roots.sqrt(0.5 * (1.0 - r) * (1.0 + r))
    w = jax.random.normal(scatter_key, radio.scatter.shape, jnp.float32)
    return radio._replace(shadow_db=shadow.value, scatter=r * radio.scatter + fresh * w)


def distances(radio: Radio, time: base.Array, moving: events.EventParams) -> base.Array:
    """Distances ``[N]`` in metres after so many steps, of at least one metre."""
    seconds = time * moving.step_time
    place = mobility.straight_line(
        radio.start, radio.velocity, seconds, moving.half_width
    )
    distance = topology.distance_2d(place, jnp.zeros(2))
    return jnp.maximum(distance, REFERENCE_DISTANCE)


def snr_db(
    radio: Radio,
    time: base.Array,
    params: RadioParams,
    moving: events.EventParams,
    calibrated: bool = False,
    literal: frozenset[str] = frozenset(),
) -> base.Array:
    """SNRs of the links without events (equations 4 to 6).

        SNR = P_tx - L + 10 log10 |h|^2 - (N_0 + 10 log10 B + NF)
        L = L_0 + 10 n log10(d / d_0) + X

    Args:
      radio: the links.
      time: steps since the start, int.
      params: of the links.
      moving: speeds.
      calibrated: the SNR at the first place, averaged over fading and without
        shadowing, is mu_SNR,i of equation 1 instead; the rest is the same.
      literal: printed forms; "fading_sign" subtracts the gain, and "noise_power" takes
        the noise in one hertz for all noise.

    Returns:
      ``[N]`` in dB.
    """
    h = params.fading_std * radio.scatter
    power = (h[:, 0] + params.fading_mean) ** 2 + h[:, 1] ** 2
    fading_db = units.lin_to_db(jnp.maximum(power, _LEAST_GAIN))
    if "fading_sign" in literal:
        fading_db = -fading_db
    loss_db = _path_loss_db(distances(radio, time, moving), params)
    if calibrated:
        first_db = _path_loss_db(distances(radio, jnp.int32(0), moving), params)
        mean_db = radio.mean_snr_db - (loss_db - first_db)
    else:
        noise_dbm = params.noise_density_dbm_hz
        if "noise_power" not in literal:
            noise_dbm += params.noise_figure_db + units.lin_to_db(params.bandwidth_hz)
        mean_db = params.tx_power_dbm - loss_db - noise_dbm
    return mean_db - radio.shadow_db + fading_db


def with_budget(params: RadioParams, snr_db: base.Array) -> RadioParams:
    """The same links with more or less power.

    Args:
      params: of the links.
      snr_db: what their SNR shall be at the mean distance, averaged over fading and
        without shadowing; scalar in dB.

    Returns:
      The links; distances, shadowing and fading are the same.
    """
    noise_dbm = params.noise_density_dbm_hz + params.noise_figure_db
    noise_dbm += units.lin_to_db(jnp.asarray(params.bandwidth_hz, jnp.float32))
    loss_db = _path_loss_db(jnp.asarray(params.mean_distance), params)
    tx_power_dbm = snr_db + loss_db + noise_dbm
    return params._replace(tx_power_dbm=tx_power_dbm, mean_snr_db=snr_db)


def _path_loss_db(distance: base.Array, params: RadioParams) -> base.Array:
    return path_loss.log_distance(
        distance,
        params.path_loss_exponent,
        quantities.Db(params.reference_loss_db),
        REFERENCE_DISTANCE,
    ).value
