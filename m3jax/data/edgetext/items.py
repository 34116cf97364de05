"""What a task of EdgeText is before its options are chosen."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Item(NamedTuple):
    """A question with its answer.

    Attributes:
      question: its words.
      answer: its words, 1 to 5.
      others: answers to choose wrong options from; the right one and repeats do not
        count. Three others at least, or () where the task has no options.
    """

    question: Sequence[str]
    answer: Sequence[str]
    others: Iterable[Sequence[str]] = ()
