"""Batches that pass blocks of experts on several machines, event by event; NumPy.

A batch starts a block when the one before has ended. Its tokens queue at the workers of
their experts, first come first served; a worker takes one at a time: down, compute, up.
The block ends with its last token. Without jitter, loss and rivals that is

    max_k q_k (L / R_d,k + L / R_u,k + F / C_k)     (WDMoE, equations 6 to 11)

Links jitter and lose transmissions by the laws of ``channels/arq.py``; what is given up
after the last one is sent anew after a timeout that doubles, as TCP does (``workers``).
A worker that fails in the middle drops what it has; its tokens go to their next expert
by weight.
"""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from m3jax.costs import agenda, timeline_events
from m3jax.costs import workers as machines


def simulate(
    workers: Sequence[machines.Worker],
    rankings: np.ndarray,
    *,
    payload_bits: float,
    num_asked: np.ndarray | int = 2,
    placement: Sequence[int] | None = None,
    arrivals_s: Sequence[float] | None = None,
    failures_s: Mapping[int, float] | None = None,
    seed: int | Sequence[int] = 0,
) -> timeline_events.Timeline:
    """Runs all batches to their ends.

    Args:
      workers: W of them.
      rankings: experts of each token by weight, ``[N, L, T, n]``, batches, blocks,
        tokens; the first ``num_asked`` work, the others stand by.
      payload_bits: of a token, one way.
      num_asked: experts of a token, scalar or ``[N, L, T]``.
      placement: worker of each expert, ``[n]``; expert i on worker i if None.
      arrivals_s: when batches arrive, ``[N]``; all at 0 if None.
      failures_s: worker -> when it fails, for good.
      seed: of jitter and losses.

    Returns:
      A `timeline_events.Timeline`; the same for the same seed.

    Raises:
      ValueError: shapes do not fit, or an expert is on no worker.

    Example:
      >>> server = machines.Worker("server", token_s=1.0)
      >>> phone = machines.Worker("phone", 1.0, machines.Link(8.0, 4.0))
      >>> found = simulate([server, phone], np.array([[[[1, 0]]]]), payload_bits=8.0)
      >>> found.ends.tolist()
      [[4.0]]
    """
    rankings = np.asarray(rankings)
    if rankings.ndim != 4 or not rankings.size:
        raise ValueError(f"rankings must be [N, L, T, n], got {rankings.shape}.")
    if placement is None:
        placement = np.arange(rankings.shape[-1])
    if len(placement) < rankings.shape[-1] or not all(
        0 <= worker < len(workers) for worker in placement
    ):
        raise ValueError(
            f"placement {list(placement)} does not put each of {rankings.shape[-1]}"
            f" experts on one of {len(workers)} workers."
        )
    asked = np.broadcast_to(num_asked, rankings.shape[:3])
    run = _Run(workers, rankings, asked, list(placement), payload_bits, seed)
    arrivals = np.zeros(len(rankings)) if arrivals_s is None else arrivals_s
    for worker, time in (failures_s or {}).items():
        run.at(time, run.fail, worker)
    for batch, time in enumerate(arrivals):
        run.at(time, run.start_block, batch, 0)
    run.play()
    return run.finished()


