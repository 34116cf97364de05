"""Reading and answering: what encoders see, and what the decoder makes of tokens."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from m3jax import base
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation

PAD, BOS, EOS = 0, 1, 2


class Places(NamedTuple):
    """Where the tokens of a prefix stand, if others were left out between them.

    Attributes:
      positions: int [B, L], below ``count``.
      count: places of the whole prefix; the question follows behind it.
    """

    positions: base.Array
    count: int


def encoder_input(batch: base.Batch, modality: str) -> base.Array:
    """What the encoder of a modality reads: floats of about unit scale.

    Args:
      batch: holds "image" uint8 [B, H, W, 3], "audio" float32 [B, frames, mels] or
        "video" uint8 [B, frames, H, W, 3].
      modality: "image", "audio" or "video".

    Returns:
      float32 of the same shape, in [-1, 1] for bytes; [B, frames, mels, 1] for sounds.
    """
    if modality == "audio":
        return batch["audio"][..., None]
    return batch[modality].astype(jnp.float32) / 127.5 - 1.0


def answer_logits(
    decoder: decoder_lib.Decoder,
    params: base.Params,
    prefix: base.Array,
    prefix_mask: base.Array,
    question: base.Array,
    answer: base.Array,
    *,
    places: Places | None = None,
    gate: base.Array | None = None,
) -> base.Array:
    """Scores of each word of the answer, given the words before it.

    Args:
      decoder: the language model.
      params: its parameters, without the "params" level.
      prefix: [B, L, D] tokens of pictures, sounds and clips.
      prefix_mask: bool [B, L], True where a token is valid.
      question: int32 [B, Q], padded by PAD.
      answer: int32 [B, A], ended by EOS, padded by PAD.
      places: of the prefix's tokens; None: valid tokens are counted.
      gate: float [B, L], how much each token of the prefix counts, see
        ``nn.layers.attention``; None: all alike.

    Returns:
      float32 [B, A, V]; slice ``t`` scores ``answer[:, t]``.
    """
    words = read_words(question, answer)
    embeds = decoder.apply({"params": params}, words, method="embed")
    mask = jnp.concatenate([prefix_mask, words != PAD], axis=1)
    if gate is not None:
        gate = jnp.pad(gate, ((0, 0), (0, words.shape[1])), constant_values=1.0)
    hidden, _ = decoder.apply(
        {"params": params},
        jnp.concatenate([prefix, embeds], axis=1),
        mask,
        positions=positions_with(places, words),
        gate=gate,
    )
    hidden = hidden[:, -answer.shape[1] :]
    return decoder.apply({"params": params}, hidden, method="logits")


def read_words(question: base.Array, answer: base.Array) -> base.Array:
    """What is read to score an answer: the question, and the words before each one.

    Args:
      question: int32 [B, Q].
      answer: int32 [B, A].

    Returns:
      int32 [B, Q + A]; what is read at ``Q + t`` scores ``answer[:, t]``.
    """
    said = jnp.pad(answer[:, :-1], ((0, 0), (1, 0)), constant_values=BOS)
    return jnp.concatenate([question, said], axis=1)


def naming_loss(
    decoder: base.Params,
    tokens: base.Array,
    names: Sequence[Sequence[int]],
    labels: Sequence[base.Array],
) -> base.Array:
    """How badly tokens are told apart by the words for what they show.

    For each label the mean cross-entropy of softmax(z . e_c / sqrt(D)), with e_c the
    decoder's embedding of the word for class c.

    Args:
      decoder: its parameters.
      tokens: float32 [..., D].
      names: of each label, the ids of the words of its C classes.
      labels: int [...], one for each of ``names``.

    Returns:
      Scalar, in nats, the sum over labels.

    Raises:
      ValueError: there are not as many sets of words as labels.
    """
    if len(names) != len(labels):
        raise ValueError(
            f"{len(labels)} labels need as many sets of words, got {len(names)}; set"
            " system.patch_words and system.sound_words, such as PATCH_WORDS and"
            " SOUND_WORDS of m3jax.data.edgescenes.examples"
        )
    table = decoder["embedder"]["embedding"]
    losses = [
        optax.losses.softmax_cross_entropy_with_integer_labels(
            tokens @ table[np.array(ids)].T / np.sqrt(tokens.shape[-1]), label
        )
        for ids, label in zip(names, labels, strict=True)
    ]
    return sum(map(jnp.mean, losses))


def generate_answer(
    decoder: decoder_lib.Decoder,
    params: base.Params,
    prefix: base.Array,
    prefix_mask: base.Array,
    question: base.Array,
    num_tokens: int,
    *,
    places: Places | None = None,
) -> base.Array:
    """Says an answer, greedily; arguments as in `answer_logits`.

    Returns:
      int32 [B, num_tokens], ended by EOS, padded by PAD.
    """
    embeds = decoder.apply({"params": params}, question, method="embed")
    return generation.generate(
        decoder,
        params,
        jnp.concatenate([prefix, embeds], axis=1),
        jnp.concatenate([prefix_mask, question != PAD], axis=1),
        num_tokens,
        bos=BOS,
        eos=EOS,
        pad=PAD,
        positions=positions_with(places, question),
    )


def positions_with(places: Places | None, words: base.Array) -> base.Array | None:
    """Positions of a prefix and of the words behind it.

    Args:
      places: of the prefix's L tokens; None: nothing is left out.
      words: int32 [B, W], padded by PAD.

    Returns:
      int [B, L + W], or None.
    """
    if places is None:
        return None
    behind = places.count - 1 + jnp.cumsum(words != PAD, axis=1, dtype=jnp.int32)
    return jnp.concatenate([places.positions, behind], axis=1)
