"""One model cut between two of its layers, the first on the edge, the others not.

    token = edge part + uplink of a hidden state + RTT + cloud part + downlink of an id

as PerLLM does (Yang et al. 2024, 2405.14636) in MSAO's comparison. A prompt is read the
same way, all hidden states at once. What is said is what the whole model says, but for
the rounding of hidden states.
"""

import dataclasses

import numpy as np

from m3jax.costs import (
    checks,
    devices,
    inference,
    payload,
    speculative_batch,
    vision_language,
    workers,
)


@dataclasses.dataclass(frozen=True)
class Split:
    """Where a model is cut, and between whom.

    Attributes:
      edge: runs the vision tower and the first layers.
      cloud: runs the others.
      model: that is cut.
      share: of the decoder's layers on the edge, in [0, 1].
      bits_per_real: of a number of a hidden state on its way.

    Raises:
      ValueError: a number is out of range.
    """

    edge: devices.Device = devices.RTX_3090
    cloud: devices.Device = devices.A100_40GB
    model: vision_language.VisionLanguageModel = vision_language.QWEN2_5_VL_7B
    share: float = 0.5
    bits_per_real: int = 16

    def __post_init__(self):
        checks.number("split", "share", self.share, least=0.0, most=1.0)
        checks.number("split", "bits_per_real", self.bits_per_real)

    def memory_bytes(self, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bytes of weights and the cache of so many tokens: of the edge, the cloud."""
        language = self.model.language
        tower = self.model.weight_bytes - language.weight_bytes
        layers = language.weight_bytes + language.cache_bytes * np.asarray(context)
        return tower + self.share * layers, (1.0 - self.share) * layers

    def flops(
        self, text: int, seen: int, answer: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Operations of whole answers, on the edge and in the cloud."""
        language = self.model.language
        read = language.prefill_flops(text + seen)
        layers = read + np.asarray(answer) * language.decode_flops(text + seen)
        edge = self.model.encode_flops(seen) + self.share * layers
        return edge, (1.0 - self.share) * layers

    def _part_s(self, device, share, flops, num_bytes) -> float:
        if not share:
            return 0.0
        return float(inference.compute_time(device, share * flops, share * num_bytes))


def run(
    rng: np.random.Generator,
    split: Split,
    link: workers.Link,
    *,
    text: int,
    seen: int,
    answer: np.ndarray,
    rtt_s: float = 0.02,
) -> speculative_batch.Requests:
    """Runs N requests, each alone.

    Args:
      rng: of the link.
      split: who and what.
      link: between them, seen from the edge.
      text: tokens of the question.
      seen: tokens of its pictures and sounds.
      answer: tokens of each answer, ``[N]``, at least 1.
      rtt_s: round-trip time without the sending itself.

    Returns:
      What they took; nothing is drafted, and each token is a round.

    Example:
      >>> link = workers.Link(3e8, 3e8)
      >>> found = run(np.random.default_rng(0), Split(), link, text=40, seen=324,
      ...             answer=np.array([16]))
      >>> found.total_s.round(2).tolist(), round(float(found.up_bits[0]) / 1e6, 1)
      ([1.0], 21.8)
    """
    answer = np.asarray(answer)
    language, share = split.model.language, split.share
    prompt = text + seen
    flops, moved = language.prefill_flops(prompt), language.prefill_bytes(prompt)
    tower_bytes = split.model.weight_bytes - language.weight_bytes
    encode_s = float(
        inference.compute_time(split.edge, split.model.encode_flops(seen), tower_bytes)
    )
    edge_read_s = encode_s + split._part_s(split.edge, share, flops, moved)
    cloud_read_s = split._part_s(split.cloud, 1.0 - share, flops, moved)
    flops, moved = language.decode_flops(prompt), language.decode_bytes(prompt)
    edge_token_s = split._part_s(split.edge, share, flops, moved)
    cloud_token_s = split._part_s(split.cloud, 1.0 - share, flops, moved)

    state_bits = language.dim * split.bits_per_real
    upload_bits = np.full(answer.shape, float(prompt * state_bits))
    upload = link.transmit(rng, upload_bits, link.up_bits_per_s)
    there = np.arange(max(int(answer.max()), 1)) < answer[:, None]
    up_bits = np.where(there, state_bits, 0)
    down_bits = np.where(there, payload.token_bits(language.vocab_size), 0)
    up = link.transmit(rng, up_bits, link.up_bits_per_s)
    down = link.transmit(rng, down_bits, link.down_bits_per_s)
    token_s = edge_token_s + rtt_s + cloud_token_s
    return speculative_batch.zeros(len(answer))._replace(
        upload_s=edge_read_s + upload.seconds + 0.5 * rtt_s,
        prefill_s=np.full(len(answer), 0.5 * rtt_s + cloud_read_s),
        decode_s=answer * token_s + (up.seconds + down.seconds).sum(axis=1),
        edge_s=edge_read_s + answer * edge_token_s,
        cloud_s=cloud_read_s + answer * cloud_token_s,
        up_s=upload.seconds + up.seconds.sum(axis=1),
        down_s=down.seconds.sum(axis=1),
        up_bits=upload.transmissions * upload_bits
        + (up.transmissions * up_bits).sum(axis=1),
        down_bits=(down.transmissions * down_bits).sum(axis=1),
        tokens=answer,
        scored=answer,
        rounds=answer,
    )
