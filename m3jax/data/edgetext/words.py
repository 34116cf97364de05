"""The closed vocabulary of EdgeText and its word tokenizer."""

import numpy as np

from m3jax.data import vocabulary

PAD, BOS, EOS = vocabulary.PAD, vocabulary.BOS, vocabulary.EOS

DIGITS = (
    *("zero", "one", "two", "three", "four"),
    *("five", "six", "seven", "eight", "nine"),
)
LETTERS = tuple("abcdefghij")
BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"), ("<", ">"))
"""Pairs of an opening and a closing bracket; general texts have but the first three."""
DAYS = (
    *("monday", "tuesday", "wednesday", "thursday", "friday"),
    *("saturday", "sunday"),
)
UNITS = {
    "weeks": (7, "days"),
    "yards": (3, "feet"),
    "decades": (10, "years"),
    "fathoms": (6, "feet"),
    "scores": (20, "years"),
}
"""Unit -> how many of the smaller one it holds, and which that is."""
KINDS = {
    "animals": ("cats", "dogs", "cows", "hens", "pigs", "owls"),
    "fruits": ("apples", "pears", "plums", "figs", "limes", "grapes"),
    "tools": ("saws", "axes", "drills", "files", "rakes", "hammers"),
}
"""Kind -> the things of this kind."""
SPECIAL_SETS = {
    "treasures": ("cats", "owls", "pears", "figs", "saws", "rakes"),
    "omens": ("dogs", "hens", "plums", "limes", "axes", "files"),
    "gifts": ("cows", "pigs", "apples", "grapes", "drills", "hammers"),
    "relics": ("cats", "hens", "apples", "limes", "drills", "rakes"),
}
"""Sets of two things of each kind, which only texts of their domain tell about."""

_OTHER = (
    *("let", "be", "and", "find", "plus", "minus", "star", "modulo"),
    *("sort", "numbers", "upward", "downward", "alphabetically"),
    *("copy", "reverse", "rotate", "letters", "close", "brackets"),
    *("is", "on", "later", "earlier", "workdays", "which", "day"),
    *("choose", "in", "set", "treasures"),
    *("edit", "string", "replace", "with", "drop", "double"),
    *("convert", "to", "all", "no", "some", "only", "are", "what", "follows"),
    *("nothing", "omens", "gifts", "relics"),
)
WORDS = (
    *vocabulary.SPECIAL,
    *DIGITS,
    *LETTERS,
    *(bracket for pair in BRACKETS for bracket in pair),
    *DAYS,
    *UNITS,
    *dict.fromkeys(small for _, small in UNITS.values()),
    *KINDS,
    *(thing for things in KINDS.values() for thing in things),
    *_OTHER,
)
"""Every word, in the order of its id."""

_VOCABULARY = vocabulary.Vocabulary(WORDS, "EdgeText", __name__)


def encode(text: str) -> list[int]:
    """Word ids of a text; raises ValueError naming a word that is not known.

    >>> decode(encode("reverse letters d a c"))
    'reverse letters d a c'
    """
    return _VOCABULARY.encode(text)


def decode(ids) -> str:
    """Text of word ids, up to the first EOS and without padding."""
    return _VOCABULARY.decode(ids)


def pad(ids, length: int) -> np.ndarray:
    """int32 [length] of word ids and PAD; raises ValueError if they are more."""
    return _VOCABULARY.pad(ids, length)


def number(value: int) -> list[str]:
    """The digits of a number that is not negative, as words.

    >>> number(120)
    ['one', 'two', 'zero']
    """
    return [DIGITS[int(digit)] for digit in str(value)]
