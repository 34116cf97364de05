"""Ways to answer between edge and cloud, and what N requests take in each."""

import dataclasses

import numpy as np

from m3jax.costs import (
    inference,
    layer_split,
    payload,
    speculative_batch,
    speculative_rounds,
    vision_language,
)
from m3jax.systems.msao import overheads, pricing


def speculative(
    rng: np.random.Generator,
    place: pricing.Place,
    rounds: speculative_rounds.Rounds,
    cloud: pricing.Read,
    edge: pricing.Read,
) -> pricing.Work:
    """Edge and cloud together.

    Args:
      rng: of the link.
      place: machines and link.
      rounds: what was drafted and accepted; of ``place.pipelined`` or not.
      cloud: what the cloud reads, and is sent.
      edge: what the edge reads.
    """
    return pricing.run(rng, place, rounds, cloud, edge, pricing.setting)


def cloud_only(
    rng: np.random.Generator,
    place: pricing.Place,
    lengths: np.ndarray,
    read: pricing.Read | None = None,
) -> pricing.Work:
    """The cloud says every token; they come down as a stream.

    Args:
      rng: of the link.
      place: machines and link.
      lengths: tokens of each answer, ``[N]``.
      read: what goes up; None: everything.
    """
    num, link, machines = len(lengths), place.link, place.machines
    read = pricing.everything(num) if read is None else read
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
    work = pricing.with_resources(place, requests, seen, np.zeros(num, int))
    return work._replace(edge_flops=np.zeros(num), edge_bytes=np.zeros(num))


def edge_only(
    place: pricing.Place, lengths: np.ndarray, read: pricing.Read | None = None
) -> pricing.Work:
    """Nothing is sent, and the draft model says every token.

    Args:
      place: machines.
      lengths: tokens of each answer, ``[N]``.
      read: what the draft reads; None: everything.
    """
    num = len(lengths)
    read = pricing.everything(num) if read is None else read
    rounds = speculative_rounds.make_rounds(
        lengths[:, None], lengths[:, None], stays=True
    )

    def alone(place, seen, edge_seen):
        both = pricing.setting(place, seen, edge_seen)
        return dataclasses.replace(both, cloud_prefill_s=0.0)

    nothing = pricing.Read(np.zeros(num), np.zeros(num))
    rng = np.random.default_rng(0)  # nothing is sent, so nothing is drawn
    work = pricing.run(rng, place, rounds, nothing, read, alone)
    return work._replace(cloud_flops=np.zeros(num), cloud_bytes=np.zeros(num))


def split(
    rng: np.random.Generator,
    place: pricing.Place,
    lengths: np.ndarray,
    share: float = 0.5,
    bits_per_real: int = 16,
) -> pricing.Work:
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
    return pricing.Work(
        requests,
        *cut.flops(scale.text_tokens, seen, lengths),
        *cut.memory_bytes(context),
    )


def with_probes(place: pricing.Place, work: pricing.Work) -> pricing.Work:
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
    place: pricing.Place, lengths: np.ndarray, read: pricing.Read
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
