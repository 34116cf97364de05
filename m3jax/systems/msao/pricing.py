"""What requests take that edge and cloud share, at the size of published models.

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
    inference,
    layer_split,
    offload,
    payload,
    speculative_batch,
    speculative_delays,
    speculative_rounds,
    vision_language,
    workers,
)
from m3jax.systems.msao import overheads


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


def speculative(
    rng: np.random.Generator,
    place: Place,
    rounds: speculative_rounds.Rounds,
    cloud: Read,
    edge: Read,
) -> Work:
    """Edge and cloud together.

    Args:
      rng: of the link.
      place: machines and link.
      rounds: what was drafted and accepted; of ``place.pipelined`` or not.
      cloud: what the cloud reads, and is sent.
      edge: what the edge reads.
    """
    return _run(rng, place, rounds, cloud, edge, setting)


def cloud_only(
    rng: np.random.Generator,
    place: Place,
    lengths: np.ndarray,
    read: Read | None = None,
) -> Work:
    """The cloud says every token; they come down as a stream.

    Args:
      rng: of the link.
      place: machines and link.
      lengths: tokens of each answer, ``[N]``.
      read: what goes up; None: everything.
    """
    num, link, machines = len(lengths), place.link, place.machines
    read = everything(num) if read is None else read
    seen, bits = read.tokens(place.scale), read.bits(place.scale)
    text = place.scale.text_tokens
    reading_s = vision_language.prefill_time(
        machines.cloud, machines.target, text, seen
    )
    token_s = inference.decode_time(
        machines.cloud, machines.target.language, text + seen
    )
    upload = link.transmit(rng, bits, link.up_bits_per_s)
    word_bits = payload.token_bits(machines.target.language.vocab_size)
    last = link.transmit(rng, np.full(num, word_bits), link.down_bits_per_s)
    requests = speculative_batch.zeros(num)._replace(
        upload_s=upload.seconds.sum(axis=1) + 0.5 * place.rtt_s,
        prefill_s=np.asarray(reading_s),
        decode_s=lengths * token_s + 0.5 * place.rtt_s + last.seconds,
        cloud_s=reading_s + lengths * token_s,
        up_s=upload.seconds.sum(axis=1),
        down_s=last.seconds,
        up_bits=(upload.transmissions * bits).sum(axis=1),
        down_bits=(lengths - 1 + last.transmissions) * word_bits,
        tokens=lengths,
        scored=lengths,
        rounds=lengths,
    )
    work = _with_resources(place, requests, seen, np.zeros(num, int))
    return work._replace(edge_flops=np.zeros(num), edge_bytes=np.zeros(num))


def edge_only(place: Place, lengths: np.ndarray, read: Read | None = None) -> Work:
    """Nothing is sent, and the draft model says every token.

    Args:
      place: machines.
      lengths: tokens of each answer, ``[N]``.
      read: what the draft reads; None: everything.
    """
    num = len(lengths)
    read = everything(num) if read is None else read
    rounds = speculative_rounds.make_rounds(
        lengths[:, None], lengths[:, None], stays=True
    )

    def alone(place, seen, edge_seen):
        both = setting(place, seen, edge_seen)
        return dataclasses.replace(both, cloud_prefill_s=0.0)

    nothing = Read(np.zeros(num), np.zeros(num))
    rng = np.random.default_rng(0)  # nothing is sent, so nothing is drawn
    work = _run(rng, place, rounds, nothing, read, alone)
    return work._replace(cloud_flops=np.zeros(num), cloud_bytes=np.zeros(num))


def split(
    rng: np.random.Generator,
    place: Place,
    lengths: np.ndarray,
    share: float = 0.5,
    bits_per_real: int = 16,
) -> Work:
    """The cloud's model, cut between two layers.

    Args:
      rng: of the link.
      place: machines and link.
      lengths: tokens of each answer, ``[N]``.
      share: of its layers on the edge.
      bits_per_real: of a hidden state's numbers on their way.
    """
    machines, scale = place.machines, place.scale
    cut = layer_split.Split(
        machines.edge, machines.cloud, machines.target, share, bits_per_real
    )
    seen = scale.image_tokens + scale.audio_tokens
    requests = layer_split.run(
        *(rng, cut, place.link),
        text=scale.text_tokens,
        seen=seen,
        answer=lengths,
        rtt_s=place.rtt_s,
    )
    context = scale.text_tokens + seen + lengths
    return Work(
        requests,
        *cut.flops(scale.text_tokens, seen, lengths),
        *cut.memory_bytes(context),
    )


def with_probes(place: Place, work: Work) -> Work:
    """The same after the probes have looked at the whole request on the edge."""
    scale, edge = place.scale, place.machines.edge
    side = round(28 * scale.image_tokens**0.5)
    seconds_of_sound = scale.audio_tokens // overheads.SOUND_TOKENS_PER_S
    asked = overheads.Input(scale.text_tokens, side, 1, seconds_of_sound)
    added = overheads.overhead(asked, place.machines)
    before_s = added.seconds + added.early_flops / edge.usable_flops_per_s
    requests = work.requests
    return work._replace(
        requests=requests._replace(
            upload_s=requests.upload_s + before_s, edge_s=requests.edge_s + before_s
        ),
        edge_flops=work.edge_flops + added.flops + added.early_flops,
    )


def drafting(
    place: Place, lengths: np.ndarray, read: Read
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and operations of an answer that the draft says, after reading.

    Args:
      place: machines.
      lengths: tokens of each answer, ``[N]``.
      read: what was read.
    """
    context = place.scale.text_tokens + read.tokens(place.scale)
    machines, language = place.machines, place.machines.draft.language
    seconds = inference.decode_time(machines.edge, language, context)
    return lengths * seconds, lengths * language.decode_flops(context)


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


def _run(
    rng: np.random.Generator,
    place: Place,
    rounds: speculative_rounds.Rounds,
    cloud: Read,
    edge: Read,
    make_setting: Callable[[Place, int, int], speculative_delays.Setting],
) -> Work:
    """Runs requests that have read alike together, and puts them in order again."""
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
    return _with_resources(place, requests, *seen.T)


def _with_resources(place, requests, in_cloud, on_edge) -> Work:
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
