"""Sizes of published models, for runs that are to match a paper's.

Sizes only: no weights come with them. All of them compute in float32, one layer a turn
of the scan over depth; ``dataclasses.replace`` changes that.
"""

from m3jax.nn import decoder as decoder_lib
from m3jax.nn import foundation, vit


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


def tokcom() -> foundation.FoundationConfig:
    """The sizes that TokCom is published with: the three models above.

    Its pictures are clips of 32 frames, which is the "video" modality here; "image"
    has no published size.

    Returns:
      Sizes whose ``decoder()`` is `qwen2_5_1_5b`, whose ``encoder("video")`` is
      `vivit_b_16x2` and whose ``encoder("audio")`` is `ast`.
    """
    words, video, audio = qwen2_5_1_5b(), vivit_b_16x2(), ast()
    return foundation.FoundationConfig(
        vocab_size=words.vocab_size,
        dim=words.dim,
        num_heads=words.num_heads,
        num_kv_heads=words.num_kv_heads,
        decoder_depth=words.depth,
        ff_dim=words.ff_dim,
        rope_theta=words.rope_theta,
        norm_eps=words.norm_eps,
        qkv_bias=words.qkv_bias,
        tie_embeddings=words.tie_embeddings,
        embed_std=words.embed_std,
        video_depth=video.depth,
        video_dim=video.dim,
        video_heads=video.num_heads,
        video_mlp_dim=video.mlp_dim,
        video_shape=video.input_shape,
        video_patch=video.patch_shape,
        video_class_tokens=video.num_class_tokens,
        audio_depth=audio.depth,
        audio_dim=audio.dim,
        audio_heads=audio.num_heads,
        audio_mlp_dim=audio.mlp_dim,
        audio_shape=audio.input_shape,
        audio_patch=audio.patch_shape,
        audio_stride=audio.patch_stride,
        audio_class_tokens=audio.num_class_tokens,
        scan_unroll=1,
    )
