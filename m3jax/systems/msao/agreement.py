"""Where a draft would say the target's own words, and how sure it is of them.

One reading of the target's answer by the draft, with no decoding. Greedy speculation
follows from it for every draft length and every fixed threshold:
`m3jax.costs.speculative_rounds.of_agreement`.
"""

from typing import NamedTuple

import jax.numpy as jnp

from m3jax import base
from m3jax.nn import speculation
from m3jax.nn.speculation import parties


class Agreement(NamedTuple):
    """What a draft makes of each word of the target's answers, ``[B, N]``.

    Attributes:
      agrees: bool, whether the draft's most probable word is the target's, after the
        target's own words; False behind the answer.
      entropy: float32, of the draft's law there, over log V; 0 behind the answer.
      valid: bool, words of the answer: up to and with its end, or all N.
    """

    agrees: base.Array
    entropy: base.Array
    valid: base.Array


def measure(
    target: speculation.Party,
    draft: speculation.Party,
    words: base.Array,
    *,
    vocab_size: int | None = None,
    bos: int = 1,
    eos: int = 2,
) -> Agreement:
    """Reads the target's answers by the draft, once.

    Args:
      target: who said the words.
      draft: who reads them, with its own prefix.
      words: int32 [B, N], the target's greedy words, as `generation.generate` says
        them: ended by ``eos`` if it fits.
      vocab_size: words that both know, if their tables differ.
      bos: word that starts an answer; not among ``words``.
      eos: word that ends it.

    Returns:
      The `Agreement`.

    Raises:
      ValueError: the vocabularies differ and nobody says where they agree, or the words
        are those of another batch.

    Example:
      >>> import jax
      >>> from m3jax.nn import decoder as decoder_lib
      >>> model = decoder_lib.Decoder(decoder_lib.DecoderConfig(11, dim=32, depth=2))
      >>> embeds, mask = jnp.ones((1, 2, 32)), jnp.ones((1, 2), bool)
      >>> params = jax.jit(model.init)(jax.random.key(0), embeds, mask)["params"]
      >>> party = speculation.Party(params, embeds, mask, model)
      >>> found = measure(party, party, jnp.array([[5, 2, 0]]))
      >>> found.valid.tolist()
      [[True, True, False]]
    """
    if not len(words) == len(target.mask) == len(draft.mask):
        raise ValueError(
            f"{len(words)} answers, but prefixes of {len(target.mask)} (target) and"
            f" {len(draft.mask)} (draft): give words of the same batch."
        )
    size = parties.shared_vocabulary(target, draft, vocab_size)
    ends = (words == eos).astype(jnp.int32)
    valid = jnp.cumsum(ends, axis=1) == ends
    scores = draft.logits(draft.read_answer(words, valid, bos), size)
    agrees = jnp.argmax(scores, axis=-1) == words
    entropy = speculation.normalised_entropy(scores)
    return Agreement(agrees & valid, jnp.where(valid, entropy, 0.0), valid)
