"""Sizes of the foundation model that systems start from: encoders and a decoder.

A picture, a sound or a clip becomes tokens; the decoder reads tokens, then the
question, then says the answer. What lies between encoders and decoder (a projection, a
link, experts) is the system's own.
"""

import dataclasses
from typing import Any, ClassVar

from m3jax.nn import decoder as decoder_lib
from m3jax.nn import vit

MODALITIES = ("image", "audio")
"""What systems read unless they are told otherwise."""
ENCODED = ("image", "audio", "video")
"""What there is an encoder for."""


@dataclasses.dataclass
class EncoderSizes:
    """Sizes of one encoder.

    Attributes:
      depth: number of layers.
      dim, num_heads: width and attention heads; None for those of the decoder.
      mlp_dim: hidden width of the feed-forward layers.
      shape, patch: of the input, channels last, and of a patch.
      stride: steps between patches that overlap; () for no overlap.
      num_class_tokens: learned tokens in front of those of the patches.
      stem: channels of a picture's convolutional stem; () for none.
    """

    depth: int = 2
    dim: int | None = None
    num_heads: int | None = None
    mlp_dim: int = 256
    shape: tuple[int, ...] = (64, 64, 3)
    patch: tuple[int, ...] = (8, 8)
    stride: tuple[int, ...] = ()
    num_class_tokens: int = 0
    stem: tuple[int, ...] = ()

    RANGES: ClassVar = {
        **dict.fromkeys(("depth", "dim", "num_heads", "mlp_dim"), "[1, inf)"),
        **dict.fromkeys(("shape", "patch", "stride", "stem"), "[1, inf)"),
        "num_class_tokens": "[0, inf)",
    }


@dataclasses.dataclass
class DecoderSizes:
    """Sizes of the decoder; see `m3jax.nn.decoder.DecoderConfig`.

    Attributes:
      vocab_size: words that it knows.
      dim: width of its tokens, D.
      depth: number of layers.
      num_heads, num_kv_heads: attention heads, and key-value heads.
      ff_dim: hidden width of the feed-forward layers.
      rope_theta, norm_eps, qkv_bias, tie_embeddings, embed_std: as there.
    """

    vocab_size: int = 128
    dim: int = 96
    depth: int = 3
    num_heads: int = 4
    num_kv_heads: int = 2
    ff_dim: int = 224
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    tie_embeddings: bool = False
    embed_std: float = 1.0

    RANGES: ClassVar = {
        **dict.fromkeys(("vocab_size", "dim", "depth", "ff_dim"), "[1, inf)"),
        **dict.fromkeys(("num_heads", "num_kv_heads"), "[1, inf)"),
        **dict.fromkeys(("rope_theta", "embed_std"), "(0, inf)"),
        "norm_eps": "[0, inf)",
    }


def image(**changes: Any) -> EncoderSizes:
    """For pictures of 64 x 64 pixels, 64 tokens, unless fields are given."""
    return EncoderSizes(**{"stem": (24, 48, 96), **changes})


def audio(**changes: Any) -> EncoderSizes:
    """For spectrograms (frames, mels, 1), 16 tokens, unless fields are given."""
    return EncoderSizes(**{"shape": (64, 40, 1), "patch": (4, 40), **changes})


def video(**changes: Any) -> EncoderSizes:
    """For clips (frames, height, width, 3), 64 tokens, unless fields are given."""
    return EncoderSizes(**{"shape": (8, 32, 32, 3), "patch": (2, 8, 8), **changes})


@dataclasses.dataclass
class Sizes:
    """All sizes. Plain and mutable, so that the command line can override a field.

    Attributes:
      decoder: of the language model.
      image, audio, video: of the encoders.
      dtype: compute type, by name.
      scan_unroll: layers per turn of the scans over depth; None for all, which runs
        fastest and compiles slowest.
    """

    decoder: DecoderSizes = dataclasses.field(default_factory=DecoderSizes)
    image: EncoderSizes = dataclasses.field(default_factory=image)
    audio: EncoderSizes = dataclasses.field(default_factory=audio)
    video: EncoderSizes = dataclasses.field(default_factory=video)
    dtype: str = "float32"
    scan_unroll: int | None = None

    RANGES: ClassVar = {
        "dtype": ("float32", "bfloat16", "float16", "float64"),
        "scan_unroll": "[1, inf)",
    }

    @property
    def dim(self) -> int:
        """Width of the decoder's tokens, D."""
        return self.decoder.dim

    def encoder_config(self, modality: str) -> vit.ViTConfig:
        """The encoder's configuration; ``modality`` is "image", "audio" or "video".

        Raises:
          ValueError: no such modality, or sizes that do not fit each other.
        """
        if modality not in ENCODED:
            raise ValueError(
                f"there is no encoder for {modality!r}; choose from {ENCODED}"
            )
        own: EncoderSizes = getattr(self, modality)
        shared = self.decoder
        return vit.ViTConfig(
            dim=shared.dim if own.dim is None else own.dim,
            depth=own.depth,
            num_heads=shared.num_heads if own.num_heads is None else own.num_heads,
            mlp_dim=own.mlp_dim,
            input_shape=tuple(own.shape),
            patch_shape=tuple(own.patch),
            patch_stride=tuple(own.stride) or None,
            num_class_tokens=own.num_class_tokens,
            stem_dims=tuple(own.stem),
            dtype=self.dtype,
            scan_unroll=self._unroll(own.depth),
        )

    def decoder_config(self) -> decoder_lib.DecoderConfig:
        """The decoder's configuration."""
        return decoder_lib.DecoderConfig(
            **dataclasses.asdict(self.decoder),
            dtype=self.dtype,
            scan_unroll=self._unroll(self.decoder.depth),
        )

    def _unroll(self, depth: int) -> int:
        return depth if self.scan_unroll is None else self.scan_unroll
