"""Parameters and state of routing to experts over wireless links."""

from typing import NamedTuple

from m3jax import base
from m3jax.envs.expert_routing import events, radio, scoring, tasks


class Params(NamedTuple):
    """Everything that may change without a new compilation.

    Attributes:
      tasks: K tasks and N experts.
      radio: what the links are drawn from.
      events: what goes wrong; nothing by default.
      rewards: weights and thresholds.
      task_change: probability that a new task arrives with a step.
      report_noise_db: standard deviation of the reports' errors.
      report_delay: steps by which the reports are late, at most ``max_delay``.
      report_loss: probability that the report of a link is missing.
      max_steps: steps of an episode.
    """

    tasks: tasks.Tasks
    radio: radio.RadioParams
    events: events.EventParams
    rewards: scoring.RewardParams
    task_change: base.Array = 1.0
    report_noise_db: base.Array = 2.0
    report_delay: base.Array = 1
    report_loss: base.Array = 0.0
    max_steps: base.Array = 100


def make_params(given: tasks.Tasks) -> Params:
    """The paper's parameters for these tasks, without events."""
    return Params(
        tasks=given,
        radio=radio.RadioParams(),
        events=events.EventParams(),
        rewards=scoring.RewardParams(),
    )


class State(NamedTuple):
    """Where an episode stands.

    Attributes:
      time: int32, steps taken.
      task: int32, the task that waits.
      radio: the links.
      events: what is wrong.
      history: [1 + max_delay, N], SNRs in dB, the present ones first.
      weights: [N], final weights of the last step; 0 before the first.
      earned: [2], semantic and channel reward of the last step.
    """

    time: base.Array
    task: base.Array
    radio: radio.Radio
    events: events.Events
    history: base.Array
    weights: base.Array
    earned: base.Array


def scene(state: State, params: Params) -> scoring.Scene:
    """The truth that the rewards of a step depend on."""
    core, irrelevant, competence = (row[state.task] for row in params.tasks)
    return scoring.Scene(
        core=core,
        irrelevant=irrelevant,
        competence=competence * state.events.reliability,
        snr_db=state.history[0],
        live=state.events.live,
    )
