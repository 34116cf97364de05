"""Edge and cloud as the two parties of speculative decoding, with what each has read.

    probes -> a choice of windows and modalities -> cloud reads those -> target
                                                    edge reads its own -> draft

Both are decoders behind encoders of their own; the draft is a whole, smaller model.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering
from m3jax.nn import generation, pruning, speculation
from m3jax.systems.msao import parts, system


class Choice(NamedTuple):
    """What goes to the cloud.

    Attributes:
      windows: of the picture, that are kept, [B, K].
      wanted: {modality: bool [B]}, False where it is left out altogether.
    """

    windows: pruning.Kept
    wanted: dict[str, base.Array]

    @property
    def num_windows(self) -> base.Array:
        """Windows of each picture that are sent, int [B]."""
        kept = jnp.sum(self.windows.mask, axis=1)
        return jnp.where(self.wanted["image"], kept, 0)


def everything(made: parts.Parts, batch_size: int) -> Choice:
    """All windows of the picture, and the sound."""
    scores = jnp.zeros((batch_size, made.counts["image"]))
    wanted = dict.fromkeys(parts.MODALITIES, jnp.ones(batch_size, bool))
    return Choice(pruning.keep_best(scores, made.counts["image"]), wanted)


def uniform(
    made: parts.Parts, key: base.Array, counts: base.Array, most: int
) -> Choice:
    """Windows by chance, and every modality: what looks at nothing.

    Args:
      made: networks.
      key: of the windows.
      counts: int [B], windows of each picture.
      most: windows at most, K.
    """
    scores = jax.random.uniform(key, (len(counts), made.counts["image"]))
    wanted = dict.fromkeys(parts.MODALITIES, jnp.ones(len(counts), bool))
    return Choice(pruning.keep_best(scores, most, counts), wanted)


def probed(made: parts.Parts, params: base.Params, batch: base.Batch) -> Choice:
    """Windows and modalities that the probes say an answer needs.

    Args:
      made: networks.
      params: of the whole system.
      batch: holds image, audio and question; or "early".
    """
    early = made.early(params, batch)
    return Choice(
        system.kept_windows(made, params, early, batch),
        system.wanted_modalities(made, params, early, batch),
    )


def read(
    made: parts.Parts, params: base.Params, batch: base.Batch, choice: Choice
) -> speculation.Party:
    """A party that has read what was chosen, and the question.

    Args:
      made: its networks.
      params: their parameters; probes need not be there.
      batch: holds image, audio and question.
      choice: what it reads.
    """
    early = made.early(params, batch)
    prefix = made.prune(params, early, *choice)
    question = jnp.asarray(batch["question"])
    words = made.decoder.apply({"params": params["decoder"]}, question, method="embed")
    return speculation.Party(
        params["decoder"],
        jnp.concatenate([prefix.tokens, words], axis=1),
        jnp.concatenate([prefix.mask, question != answering.PAD], axis=1),
        made.decoder,
        answering.positions_with(prefix.places, question),
    )


def say(party: speculation.Party, num_tokens: int) -> base.Array:
    """What a party says by itself, greedily: int32 [B, num_tokens]."""
    return generation.generate(
        party.decoder,
        party.params,
        party.embeds,
        party.mask,
        num_tokens,
        bos=answering.BOS,
        eos=answering.EOS,
        pad=answering.PAD,
        positions=party.positions,
    )


def is_right(words: base.Array, answer: base.Array) -> base.Array:
    """Whether answers are the true ones to the last word, bool [B]."""
    return jnp.all(words == answer, axis=1)
