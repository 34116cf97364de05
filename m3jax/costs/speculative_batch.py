"""Speculative decoding between edge and cloud, many requests at once; NumPy.

The same model as ``speculative_timeline``, event by event, without the events. With
send_r the time at which round r's draft leaves, trip_r = uplink + RTT + t_0 + gamma t_1
+ downlink and d_r the seconds of its draft,

    send_{r+1} - send_r = trip_r + d_{r+1},   one after the other
                        = max(trip_r, d_{r+1}),   pipelined, if round r is full

since a draft that was made ahead is thrown away with the first token that does not
stand. Before, the prompt's parts go up one after the other, and

    decoding starts at max(edge prefill, upload + RTT + cloud prefill)

(MSAO, equation 14, with one RTT and not one for each modality).
"""

from typing import NamedTuple

import numpy as np

from m3jax.costs import devices, speculative_delays, speculative_rounds


class Requests(NamedTuple):
    """What N requests took, ``[N]``.

    Attributes:
      upload_s: until the cloud has the prompt.
      prefill_s: from then until both have read it.
      decode_s: from then until the last token is there.
      edge_s: that the edge computes.
      wasted_s: of them, drafts that were made ahead and thrown away.
      cloud_s: that the cloud computes.
      up_s: that the edge sends, what is lost on the way too.
      down_s: that it receives.
      up_bits: on the air, each transmission counted.
      down_bits: as well.
      tokens: that were emitted.
      drafted: tokens that were drafted.
      accepted: that stand.
      steps: forward passes of the draft model, wasted ones too.
      scored: tokens that the target's passes scored, drafted + 1 each.
      rounds: passes of the target.
    """

    upload_s: np.ndarray
    prefill_s: np.ndarray
    decode_s: np.ndarray
    edge_s: np.ndarray
    wasted_s: np.ndarray
    cloud_s: np.ndarray
    up_s: np.ndarray
    down_s: np.ndarray
    up_bits: np.ndarray
    down_bits: np.ndarray
    tokens: np.ndarray
    drafted: np.ndarray
    accepted: np.ndarray
    steps: np.ndarray
    scored: np.ndarray
    rounds: np.ndarray

    @property
    def total_s(self) -> np.ndarray:
        """From the question to the last token."""
        return self.upload_s + self.prefill_s + self.decode_s

    @property
    def tokens_per_s(self) -> np.ndarray:
        """While decoding."""
        return self.tokens / self.decode_s

    def energy_j(
        self, edge: devices.Device, cloud: devices.Device, radio_w: float = 1.0
    ) -> dict[str, np.ndarray]:
        """Joules of the edge's computing, of its radio while sending, of the cloud.

        Args:
          edge: who drafts; waits at ``idle_power_w``.
          cloud: who verifies; what it does meanwhile is others' work.
          radio_w: that the edge's radio draws while it sends, its amplifier's losses
            included; 1 W is a phone's for 23 dBm.
        """
        waiting = np.maximum(self.total_s - self.edge_s, 0.0)
        return {
            "edge": edge.power_w * self.edge_s + edge.idle_power_w * waiting,
            "radio": radio_w * self.up_s,
            "cloud": cloud.power_w * self.cloud_s,
        }


def zeros(num: int) -> Requests:
    """N requests that have taken nothing."""
    return Requests(*(np.zeros(num) for _ in Requests._fields))


def run(
    setting: speculative_delays.Setting,
    rounds: speculative_rounds.Rounds,
    delays: speculative_delays.Delays,
) -> Requests:
    """Runs N requests, each alone.

    Args:
      setting: who and what.
      rounds: what is drafted and accepted.
      delays: of their messages, as ``speculative_delays.draw`` gives them.

    Example:
      >>> from m3jax.costs import workers
      >>> setting = speculative_delays.Setting(
      ...     draft_s=0.01, verify_s=0.03, verify_token_s=0.0, rtt_s=0.02,
      ...     link=workers.Link(1e9, 1e9))
      >>> rounds = speculative_rounds.make_rounds([[4, 4]], [[4, 1]])
      >>> rng = np.random.default_rng(0)
      >>> found = run(setting, rounds, speculative_delays.draw(rng, setting, rounds))
      >>> found.decode_s.round(4).tolist(), found.tokens.tolist()
      ([0.18], [7])
    """
    valid, sent = rounds.valid, rounds.valid & ~rounds.stays
    draft_s = rounds.steps * setting.draft_s
    drafted = np.maximum(rounds.drafted, 0)
    pass_s = setting.verify_s + drafted * setting.verify_token_s
    away = setting.rtt_s + pass_s + delays.up.seconds + delays.down.seconds
    trip = np.where(sent, away, 0.0)
    later = np.zeros_like(valid)
    later[:, :-1] = valid[:, 1:]
    following = np.zeros_like(draft_s)
    following[:, :-1] = draft_s[:, 1:]
    one_by_one = trip + following
    ahead = setting.pipelined & rounds.full & later
    between = np.where(ahead, np.maximum(trip, following), one_by_one)
    upload = delays.upload.seconds.sum(axis=1)
    some = np.any(delays.upload_bits > 0, axis=1)
    arrived = upload + some * 0.5 * setting.rtt_s
    known = arrived + some * 0.5 * setting.rtt_s + setting.cloud_prefill_s
    start = np.maximum(known, setting.edge_prefill_s)
    # Drafts ahead of rounds that do not stand: as long as those, cut by the answer.
    wrong = setting.pipelined & sent & ~rounds.full & ~rounds.asked & later
    wasted = np.where(wrong, np.minimum(trip, draft_s), 0.0)
    passes = np.where(sent, pass_s, 0.0).sum(axis=1)
    thrown = wasted / setting.draft_s if setting.draft_s else 0.0 * wasted
    return Requests(
        upload_s=arrived,
        prefill_s=start - arrived,
        decode_s=np.where(valid, between, 0.0).sum(axis=1) + draft_s[:, 0],
        edge_s=setting.edge_prefill_s + (draft_s + wasted).sum(axis=1),
        wasted_s=wasted.sum(axis=1),
        cloud_s=setting.cloud_prefill_s + passes,
        up_s=upload + delays.up.seconds.sum(axis=1),
        down_s=delays.down.seconds.sum(axis=1),
        up_bits=(delays.upload.transmissions * delays.upload_bits).sum(axis=1)
        + (delays.up.transmissions * delays.up_bits).sum(axis=1),
        down_bits=(delays.down.transmissions * delays.down_bits).sum(axis=1),
        tokens=rounds.emitted(setting.pipelined).sum(axis=1),
        drafted=drafted.sum(axis=1),
        accepted=rounds.accepted.sum(axis=1),
        steps=(rounds.steps + thrown).sum(axis=1),
        scored=np.where(sent, drafted + 1, 0).sum(axis=1),
        rounds=sent.sum(axis=1),
    )
