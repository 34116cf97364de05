"""What a round of speculative decoding sends, in bits, by the protocol of its draft.

- ``ids``: the drafted tokens. Exact for greedy decoding.
- ``ids_probs``: and q(x) of each. Exact for sampling if the cloud runs the draft model
  again to draw from the residual where it rejects.
- ``top_k``: and the k most probable words of each q with their probabilities. Exact for
  sampling if the edge samples from what it sends.
- ``full``: and all of each q.

Down go the number of accepted tokens and the token after them.
"""

import dataclasses

import numpy as np

from m3jax import base
from m3jax.costs import checks, payload

PROTOCOLS = ("ids", "ids_probs", "top_k", "full")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How drafts travel.

    Attributes:
      kind: one of `PROTOCOLS`.
      vocab_size: V, words that both models know.
      bits: of a probability.
      top_k: k, for "top_k".
      header_bits: of each message, beside its content; 320 are those of IPv4 and TCP
        without options.

    Raises:
      ValueError: names the field that makes no sense.

    Example:
      >>> sent = Protocol("ids_probs", vocab_size=151_936)
      >>> sent.up_bits(5), sent.down_bits(5)
      (170, 21)
      >>> Protocol("full", vocab_size=151_936).up_bits(1) / 1e6
      2.430994
    """

    kind: str = "ids"
    vocab_size: int = 151_936
    bits: int = 16
    top_k: int = 32
    header_bits: int = 0

    def __post_init__(self):
        checks.choice("protocol", "kind", self.kind, PROTOCOLS)
        checks.number("protocol", "vocab_size", self.vocab_size, least=2)
        checks.number("protocol", "bits", self.bits, least=1)
        checks.number("protocol", "top_k", self.top_k, least=1, most=self.vocab_size)
        checks.number("protocol", "header_bits", self.header_bits, least=0)

    @property
    def token_bits(self) -> int:
        """Bits that one drafted token takes."""
        probs = {
            "ids": 0,
            "ids_probs": self.bits,
            "top_k": payload.distribution_bits(self.vocab_size, self.top_k, self.bits),
            "full": payload.distribution_bits(self.vocab_size, None, self.bits),
        }
        return payload.token_bits(self.vocab_size) + probs[self.kind]

    def up_bits(self, drafted: base.Array) -> base.Array:
        """Bits of a round's draft; a round that drafts nothing asks with 1 bit."""
        if isinstance(drafted, int):
            return max(drafted * self.token_bits, 1) + self.header_bits
        return np.maximum(drafted * self.token_bits, 1) + self.header_bits

    def down_bits(self, drafted: base.Array) -> base.Array:
        """Bits of a round's answer."""
        count = np.ceil(np.log2(np.asarray(drafted) + 1.0)).astype(int)
        bits = count + payload.token_bits(self.vocab_size) + self.header_bits
        return int(bits) if isinstance(drafted, int) else bits
