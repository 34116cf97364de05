"""The smallest foundation model that has every part, and a batch to match.

A system built on it compiles in seconds, for tests of what holds at any size.
"""

import numpy as np

from m3jax.foundation import answering
from m3jax.foundation import sizes as sizes_lib

VOCABULARY, QUESTION, ANSWER = 12, 4, 3


def sizes() -> sizes_lib.Sizes:
    """Encoders of 16 and 4 tokens and a decoder, of one layer each."""
    return sizes_lib.Sizes(
        decoder=sizes_lib.DecoderSizes(
            vocab_size=VOCABULARY, dim=8, num_heads=2, num_kv_heads=1, depth=1, ff_dim=8
        ),
        image=sizes_lib.image(
            depth=1, shape=(16, 16, 3), patch=(4, 4), stem=(), mlp_dim=8
        ),
        audio=sizes_lib.audio(depth=1, shape=(16, 8, 1), patch=(4, 8), mlp_dim=8),
    )


def make_batch(seed: int = 0, batch_size: int = 4) -> dict[str, np.ndarray]:
    """Draws a batch of noise: what EdgeScenes has, at these sizes.

    Args:
      seed: the same seed gives the same batch.
      batch_size: B.

    Returns:
      image uint8 [B, 16, 16, 3]; audio float32 [B, 16, 8]; question int32 [B, 4], every
      other one padded; answer int32 [B, 3], one word each but the first, of two;
      patch_kind, patch_colour int32 [B, 4, 4] below 4; sound int32 [B, 3] below 3.
    """
    rng = np.random.default_rng(seed)
    words = rng.integers(3, VOCABULARY, size=(batch_size, QUESTION + ANSWER))
    question, answer = np.split(words.astype(np.int32), [QUESTION], axis=1)
    question[::2, -1] = answering.PAD
    answer[1:, 1:] = answering.EOS, answering.PAD
    answer[0, -1] = answering.EOS
    shape = batch_size, 4, 4
    return {
        "image": rng.integers(256, size=(batch_size, 16, 16, 3)).astype(np.uint8),
        "audio": rng.normal(size=(batch_size, 16, 8)).astype(np.float32),
        "question": question,
        "answer": answer,
        "patch_kind": rng.integers(4, size=shape).astype(np.int32),
        "patch_colour": rng.integers(4, size=shape).astype(np.int32),
        "sound": rng.integers(3, size=(batch_size, 3)).astype(np.int32),
    }


def scene_sizes() -> sizes_lib.Sizes:
    """As `sizes`, for the pictures, sounds and words of EdgeScenes."""
    decoder = sizes_lib.DecoderSizes(
        dim=8, num_heads=2, num_kv_heads=1, depth=1, ff_dim=8
    )
    return sizes_lib.Sizes(
        decoder=decoder,
        image=sizes_lib.image(depth=1, mlp_dim=8, stem=()),
        audio=sizes_lib.audio(depth=1, mlp_dim=8, patch=(16, 40)),
    )
