"""The closed vocabulary of EdgeScenes and its word tokenizer."""

import numpy as np

from m3jax.data import vocabulary

PAD, BOS, EOS = vocabulary.PAD, vocabulary.BOS, vocabulary.EOS

NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
)
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
TIMBRES = ("bell", "drum", "horn", "whistle", "flute")
PITCHES = ("low", "middle", "high")
DIRECTIONS = ("left", "right", "up", "down", "nowhere")

_OTHER = (
    *("yes", "no", "none", "top", "bottom", "a", "then"),
    *("what", "which", "how", "where", "is", "are", "the", "of", "in", "on", "has"),
    *("there", "many", "things", "thing", "shape", "colour", "covers", "largest"),
    *("smallest", "area", "digit", "row", "column", "at", "tall", "bar", "tallest"),
    *("shortest", "number", "sign", "read", "lesion", "tissue", "show", "tone"),
    *("tones", "pitch", "do", "you", "hear", "makes", "sound", "sounding", "did"),
    *("move", "way", "comes", "after", "before", "sides", "opposite", "describe"),
    *("picture", "list", "all", "count", "name"),
)
WORDS = (
    *vocabulary.SPECIAL,
    *NUMBERS,
    *COLOURS,
    *SHAPES,
    *TIMBRES,
    *PITCHES,
    *DIRECTIONS,
    *_OTHER,
)
"""Every word, in the order of its id."""

_VOCABULARY = vocabulary.Vocabulary(WORDS, "EdgeScenes", __name__)


def encode(text: str) -> list[int]:
    """Word ids of a text; raises ValueError naming a word that is not known.

    >>> decode(encode("how many red things are there"))
    'how many red things are there'
    """
    return _VOCABULARY.encode(text)


def decode(ids) -> str:
    """Text of word ids, up to the first EOS and without padding."""
    return _VOCABULARY.decode(ids)


def pad(ids, length: int) -> np.ndarray:
    """int32 [length] of word ids and PAD; raises ValueError if they are more."""
    return _VOCABULARY.pad(ids, length)
