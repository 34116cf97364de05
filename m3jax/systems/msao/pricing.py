"""Requests at the size of published models, between an edge and a cloud.

Which words are said, and which drafts stand, is measured on small networks. What that
takes is told for the machines and models of MSAO's evaluation: a window of our picture
stands for a sixteenth of one of 448 x 448 pixels, our sound for ten seconds.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from m3jax.channels import packet_loss
from m3jax.costs import (
    offload,
    speculative_batch,
    speculative_delays,
    speculative_rounds,
    workers,
)


@dataclasses.dataclass(frozen=True)
class Scale:
    """What a request is at that size; the sizes are those of ``envs.edge_cloud``.

    Attributes:
      image_tokens: of a whole picture.
      audio_tokens: of the sound.
      image_bits: of a whole picture, as JPEG at a bit for a pixel.
      audio_bits: of the sound, at 64 kbit/s.
      text_tokens: of the question.
    """

    image_tokens: int = 256
    audio_tokens: int = 250
    image_bits: float = 2e5
    audio_bits: float = 6.4e5
    text_tokens: int = 40


@dataclasses.dataclass(frozen=True)
class Place:
    """Machines, and the link between them.

    Attributes:
      link: seen from the edge.
      machines: edge and cloud.
      scale: of requests.
      rtt_s: round-trip time.
      pipelined: the edge drafts the next round while one is away.
    """

    link: workers.Link
    machines: offload.Machines = offload.Machines()
    scale: Scale = Scale()
    rtt_s: float = 0.02
    pipelined: bool = True


class Work(NamedTuple):
    """What N requests took, ``[N]`` each but for the first.

    Attributes:
      requests: seconds and bits.
      edge_flops: operations on the edge.
      cloud_flops: in the cloud.
      edge_bytes: weights and cache on the edge; what it does not hold counts nothing.
      cloud_bytes: in the cloud.
    """

    requests: speculative_batch.Requests
    edge_flops: np.ndarray
    cloud_flops: np.ndarray
    edge_bytes: np.ndarray
    cloud_bytes: np.ndarray


class Read(NamedTuple):
    """What one side has read of N requests.

    Attributes:
      image: ``[N]``, share of the picture, 0 to 1.
      audio: ``[N]``, share of the sound.
    """

    image: np.ndarray
    audio: np.ndarray

    def tokens(self, scale: Scale) -> np.ndarray:
        """Of the decoder, whole numbers ``[N]``."""
        seen = self.image * scale.image_tokens + self.audio * scale.audio_tokens
        return np.rint(seen).astype(int)

    def bits(self, scale: Scale) -> np.ndarray:
        """Of picture and sound as they are sent, ``[N, 2]``."""
        parts = self.image * scale.image_bits, self.audio * scale.audio_bits
        return np.stack(parts, axis=-1)


def fading_link(
    megabits_per_s: float, fading_snr_db: float = 15.0, loss: float = 0.05
) -> workers.Link:
    """A link of a nominal rate both ways, that fades and loses.

    Args:
      megabits_per_s: 200, 300 or 400 in the paper; 1, 5 or 20 at the edge of a cell.
      fading_snr_db: mean SNR of its Rayleigh blocks; inf: it does not fade.
      loss: probability that a message must be sent again.
    """
    rate = 1e6 * megabits_per_s
    link = workers.Link(rate, rate, fading_snr_db=fading_snr_db)
    return workers.lossy(link, packet_loss.IndependentLoss(loss)) if loss else link


def everything(num: int) -> Read:
    """All of picture and sound."""
    return Read(np.ones(num), np.ones(num))


def setting(place: Place, seen: int, edge_seen: int) -> speculative_delays.Setting:
    """Times of the machines where both sides have read so many tokens of it all.

    Args:
      place: machines and link.
      seen: tokens that the cloud has read, but for the question.
      edge_seen: and the edge.
    """
    machines = place.machines
    return speculative_delays.of_machines(
        *(machines.edge, machines.draft, machines.cloud, machines.target, place.link),
        text=place.scale.text_tokens,
        seen=seen,
        edge_seen=edge_seen,
        rtt_s=place.rtt_s,
        pipelined=place.pipelined,
    )


def run(
    rng: np.random.Generator,
    place: Place,
    rounds: speculative_rounds.Rounds,
    cloud: Read,
    edge: Read,
    make_setting: Callable[[Place, int, int], speculative_delays.Setting],
) -> Work:
    """Runs requests that have read alike together, and puts them in order again.

    Args:
      rng: of the link.
      place: machines and link.
      rounds: what was drafted and accepted.
      cloud: what the cloud reads, and is sent.
      edge: what the edge reads.
      make_setting: as `setting`.
    """
    seen = np.stack([read.tokens(place.scale) for read in (cloud, edge)], axis=1)
    bits = cloud.bits(place.scale)
    kinds, which = np.unique(seen, axis=0, return_inverse=True)
    found, order = [], []
    for number, (in_cloud, on_edge) in enumerate(kinds):
        rows = np.flatnonzero(which.ravel() == number)
        own = speculative_rounds.Rounds(*(part[rows] for part in rounds))
        kind = make_setting(place, int(in_cloud), int(on_edge))
        delays = speculative_delays.draw(rng, kind, own, bits[rows])
        found.append(speculative_batch.run(kind, own, delays))
        order.append(rows)
    back = np.argsort(np.concatenate(order))
    requests = speculative_batch.Requests(
        *(np.concatenate(parts)[back] for parts in zip(*found, strict=True))
    )
    return with_resources(place, requests, *seen.T)


def with_resources(
    place: Place,
    requests: speculative_batch.Requests,
    in_cloud: np.ndarray,
    on_edge: np.ndarray,
) -> Work:
    """Requests with their operations and bytes.

    Args:
      place: machines.
      requests: what they took.
      in_cloud: tokens that the cloud has read of each, but for the question, ``[N]``.
      on_edge: and the edge.
    """
    text, machines = place.scale.text_tokens, place.machines
    draft, target = machines.draft, machines.target
    edge_flops = draft.prefill_flops(text, on_edge)
    edge_flops += requests.steps * draft.language.decode_flops(text + on_edge)
    cloud_flops = target.prefill_flops(text, in_cloud)
    cloud_flops += requests.scored * target.language.decode_flops(text + in_cloud)
    return Work(
        requests,
        edge_flops,
        cloud_flops,
        draft.memory_bytes(text + on_edge + requests.tokens),
        target.memory_bytes(text + in_cloud + requests.tokens),
    )
