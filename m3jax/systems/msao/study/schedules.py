"""How the edge drafts: chosen on scenes that nothing else is measured on."""

import functools
from typing import NamedTuple

import numpy as np

from m3jax.costs import speculative_rounds
from m3jax.systems.msao import pricing, ways
from m3jax.systems.msao.study import shared, variants


class Schedule(NamedTuple):
    """What the edge does.

    Attributes:
      draft_length: gamma.
      threshold: of normalised entropy, above which the cloud is asked; 1: never.
      reads_all: whether the draft reads all that there is, or what the cloud gets.
    """

    draft_length: int
    threshold: float
    reads_all: bool


def every(settings: variants.Settings) -> list[Schedule]:
    """All schedules to choose from."""
    return [
        Schedule(length, threshold, reads_all)
        for length in settings.draft_lengths
        for threshold in settings.thresholds
        for reads_all in (True, False)
    ]


def play(
    rng: np.random.Generator,
    place: pricing.Place,
    said: shared.Said,
    schedule: Schedule,
) -> pricing.Work:
    """What requests take by a schedule.

    Args:
      rng: of the link.
      place: machines and link.
      said: what the target says, and where the draft agrees.
      schedule: of the edge.
    """
    rounds = rounds_of(place, said, schedule)
    num = len(said.words)
    edge = pricing.everything(num) if schedule.reads_all else said.read
    return ways.speculative(rng, place, rounds, said.read, edge)


def rounds_of(
    place: pricing.Place, said: shared.Said, schedule: Schedule
) -> speculative_rounds.Rounds:
    """The rounds of a schedule."""
    threshold = None if schedule.threshold >= 1.0 else schedule.threshold
    return speculative_rounds.of_agreement(
        *(said.whole if schedule.reads_all else said.same),
        draft_length=schedule.draft_length,
        threshold=threshold,
        pipelined=place.pipelined,
    )


@functools.cache
def chosen(made: shared.Shared, workload: str, rate: float) -> Schedule:
    """The schedule of least mean latency, of all, on scenes of another seed."""
    said = _tuning(made, workload)
    place = made.settings.places[rate]
    tried = every(made.settings)
    means = [
        play(np.random.default_rng(0), place, said, one).requests.total_s.mean()
        for one in tried
    ]
    return tried[int(np.argmin(means))]


@functools.cache
def _tuning(made: shared.Shared, workload: str) -> shared.Said:
    return made.said(workload, shared.TUNING_SEED)[0][variants.MSAO]
