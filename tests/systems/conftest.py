"""Sizes at which a system compiles in seconds, and batches to match."""

import numpy as np
import pytest

from m3jax.nn import foundation

VOCABULARY, QUESTION, ANSWER = 12, 4, 3


@pytest.fixture(scope="session")
def tiny_sizes():
    """Encoders of 16 and 4 tokens and a decoder, one layer each."""
    return foundation.FoundationConfig(
        vocab_size=VOCABULARY,
        dim=8,
        num_heads=2,
        num_kv_heads=1,
        image_depth=1,
        audio_depth=1,
        decoder_depth=1,
        mlp_dim=8,
        ff_dim=8,
        image_shape=(16, 16, 3),
        image_patch=(4, 4),
        image_stem=(),
        audio_shape=(16, 8, 1),
        audio_patch=(4, 8),
    )


@pytest.fixture(scope="session")
def tiny_batch():
    """A batch of four to match, answers of one or two words among it."""
    rng = np.random.default_rng(0)
    words = rng.integers(3, VOCABULARY, size=(4, QUESTION + ANSWER)).astype(np.int32)
    question, answer = words[:, :QUESTION], words[:, QUESTION:]
    question[::2, -1] = foundation.PAD
    answer[:, 1:] = foundation.EOS, foundation.PAD
    answer[0, 1:] = 5, foundation.EOS
    return {
        "image": rng.integers(0, 256, size=(4, 16, 16, 3)).astype(np.uint8),
        "audio": rng.normal(size=(4, 16, 8)).astype(np.float32),
        "question": question,
        "answer": answer,
        "patch_kind": rng.integers(0, 12, size=(4, 4, 4)).astype(np.int32),
        "patch_colour": rng.integers(0, 7, size=(4, 4, 4)).astype(np.int32),
        "sound": rng.integers(0, 3, size=(4, 3)).astype(np.int32),
    }
