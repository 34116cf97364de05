"""Bits on air of drafts and of the answers to them.

What a protocol of `m3jax.nn.speculation.protocols` sends for a drafted token, V words:

    ids             ceil(log2 V)
    ids_and_probs   ceil(log2 V) + 32
    top_k           k (ceil(log2 V) + b) + ceil(log2 k): k words with their
                    probabilities, and which of them was drawn

and once a round how many there are. Down come how many stand, and one word.
"""

from m3jax import base
from m3jax.costs import checks, payload

PROTOCOLS = ("ids", "ids_and_probs", "top_k")
PROB_BITS = 32
"""q(x) goes as the float32 that the draft was drawn by: a rounded one bends the law."""


def draft_bits(
    protocol: str, vocab_size: base.Array, top_k: int | None = None, bits: int = 16
) -> base.Array:
    """Bits of one drafted token.

    Args:
      protocol: one of `PROTOCOLS`.
      vocab_size: V, a whole number or an integer array of them.
      top_k: k, of "top_k" alone; None there: the whole distribution, in order.
      bits: of a probability of "top_k".

    Raises:
      ValueError: a setting makes no sense.

    Example:
      >>> [draft_bits(name, 152_064, top_k=8) for name in PROTOCOLS]
      [18, 50, 275]
      >>> draft_bits("top_k", 152_064) / 1e6
      2.433042
    """
    checks.choice("draft_bits", "protocol", protocol, PROTOCOLS)
    word = payload.token_bits(vocab_size)
    if protocol == "ids":
        return word
    if protocol == "ids_and_probs":
        return word + PROB_BITS
    which = word if top_k is None else (top_k - 1).bit_length()
    return payload.distribution_bits(vocab_size, top_k, bits) + which


def uplink_bits(
    protocol: str,
    drafted: base.Array,
    calls: base.Array,
    *,
    vocab_size: base.Array,
    max_draft: int,
    top_k: int | None = None,
    bits: int = 16,
) -> base.Array:
    """Bits that go up for an answer.

    The counts are those of `m3jax.nn.speculation.Counts`. Drafts that nobody judges
    (``edge_accept``) need "ids" alone, with a temperature too.

    Args:
      protocol: see `draft_bits`.
      drafted: tokens that were drafted, of any shape.
      calls: how often the target was asked.
      vocab_size: V.
      max_draft: the longest draft G: a round says how many there are, 0 to G.
      top_k: see `draft_bits`.
      bits: see there.

    Example:
      >>> uplink_bits("ids", 10, 3, vocab_size=152_064, max_draft=5)
      189
    """
    each = draft_bits(protocol, vocab_size, top_k, bits)
    return drafted * each + calls * payload.token_bits(max_draft + 1)


def downlink_bits(
    calls: base.Array, *, vocab_size: base.Array, max_draft: int
) -> base.Array:
    """Bits that come down for an answer: of each call how many stand, and a word.

    Args:
      calls: how often the target was asked, of any shape.
      vocab_size: V.
      max_draft: the longest draft.

    Example:
      >>> downlink_bits(3, vocab_size=152_064, max_draft=5)
      63
    """
    return calls * (payload.token_bits(max_draft + 1) + payload.token_bits(vocab_size))