class _Run(agenda.Agenda):
    """The state of a simulation, and what events do to it."""

    def __init__(self, workers, rankings, asked, placement, payload_bits, seed):
        super().__init__()
        self.workers, self.placement = workers, placement
        self.rankings, self.asked, self.bits = rankings, asked, payload_bits
        self.rng = np.random.default_rng(seed)
        shape = rankings.shape[:2]
        self.queues = [collections.deque() for _ in workers]
        self.busy = [None] * len(workers)
        self.dead = [False] * len(workers)
        self.tried: dict = {}  # token of a block -> experts that it was given
        self.pending = np.zeros(shape, int)
        self.starts, self.ends = np.full(shape, np.nan), np.full(shape, np.nan)
        self.seconds = np.zeros((*shape, len(workers)))
        self.tokens = np.zeros((*shape, len(workers)), int)
        self.events: list[timeline_events.Event] = []
        self.rerouted: list[timeline_events.Rerouted] = []

    def finished(self) -> timeline_events.Timeline:
        return timeline_events.Timeline(
            sorted(self.events, key=lambda event: event.end),
            self.rerouted,
            self.starts,
            self.ends,
            self.seconds,
            self.tokens,
        )

    def start_block(self, time, batch, block):
        self.starts[batch, block] = time
        ranking, asked = self.rankings[batch, block], self.asked[batch, block]
        self.pending[batch, block] = asked.sum()
        for token, (experts, count) in enumerate(zip(ranking, asked, strict=True)):
            self.tried[batch, block, token] = {int(e) for e in experts[:count]}
        for token, (experts, count) in enumerate(zip(ranking, asked, strict=True)):
            for expert in experts[:count]:
                self.give(time, (batch, block, token, int(expert)))
        self.end_block_if_done(time, batch, block)

    def give(self, time, task):
        """Queues a task, or reroutes it if its worker has failed."""
        worker = self.placement[task[3]]
        if self.dead[worker]:
            self.reroute(time, task)
            return
        self.queues[worker].append(task)
        self.serve(time, worker)

    def serve(self, time, worker):
        if self.busy[worker] is not None or not self.queues[worker]:
            return
        task = self.queues[worker].popleft()
        parts, end = [], time
        for kind, length in self.lengths(self.workers[worker]):
            if length > 0.0:
                parts.append(
                    timeline_events.Event(worker, *task, end, end + length, kind)
                )
                end += length
        self.busy[worker] = (task, parts)
        self.at(end, self.finish, worker, task)

    def lengths(self, worker):
        if worker.link is None:
            return [("compute", worker.token_s)]
        link = worker.link
        lost_down, down = link.send(self.rng, self.bits, link.down_bits_per_s)
        lost_up, up = link.send(self.rng, self.bits, link.up_bits_per_s)
        return [
            ("retry", lost_down),
            ("down", down),
            ("compute", worker.token_s),
            ("retry", lost_up),
            ("up", up),
        ]

    def finish(self, time, worker, task):
        if self.dead[worker]:
            return  # it failed before
        batch, block, _, _ = task
        self.events += self.busy[worker][1]
        self.busy[worker] = None
        self.tokens[batch, block, worker] += 1
        self.seconds[batch, block, worker] = time - self.starts[batch, block]
        self.done(time, batch, block)
        self.serve(time, worker)

    def done(self, time, batch, block):
        self.pending[batch, block] -= 1
        self.end_block_if_done(time, batch, block)

    def end_block_if_done(self, time, batch, block):
        if self.pending[batch, block] or not np.isnan(self.ends[batch, block]):
            return
        self.ends[batch, block] = time
        if block + 1 < self.ends.shape[1]:
            self.at(time, self.start_block, batch, block + 1)

    def fail(self, time, worker):
        if self.dead[worker]:
            return
        self.dead[worker] = True
        dropped = list(self.queues[worker])
        self.queues[worker].clear()
        if self.busy[worker] is not None:
            task, parts = self.busy[worker]
            self.events += [part for part in parts if part.end <= time]
            cut = [part for part in parts if part.start < time < part.end]
            self.events += [part._replace(end=time, kind="failed") for part in cut]
            self.busy[worker] = None
            dropped.insert(0, task)
        for task in dropped:
            self.reroute(time, task)

    def reroute(self, time, task):
        batch, block, token, expert = task
        tried = self.tried[batch, block, token]
        for other in self.rankings[batch, block, token]:
            if int(other) not in tried and not self.dead[self.placement[other]]:
                tried.add(int(other))
                self.rerouted.append(timeline_events.Rerouted(*task, int(other), time))
                self.give(time, (batch, block, token, int(other)))
                return
        self.rerouted.append(timeline_events.Rerouted(*task, -1, time))
        self.done(time, batch, block)
