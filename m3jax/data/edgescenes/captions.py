"""What a picture shows and what is heard, in words: the truth of a scene, told.

The text that alignment compares tokens with. It is derived from stored labels, so every
example of every set has it.
"""

from collections.abc import Mapping

import numpy as np

from m3jax.data.edgescenes import examples, words

IMAGE_LENGTH = 24
"""Words of the longest caption of a picture, with its end."""
AUDIO_LENGTH = 4
FEATURES = {"image_caption": IMAGE_LENGTH, "audio_caption": AUDIO_LENGTH}
"""Name -> length; int32, ended by EOS and padded by PAD."""


def make(example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Captions of one example.

    A picture's names each kind of thing once, as colour and shape, in the order of
    reading: "red ring blue star"; digits, bars and areas likewise. A sound's tells
    timbre, pitch and number of tones: "bell low three".

    Args:
      example: holds patch_kind and patch_colour, int32 [H, W], and sound, int32 [3].

    Returns:
      ``image_caption`` int32 [24] and ``audio_caption`` int32 [4].

    Example:
      >>> kind, colour = np.array([[0, 6], [1, 1]]), np.array([[0, 1], [3, 3]])
      >>> told = make({"patch_kind": kind, "patch_colour": colour, "sound": [0, 0, 2]})
      >>> words.decode(told["image_caption"]), words.decode(told["audio_caption"])
      ('red ring blue circle', 'bell low two')
    """
    kinds, colours = examples.PATCH_WORDS
    seen = zip(
        np.ravel(example["patch_kind"]), np.ravel(example["patch_colour"]), strict=True
    )
    things = [(colours[c], kinds[k]) for k, c in dict.fromkeys(seen) if k]
    said = [word for pair in things for word in pair if word != words.PAD]
    parts = zip(examples.SOUND_WORDS, example["sound"], strict=True)
    return {
        "image_caption": _end(said, IMAGE_LENGTH),
        "audio_caption": _end([ids[i] for ids, i in parts], AUDIO_LENGTH),
    }


def _end(said: list[int], length: int) -> np.ndarray:
    out = np.full(length, words.PAD, np.int32)
    said = said[: length - 1]
    out[: len(said) + 1] = [*said, words.EOS]
    return out
