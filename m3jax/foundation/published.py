"""Sizes of published models, for runs that are to match a paper's.

Sizes only: no weights come with them. All of them compute in float32, one layer a turn
of the scan over depth; ``dataclasses.replace`` changes that.
"""

import dataclasses

from m3jax.foundation import sizes
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import vit


def qwen2_5_1_5b() -> decoder_lib.DecoderConfig:
    """Qwen2.5-1.5B: 1.54 billion parameters, 1.31 without the embedding table.

    Qwen2.5 Technical Report (Qwen Team 2024), table 1, and the model's published
    configuration. Its table has more rows than its tokenizer has words.
    """
    return decoder_lib.DecoderConfig(
        vocab_size=151_936,
        dim=1536,
        depth=28,
        num_heads=12,
        num_kv_heads=2,
        ff_dim=8960,
        rope_theta=1e6,
        norm_eps=1e-6,
        qkv_bias=True,
        tie_embeddings=True,
        embed_std=0.02,
    )


def vivit_b_16x2() -> vit.ViTConfig:
    """ViViT-B/16x2 with joint attention over space and time: 88.6 million parameters.

    ViViT (Arnab et al. 2021), model 1: 32 frames of 224 x 224 pixels, in tubelets of
    2 x 16 x 16, are 3136 tokens after one class token. The head is not counted.
    """
    return vit.ViTConfig(
        dim=768,
        depth=12,
        num_heads=12,
        mlp_dim=3072,
        input_shape=(32, 224, 224, 3),
        patch_shape=(2, 16, 16),
        num_class_tokens=1,
    )


def ast() -> vit.ViTConfig:
    """The Audio Spectrogram Transformer: 86.2 million parameters.

    AST (Gong et al. 2021), section 2.1: patches of 16 x 16 in steps of 10 from 128 mels
    and 1024 frames, which are ten seconds, make 12 x 101 = 1212 tokens after a class
    and a distillation token. The head is not counted.

    As everywhere here a spectrogram is (frames, mels, 1), so tokens run through the
    mels of one time first; the published model runs through the times of one mel.
    """
    return vit.ViTConfig(
        dim=768,
        depth=12,
        num_heads=12,
        mlp_dim=3072,
        input_shape=(1024, 128, 1),
        patch_shape=(16, 16),
        patch_stride=(10, 10),
        num_class_tokens=2,
    )


def tokcom() -> sizes.Sizes:
    """The sizes that TokCom is published with: the three models above.

    Its pictures are clips of 32 frames, which is the "video" modality here; "image"
    has no published size.

    Returns:
      Sizes whose ``decoder_config()`` is `qwen2_5_1_5b`, and whose
      ``encoder_config(...)`` of "video" is `vivit_b_16x2` and of "audio" `ast`.
    """
    words = qwen2_5_1_5b()
    return sizes.Sizes(
        decoder=sizes.DecoderSizes(
            **{
                field.name: getattr(words, field.name)
                for field in dataclasses.fields(sizes.DecoderSizes)
            }
        ),
        video=_encoder(vivit_b_16x2()),
        audio=_encoder(ast()),
        scan_unroll=1,
    )


def _encoder(config: vit.ViTConfig) -> sizes.EncoderSizes:
    return sizes.EncoderSizes(
        depth=config.depth,
        dim=config.dim,
        num_heads=config.num_heads,
        mlp_dim=config.mlp_dim,
        shape=config.input_shape,
        patch=config.patch_shape,
        stride=config.patch_stride or (),
        num_class_tokens=config.num_class_tokens,
    )
