"""The foundation model that systems start from: encoders and a decoder.

A picture, a sound or a clip becomes tokens; the decoder reads tokens, then the
question, then says the answer. What lies between encoders and decoder (a projection, a
link, experts) is the system's own.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import optax

from m3jax import base
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation, vit

PAD, BOS, EOS = 0, 1, 2
MODALITIES = ("image", "audio")
"""What systems read unless they are told otherwise."""
ENCODED = ("image", "audio", "video")
"""What there is an encoder for."""


@dataclasses.dataclass
class FoundationConfig:
    """Sizes. Plain and mutable, so that the command line can override a field.

    Every field whose name begins with ``image_`` is there for ``audio_`` and ``video_``
    too, but ``image_stem``.

    Attributes:
      vocab_size: words the decoder knows.
      dim: width of the decoder's tokens, D, and of an encoder's without a width of its
        own.
      num_heads, num_kv_heads: attention heads, and key-value heads of the decoder.
      decoder_depth, image_depth: number of layers.
      mlp_dim: hidden width of the encoders' feed-forward layers.
      ff_dim: hidden width of the decoder's.
      image_dim, image_heads, image_mlp_dim: an encoder's own width, heads and hidden
        width; None for ``dim``, ``num_heads`` and ``mlp_dim``.
      image_shape, image_patch: picture and patch; 64 tokens as given. For sounds a
        spectrogram (frames, mels, 1), 16 tokens; for video a clip (frames, height,
        width, 3), 64 tokens.
      image_stride: steps between patches that overlap; () for no overlap.
      image_class_tokens: learned tokens in front of those of the patches.
      image_stem: channels of the picture's convolutional stem; () for none.
      rope_theta, norm_eps, qkv_bias, tie_embeddings, embed_std: of the decoder, see
        `m3jax.nn.decoder.DecoderConfig`.
      dtype: compute type, by name.
      scan_unroll: layers per turn of the scans over depth; None for all, which runs
        fastest and compiles slowest.
    """

    vocab_size: int = 128
    dim: int = 96
    num_heads: int = 4
    num_kv_heads: int = 2
    image_depth: int = 2
    audio_depth: int = 2
    video_depth: int = 2
    decoder_depth: int = 3
    mlp_dim: int = 256
    ff_dim: int = 224
    image_dim: int | None = None
    audio_dim: int | None = None
    video_dim: int | None = None
    image_heads: int | None = None
    audio_heads: int | None = None
    video_heads: int | None = None
    image_mlp_dim: int | None = None
    audio_mlp_dim: int | None = None
    video_mlp_dim: int | None = None
    image_shape: tuple[int, ...] = (64, 64, 3)
    image_patch: tuple[int, ...] = (8, 8)
    image_stride: tuple[int, ...] = ()
    image_class_tokens: int = 0
    image_stem: tuple[int, ...] = (24, 48, 96)
    audio_shape: tuple[int, ...] = (64, 40, 1)
    audio_patch: tuple[int, ...] = (4, 40)
    audio_stride: tuple[int, ...] = ()
    audio_class_tokens: int = 0
    video_shape: tuple[int, ...] = (8, 32, 32, 3)
    video_patch: tuple[int, ...] = (2, 8, 8)
    video_stride: tuple[int, ...] = ()
    video_class_tokens: int = 0
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    tie_embeddings: bool = False
    embed_std: float = 1.0
    dtype: str = "float32"
    scan_unroll: int | None = None

    def encoder(self, modality: str) -> vit.ViTConfig:
        """The encoder's configuration; ``modality`` is "image", "audio" or "video".

        Raises:
          ValueError: no such modality, or sizes that do not fit each other.
        """
        if modality not in ENCODED:
            raise ValueError(
                f"there is no encoder for {modality!r}; choose from {ENCODED}"
            )

        def own(name, shared=None):
            value = getattr(self, f"{modality}_{name}")
            return shared if value is None else value

        return vit.ViTConfig(
            dim=own("dim", self.dim),
            depth=own("depth"),
            num_heads=own("heads", self.num_heads),
            mlp_dim=own("mlp_dim", self.mlp_dim),
            input_shape=tuple(own("shape")),
            patch_shape=tuple(own("patch")),
            patch_stride=tuple(own("stride")) or None,
            num_class_tokens=own("class_tokens"),
            stem_dims=tuple(self.image_stem) if modality == "image" else (),
            dtype=self.dtype,
            scan_unroll=self._unroll(own("depth")),
        )

    def decoder(self) -> decoder_lib.DecoderConfig:
        """The decoder's configuration."""
        return decoder_lib.DecoderConfig(
            vocab_size=self.vocab_size,
            dim=self.dim,
            depth=self.decoder_depth,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            ff_dim=self.ff_dim,
            rope_theta=self.rope_theta,
            norm_eps=self.norm_eps,
            qkv_bias=self.qkv_bias,
            tie_embeddings=self.tie_embeddings,
            embed_std=self.embed_std,
            dtype=self.dtype,
            scan_unroll=self._unroll(self.decoder_depth),
        )

    def _unroll(self, depth: int) -> int:
        return depth if self.scan_unroll is None else self.scan_unroll


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
) -> base.Array:
    """Scores of each word of the answer, given the words before it.

    Args:
      decoder: the language model.
      params: its parameters, without the "params" level.
      prefix: [B, L, D] tokens of pictures, sounds and clips.
      prefix_mask: bool [B, L], True where a token is valid.
      question: int32 [B, Q], padded by PAD.
      answer: int32 [B, A], ended by EOS, padded by PAD.

    Returns:
      float32 [B, A, V]; slice ``t`` scores ``answer[:, t]``.
    """
    said = jnp.pad(answer[:, :-1], ((0, 0), (1, 0)), constant_values=BOS)
    words = jnp.concatenate([question, said], axis=1)
    embeds = decoder.apply({"params": params}, words, method="embed")
    mask = jnp.concatenate([prefix_mask, words != PAD], axis=1)
    hidden, _ = decoder.apply(
        {"params": params}, jnp.concatenate([prefix, embeds], axis=1), mask
    )
    hidden = hidden[:, -answer.shape[1] :]
    return decoder.apply({"params": params}, hidden, method="logits")


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
            " SOUND_WORDS of m3jax.data.examples"
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
    )
