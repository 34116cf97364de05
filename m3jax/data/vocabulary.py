"""Closed vocabularies: a text is words between spaces, a word is a number."""

from collections.abc import Iterable, Sequence

import numpy as np

PAD, BOS, EOS = 0, 1, 2

SPECIAL = ("<pad>", "<bos>", "<eos>")
"""The first words of every vocabulary, in the order of their ids."""


class Vocabulary:
    """Words by id and ids by word.

    Args:
      words: every word, in the order of its id; ``SPECIAL`` comes first.
      name: of the data set, for messages.
      module: where the words are listed, for messages.

    Raises:
      ValueError: a word is named twice, or ``SPECIAL`` does not come first.

    Example:
      >>> few = Vocabulary((*SPECIAL, "red", "ring"), "mine", "my.words")
      >>> few.encode("red ring"), few.decode([3, 4, EOS, 3])
      ([3, 4], 'red ring')
    """

    def __init__(self, words: Sequence[str], name: str, module: str):
        if tuple(words[: len(SPECIAL)]) != SPECIAL:
            raise ValueError(f"the vocabulary of {name} must begin with {SPECIAL}")
        self._words, self._name, self._module = tuple(words), name, module
        self._ids = {word: i for i, word in enumerate(words)}
        if len(self._ids) != len(words):
            raise ValueError(f"the vocabulary of {name} names a word twice")

    def encode(self, text: str) -> list[int]:
        """Word ids of a text; raises ValueError naming a word that is not known."""
        try:
            return [self._ids[word] for word in text.split()]
        except KeyError as error:
            raise ValueError(
                f"{error.args[0]!r} is not in the vocabulary of {self._name}; "
                f"{self._module}.WORDS lists the words it knows"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Text of word ids, up to the first EOS and without padding."""
        out = []
        for i in ids:
            if i == EOS:
                break
            if i not in (PAD, BOS):
                out.append(self._words[i])
        return " ".join(out)

    def pad(self, ids: Sequence[int], length: int) -> np.ndarray:
        """int32 [length] of word ids and PAD; raises ValueError if they are more."""
        if len(ids) > length:
            raise ValueError(f"{self.decode(ids)!r} is longer than {length} words")
        return np.array([*ids, *[PAD] * (length - len(ids))], np.int32)
