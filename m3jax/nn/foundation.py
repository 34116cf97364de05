"""The foundation model that systems start from: two encoders and a decoder.

A picture and a sound become tokens; the decoder reads tokens, then the question, then
says the answer. What lies between encoders and decoder (a projection, a link, experts)
is the system's own.
"""

import dataclasses

import jax.numpy as jnp

from m3jax import base
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation, vit

PAD, BOS, EOS = 0, 1, 2
MODALITIES = ("image", "audio")


@dataclasses.dataclass
class FoundationConfig:
    """Sizes. Plain and mutable, so that the command line can override a field.

    Attributes:
      vocab_size: words the decoder knows.
      dim: width of every token, D.
      num_heads, num_kv_heads: attention heads, and key-value heads of the decoder.
      image_depth, audio_depth, decoder_depth: number of layers.
      mlp_dim: hidden width of the encoders' feed-forward layers.
      ff_dim: hidden width of the decoder's.
      image_shape, image_patch: picture and patch; 64 tokens as given.
      image_stem: channels of the picture's convolutional stem; () for none.
      audio_shape, audio_patch: spectrogram (frames, mels, 1) and patch; 16 tokens.
      dtype: compute type, by name.
    """

    vocab_size: int = 128
    dim: int = 96
    num_heads: int = 4
    num_kv_heads: int = 2
    image_depth: int = 2
    audio_depth: int = 2
    decoder_depth: int = 3
    mlp_dim: int = 256
    ff_dim: int = 224
    image_shape: tuple[int, ...] = (64, 64, 3)
    image_patch: tuple[int, ...] = (8, 8)
    image_stem: tuple[int, ...] = (24, 48, 96)
    audio_shape: tuple[int, ...] = (64, 40, 1)
    audio_patch: tuple[int, ...] = (4, 40)
    dtype: str = "float32"

    def encoder(self, modality: str) -> vit.ViTConfig:
        """The encoder's configuration; ``modality`` is "image" or "audio"."""
        return vit.ViTConfig(
            dim=self.dim,
            depth=getattr(self, f"{modality}_depth"),
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            input_shape=tuple(getattr(self, f"{modality}_shape")),
            patch_shape=tuple(getattr(self, f"{modality}_patch")),
            stem_dims=tuple(self.image_stem) if modality == "image" else (),
            dtype=self.dtype,
            scan_unroll=getattr(self, f"{modality}_depth"),
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
            tie_embeddings=False,
            embed_std=1.0,
            dtype=self.dtype,
            scan_unroll=self.decoder_depth,
        )


def encoder_input(batch: base.Batch, modality: str) -> base.Array:
    """What the encoder of a modality reads: floats of about unit scale.

    Args:
      batch: holds "image" uint8 [B, H, W, 3] or "audio" float32 [B, frames, mels].
      modality: "image" or "audio".

    Returns:
      float32 [B, H, W, 3] in [-1, 1], or [B, frames, mels, 1].
    """
    if modality == "image":
        return batch["image"].astype(jnp.float32) / 127.5 - 1.0
    return batch["audio"][..., None]


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
      prefix: [B, L, D] tokens of pictures and sounds.
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
