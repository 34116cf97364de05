"""What one request of speculative decoding needs of its machines and of the link."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from m3jax.costs import (
    checks,
    devices,
    drafts,
    inference,
    speculative_rounds,
    vision_language,
    workers,
)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How drafts travel: the settings of `m3jax.costs.drafts`.

    Attributes:
      name: one of ``drafts.PROTOCOLS``.
      vocab_size: V, words that both models know.
      max_draft: the longest draft.
      top_k: k, of "top_k".
      bits: of a probability of "top_k".
      header_bits: of each message, beside its content; 320 are those of IPv4 and TCP
        without options.

    Raises:
      ValueError: names the field that makes no sense.

    Example:
      >>> protocol = Protocol("ids")
      >>> protocol.up_bits(5), protocol.down_bits(5)
      (93, 21)
    """

    name: str = "ids"
    vocab_size: int = 151_936
    max_draft: int = 5
    top_k: int | None = 32
    bits: int = 16
    header_bits: int = 0

    def __post_init__(self):
        checks.choice("protocol", "name", self.name, drafts.PROTOCOLS)
        checks.number("protocol", "vocab_size", self.vocab_size, least=2)
        checks.number("protocol", "max_draft", self.max_draft, least=0)
        checks.number("protocol", "header_bits", self.header_bits, least=0)
        self.up_bits(1)  # refuses what the protocol does

    def up_bits(self, drafted: np.ndarray | int) -> np.ndarray | int:
        """Bits of a round's draft; one that drafts nothing says so."""
        sent = drafts.uplink_bits(
            self.name,
            drafted,
            1,
            vocab_size=self.vocab_size,
            max_draft=self.max_draft,
            top_k=self.top_k,
            bits=self.bits,
        )
        return sent + self.header_bits

    def down_bits(self, drafted: np.ndarray | int) -> np.ndarray | int:
        """Bits of the answer to it."""
        sent = drafts.downlink_bits(
            1, vocab_size=self.vocab_size, max_draft=self.max_draft
        )
        return sent + self.header_bits + 0 * drafted


@dataclasses.dataclass(frozen=True)
class Setting:
    """Edge, cloud, and what is between them.

    Attributes:
      draft_s: seconds of a drafted token on the edge, t_d.
      verify_s: seconds of a pass of the cloud's model that verifies nothing, t_0.
      verify_token_s: seconds more for each drafted token, t_1: one parallel pass takes
        t_0 + gamma t_1.
      link: seen from the edge: up to the cloud, down from it.
      rtt_s: round-trip time without the sending itself, once in each round.
      protocol: of the drafts.
      edge_prefill_s: seconds until the edge has read the prompt.
      cloud_prefill_s: and the cloud.
      pipelined: the edge drafts the next round while one is away.

    Raises:
      ValueError: a time is negative.
    """

    draft_s: float
    verify_s: float
    verify_token_s: float
    link: workers.Link
    rtt_s: float = 0.02
    protocol: Protocol = Protocol()
    edge_prefill_s: float = 0.0
    cloud_prefill_s: float = 0.0
    pipelined: bool = False

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.name.endswith("_s"):
                value = getattr(self, field.name)
                checks.number("setting", field.name, value, least=0.0)


def of_machines(
    edge: devices.Device,
    draft: vision_language.VisionLanguageModel,
    cloud: devices.Device,
    target: vision_language.VisionLanguageModel,
    link: workers.Link,
    *,
    text: int,
    seen: int,
    edge_seen: int | None = None,
    **others,
) -> Setting:
    """The times of machines and models, by their rooflines.

    Decoding takes what it takes in the middle of the prompt's length: caches of an
    answer's tokens are small beside the prompt's.

    Args:
      edge: who drafts.
      draft: what drafts.
      cloud: who verifies.
      target: what verifies.
      link: between them, seen from the edge.
      text: tokens of the prompt.
      seen: tokens of pictures that the cloud reads.
      edge_seen: and the edge; None: as many.
      **others: of `Setting`.

    Example:
      >>> setting = of_machines(
      ...     devices.RTX_3090, vision_language.QWEN2_VL_2B, devices.A100_40GB,
      ...     vision_language.QWEN2_5_VL_7B, workers.Link(3e8, 3e8), text=40, seen=324)
      >>> [round(1e3 * t, 1) for t in (setting.draft_s, setting.verify_s)]
      [6.8, 16.1]
    """
    edge_seen = seen if edge_seen is None else edge_seen
    language = target.language
    flops = language.decode_flops(text + seen)
    return Setting(
        draft_s=float(inference.decode_time(edge, draft.language, text + edge_seen)),
        verify_s=float(inference.decode_time(cloud, language, text + seen)),
        verify_token_s=float(flops / cloud.usable_flops_per_s),
        link=link,
        edge_prefill_s=float(
            vision_language.prefill_time(edge, draft, text, edge_seen)
        ),
        cloud_prefill_s=float(vision_language.prefill_time(cloud, target, text, seen)),
        **others,
    )


class Delays(NamedTuple):
    """What was drawn of the link, for N requests.

    Attributes:
      upload: `workers.Sent` of the prompts' parts, ``[N, M]``.
      upload_bits: of each, ``[N, M]``.
      up: of the rounds' drafts, ``[N, R]``.
      up_bits: of each, ``[N, R]``.
      down: of their answers, ``[N, R]``.
      down_bits: of each, ``[N, R]``.
    """

    upload: workers.Sent
    upload_bits: np.ndarray
    up: workers.Sent
    up_bits: np.ndarray
    down: workers.Sent
    down_bits: np.ndarray


def draw(
    rng: np.random.Generator,
    setting: Setting,
    rounds: speculative_rounds.Rounds,
    uploads_bits: Sequence[float] | np.ndarray = (),
) -> Delays:
    """Draws what every message of N requests takes.

    Args:
      rng: of the link.
      setting: who and what.
      rounds: of N requests.
      uploads_bits: parts of a prompt that go to the cloud before it reads, such as
        modalities, ``[M]`` or ``[N, M]``; none for one that needs none.
    """
    link = setting.link
    sent = rounds.valid & ~rounds.stays
    drafted = np.maximum(rounds.drafted, 0)
    up_bits = np.where(sent, setting.protocol.up_bits(drafted), 0)
    down_bits = np.where(sent, setting.protocol.down_bits(drafted), 0)
    bits = np.asarray(uploads_bits, float)
    bits = np.broadcast_to(bits, (len(drafted), bits.shape[-1]))
    return Delays(
        link.transmit(rng, bits, link.up_bits_per_s),
        bits,
        link.transmit(rng, up_bits, link.up_bits_per_s),
        up_bits,
        link.transmit(rng, down_bits, link.down_bits_per_s),
        down_bits,
    )
