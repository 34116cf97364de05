"""What goes wrong: bursts, failures, blockage, mobility and drift.

Each event is off at its default rate or speed of 0 and needs no new compilation to be
switched on. What happens by chance and what is set for a certain step go together.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base

NEVER = -1


class EventParams(NamedTuple):
    """Rates are probabilities for a step.

    Attributes:
      burst_rate: that an interferer appears. It hits some links at once.
      burst_stop: that it goes again.
      burst_share: probability for each link to be among those hit.
      burst_loss_db: what a hit link loses.
      burst_at: a further burst begins at this step (from 1 on); -1: none does.
      burst_until: the step at which that one is over; -1: never.
      failure_rate: that an expert fails. The last live one never does.
      return_rate: that it comes back.
      failing_expert: this one fails for certain; -1: none does.
      fails_at: at this step (from 1 on).
      returns_at: the step at which it may be back; -1: never.
      blockage_rate: that a link is blocked.
      unblock_rate: that it is free again.
      blockage_loss_db: what a blocked link loses.
      drift_std: standard deviation of a step of an expert's reliability.
      least_reliability: the reliability below which none falls, in [0, 1].
      speed: of the experts' devices in metres per second.
      step_time: seconds that a step takes.
      half_width: metres from the coordinator to the walls that devices turn at.
      correlation_distance: metres over which shadowing falls to 1/e in correlation.
    """

    burst_rate: base.Array = 0.0
    burst_stop: base.Array = 0.2
    burst_share: base.Array = 0.5
    burst_loss_db: base.Array = 20.0
    burst_at: base.Array = NEVER
    burst_until: base.Array = NEVER
    failure_rate: base.Array = 0.0
    return_rate: base.Array = 0.1
    failing_expert: base.Array = NEVER
    fails_at: base.Array = NEVER
    returns_at: base.Array = NEVER
    blockage_rate: base.Array = 0.0
    unblock_rate: base.Array = 0.2
    blockage_loss_db: base.Array = 15.0
    drift_std: base.Array = 0.0
    least_reliability: base.Array = 0.5
    speed: base.Array = 0.0
    step_time: base.Array = 0.1
    half_width: base.Array = 1000.0
    correlation_distance: base.Array = 50.0


def all_on() -> EventParams:
    """All five kinds by chance, at moderate rates."""
    return EventParams(
        burst_rate=0.02,
        failure_rate=0.005,
        blockage_rate=0.02,
        drift_std=0.01,
        speed=10.0,
    )


class Events(NamedTuple):
    """What is wrong at present, for N experts.

    Attributes:
      interferer: bool scalar, whether one is there by chance.
      bursting: bool scalar, whether any is there, by chance or set.
      hit: bool [N], the links that it hits.
      up: bool [N], the experts that have not failed by chance.
      live: bool [N], those that have not failed at all; never empty.
      blocked: bool [N], the links that are blocked.
      reliability: float32 [N] in [0, 1], factor of the experts' competence.
    """

    interferer: base.Array
    bursting: base.Array
    hit: base.Array
    up: base.Array
    live: base.Array
    blocked: base.Array
    reliability: base.Array


def start(num_experts: int) -> Events:
    """Nothing is wrong."""
    none = jnp.zeros(num_experts, bool)
    no = jnp.zeros((), bool)
    return Events(no, no, none, ~none, ~none, none, jnp.ones(num_experts, jnp.float32))


def advance(
    key: base.Array, state: Events, time: base.Array, params: EventParams
) -> Events:
    """What is wrong a step later.

    Args:
      key: PRNG key, consumed.
      state: before the step.
      time: the step that begins, int scalar.
      params: rates.

    Returns:
      After the step.
    """
    chance_key, drift_key = jax.random.split(key)
    num_experts = state.live.shape[0]
    chance = jax.random.uniform(chance_key, (4, num_experts), jnp.float32)
    interferer = _switch(
        state.interferer, chance[0, 0], params.burst_rate, params.burst_stop
    )
    bursting = interferer | _within(time, params.burst_at, params.burst_until)
    newly_hit = chance[1] < params.burst_share
    hit = bursting & jnp.where(state.bursting, state.hit, newly_hit)
    failed = _switch(~state.up, chance[2], params.failure_rate, params.return_rate)
    up = jnp.where(jnp.all(failed), state.up, ~failed)
    drift = jax.random.normal(drift_key, (num_experts,), jnp.float32)
    walk = params.drift_std * drift
    return Events(
        interferer=interferer,
        bursting=bursting,
        hit=hit,
        up=up,
        live=_live(up, time, params),
        blocked=_switch(
            state.blocked, chance[3], params.blockage_rate, params.unblock_rate
        ),
        reliability=jnp.clip(state.reliability + walk, params.least_reliability, 1.0),
    )


def loss_db(state: Events, params: EventParams) -> base.Array:
    """What the links lose by bursts and blockage, ``[N]`` in dB."""
    burst = jnp.where(state.hit, params.burst_loss_db, 0.0)
    return burst + jnp.where(state.blocked, params.blockage_loss_db, 0.0)


def _switch(
    on: base.Array, chance: base.Array, start_rate: base.Array, stop_rate: base.Array
) -> base.Array:
    """A step of a two-state Markov chain; ``chance`` is uniform in [0, 1)."""
    return jnp.where(on, chance >= stop_rate, chance < start_rate)


def _within(time: base.Array, first: base.Array, end: base.Array) -> base.Array:
    """From a step on until another; an end of -1 never comes."""
    is_before = (time < end) | (jnp.asarray(end) < 0)
    return (time >= first) & is_before & (jnp.asarray(first) >= 0)


def _live(up: base.Array, time: base.Array, params: EventParams) -> base.Array:
    out = _within(time, params.fails_at, params.returns_at)
    out &= jnp.arange(up.shape[0]) == params.failing_expert
    live = up & ~out
    # If the others have failed by chance, the one that should fail stays.
    return jnp.where(jnp.any(live), live, up)
