"""One request of speculative decoding between edge and cloud, event by event; NumPy.

The prompt's parts go up one after the other while the edge reads it; the cloud reads
when it has all. Then, round by round: the edge drafts, the draft goes up, the cloud
verifies, the answer comes down. Pipelined, the edge drafts ahead as soon as a draft has
left, as if all of it stood: if so, that draft leaves when the answer and it are there,
if not, the edge throws it away and drafts anew. Where the draft was not confident there
is nothing to go ahead from. For many requests at once: ``speculative_batch``, which
tells the same times without the events.
"""

from typing import NamedTuple

import numpy as np

from m3jax.costs import agenda, speculative_delays, speculative_rounds

PLACES = ("edge", "uplink", "cloud", "downlink")
KINDS = ("prefill", "draft", "wasted", "verify", "retry", "send")


class Span(NamedTuple):
    """Something that kept a place busy, for a Gantt chart.

    Attributes:
      place: one of `PLACES`.
      kind: one of `KINDS`.
      round: that it belongs to, -1 before decoding.
      start: seconds.
      end: seconds.
    """

    place: str
    kind: str
    round: int
    start: float
    end: float


class Timeline(NamedTuple):
    """What happened to a request.

    Attributes:
      spans: in the order of their ends.
      arrived: seconds at which the cloud had the prompt.
      started: at which decoding started.
      told: at which each round's tokens were there, ``[R]``.
      emitted: tokens of each round, ``[R]``.
    """

    spans: list[Span]
    arrived: float
    started: float
    told: np.ndarray
    emitted: np.ndarray

    @property
    def ended(self) -> float:
        """Seconds at which the last token was there."""
        return float(self.told[-1]) if len(self.told) else self.started

    def busy_s(self, place: str) -> float:
        """Seconds that a place was busy."""
        own = [span.end - span.start for span in self.spans if span.place == place]
        return float(sum(own))


def simulate(
    setting: speculative_delays.Setting,
    rounds: speculative_rounds.Rounds,
    delays: speculative_delays.Delays,
    number: int = 0,
) -> Timeline:
    """Plays one request to its end.

    Args:
      setting: who and what.
      rounds: of N requests.
      delays: of their messages, as ``speculative_delays.draw`` gives them.
      number: which of the N.

    Example:
      >>> from m3jax.costs import workers
      >>> setting = speculative_delays.Setting(
      ...     draft_s=0.01, verify_s=0.03, verify_token_s=0.0, rtt_s=0.02,
      ...     link=workers.Link(1e9, 1e9), pipelined=True)
      >>> rounds = speculative_rounds.make_rounds([[4, 4]], [[4, 1]])
      >>> rng = np.random.default_rng(0)
      >>> found = simulate(
      ...     setting, rounds, speculative_delays.draw(rng, setting, rounds))
      >>> found.told.round(3).tolist(), found.emitted.tolist()
      ([0.09, 0.14], [4, 2])
    """
    taken = slice(number, number + 1)
    rounds = speculative_rounds.Rounds(*(field[taken] for field in rounds))
    count = int(rounds.valid.sum())
    own = speculative_rounds.Rounds(*(field[0, :count] for field in rounds))
    run = _Run(setting, own, delays, number)
    run.at(0.0, run.begin)
    run.play()
    emitted = rounds.emitted(setting.pipelined)[0, :count]
    spans = sorted(run.spans, key=lambda span: span.end)
    return Timeline(spans, run.arrived, run.started, np.array(run.told), emitted)


class _Run(agenda.Agenda):
    """The state of a request, and what events do to it."""

    def __init__(self, setting, rounds, delays, number):
        super().__init__()
        self.setting, self.rounds = setting, rounds
        self.delays, self.number = delays, number
        self.spans: list[Span] = []
        self.unread = 2  # of edge and cloud
        self.arrived = self.started = 0.0
        self.told: list[float] = []
        self.answered = -1  # the last round whose answer is there
        self.drafted = -1  # the last round whose draft is there
        self.ahead: tuple[int, float, float] | None = None  # round, start, end

    def busy(self, place, kind, number, start, end):
        if end > start:
            self.spans.append(Span(place, kind, number, start, end))

    def message(self, time, place, number, sent, index) -> float:
        """Puts a message on the air; returns when it has been received."""
        lost, air = (float(part[self.number][index]) for part in sent[:2])
        self.busy(place, "retry", number, time, time + lost)
        self.busy(place, "send", number, time + lost, time + lost + air)
        return time + lost + air

    def begin(self, time):
        self.busy("edge", "prefill", -1, time, self.setting.edge_prefill_s)
        self.at(self.setting.edge_prefill_s, self.read)
        bits = self.delays.upload_bits[self.number]
        sent, half = time, 0.5 * self.setting.rtt_s * bool(np.any(bits > 0))
        for index in range(len(bits)):
            sent = self.message(sent, "uplink", -1, self.delays.upload, index)
        self.at(sent + half, self.arrive, half)

    def arrive(self, time, half):
        self.arrived = time
        end = time + self.setting.cloud_prefill_s
        self.busy("cloud", "prefill", -1, time, end)
        self.at(end + half, self.read)

    def read(self, time):
        self.unread -= 1
        if not self.unread:
            self.started = time
            self.draft(time, 0)

    def draft_s(self, number) -> float:
        return float(self.rounds.steps[number] * self.setting.draft_s)

    def draft(self, time, number):
        """Begins a draft that nothing but its own end decides on."""
        if number < len(self.rounds.drafted):
            end = time + self.draft_s(number)
            self.busy("edge", "draft", number, time, end)
            self.at(end, self.send, number)

    def full(self, number) -> bool:
        whole = self.rounds.accepted[number] == self.rounds.drafted[number]
        return bool(whole and not self.rounds.asked[number])

    def send(self, time, number):
        """A draft leaves, or stays; where one may go ahead, the next one begins."""
        if self.rounds.stays[number]:
            self.told.append(time)
            self.draft(time, number + 1)
            return
        end = self.message(time, "uplink", number, self.delays.up, number)
        self.at(end + 0.5 * self.setting.rtt_s, self.verify, number)
        last = number + 1 == len(self.rounds.drafted)
        if self.setting.pipelined and not self.rounds.asked[number] and not last:
            # How long a draft that will be thrown away would have been, none knows.
            own = number + 1 if self.full(number) else number
            self.ahead = number + 1, time, time + self.draft_s(own)
            if self.full(number):
                self.at(self.ahead[2], self.draft_ready, number + 1)

    def verify(self, time, number):
        more = self.rounds.drafted[number] * self.setting.verify_token_s
        end = time + self.setting.verify_s + float(more)
        self.busy("cloud", "verify", number, time, end)
        self.at(end, self.answer, number)

    def answer(self, time, number):
        end = self.message(time, "downlink", number, self.delays.down, number)
        self.at(end + 0.5 * self.setting.rtt_s, self.hear, number)

    def hear(self, time, number):
        self.told.append(time)
        self.answered = number
        if self.ahead is None:
            self.draft(time, number + 1)
        elif self.full(number):
            self.leave_if_ready(time, number + 1)
        else:
            _, start, end = self.ahead
            self.busy("edge", "wasted", number + 1, start, min(time, end))
            self.ahead = None
            self.draft(time, number + 1)

    def draft_ready(self, time, number):
        self.busy("edge", "draft", number, self.ahead[1], time)
        self.drafted = number
        self.leave_if_ready(time, number)

    def leave_if_ready(self, time, number):
        if self.drafted == number and self.answered == number - 1:
            self.ahead = None
            self.send(time, number)
