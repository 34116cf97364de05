"""The nine domains of EdgeText, and one example of one of them by its number.

An example is a pure function of (settings, seed, split, index, attempt). Its domain
follows from the index, so that all are asked equally often.
"""

import dataclasses
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from m3jax.data.edgetext import items, kinds, quantities, strings

_DRAW: dict[str, Callable[[np.random.Generator, bool], items.Item]] = {
    "arithmetic": quantities.arithmetic,
    "sorting": quantities.sorting,
    "copying": strings.copying,
    "brackets": strings.brackets,
    "calendar": quantities.calendar,
    "membership": kinds.membership,
    "editing": strings.editing,
    "units": quantities.units,
    "syllogism": kinds.syllogism,
}
DOMAINS = tuple(_DRAW)
HELD_OUT = "syllogism"
"""The domain that no tuning of experts sees."""

QUESTION_LENGTH = 20
ANSWER_LENGTH = 6
"""Words of the longest answer, with its end."""
NUM_OPTIONS = 4

SHARES = {"experts": 60, "train": 28, "validation": 5, "test": 7}
"""Split -> percent of all prompts that are its own."""
SPLITS = tuple(SHARES)
_ENDS = np.cumsum(list(SHARES.values())).tolist()
_MAX_TRIES = 10_000


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is asked.

    Attributes:
      domains: asked in turn.
      special: share of special examples, 0 to 1.

    Raises:
      ValueError: a domain is unknown, there is none, or a share makes no sense.
    """

    domains: tuple[str, ...] = DOMAINS
    special: float = 0.35

    def __post_init__(self):
        unknown = [name for name in self.domains if name not in DOMAINS]
        if unknown or not self.domains:
            raise ValueError(
                f"domains is {self.domains}; choose some of {list(DOMAINS)}"
            )
        if not 0 <= self.special <= 1:
            raise ValueError(f"special is {self.special}; it must lie in [0, 1]")


class Example(NamedTuple):
    """A question of one domain.

    Attributes:
      question, answer: texts.
      options: four texts of which one is the answer, or ().
      choice: index of the answer among the options, or -1.
      domain: name.
      special: whether it needs what general texts do not show.
    """

    question: str
    answer: str
    options: tuple[str, ...]
    choice: int
    domain: str
    special: bool


def split_of(question: str) -> str:
    """The one split that a prompt may appear in, by a hash of its text.

    >>> split_of("reverse letters d a c f")
    'experts'
    """
    place = zlib.crc32(question.encode()) % 100
    return next(s for s, end in zip(SPLITS, _ENDS, strict=True) if place < end)


def draw(
    settings: Settings, seed: int, split: str, index: int, attempt: int = 0
) -> Example:
    """Draws one example, the same one for the same arguments anywhere.

    Args:
      settings: what is asked.
      seed: of all that is drawn.
      split: "experts", "train", "validation" or "test"; no two share a prompt.
      index: number of the example within its split.
      attempt: another number gives another example of the same domain.

    Raises:
      ValueError: there is no such split.
    """
    if split not in SHARES:
        raise ValueError(f"no split {split!r}; choose one of {list(SPLITS)}")
    domain = settings.domains[index % len(settings.domains)]
    rng = np.random.default_rng((seed, SPLITS.index(split), index, attempt))
    special = bool(rng.random() < settings.special)
    for _ in range(_MAX_TRIES):
        item = _DRAW[domain](rng, special)
        question = " ".join(item.question)
        if split_of(question) == split:
            return _arrange(rng, item, question, domain, special)
    raise RuntimeError(f"no prompt of {domain} found for {split}")


def _arrange(
    rng: np.random.Generator,
    item: items.Item,
    question: str,
    domain: str,
    special: bool,
) -> Example:
    """Puts the answer among three of the others, if there are any."""
    answer = " ".join(item.answer)
    options, choice = [], -1
    others = dict.fromkeys(" ".join(other) for other in item.others)
    if others:
        others.pop(answer, None)
        found = list(others)
        picked = rng.permutation(len(found))[: NUM_OPTIONS - 1].tolist()
        options = [found[i] for i in picked]
        choice = int(rng.integers(NUM_OPTIONS))
        options.insert(choice, answer)
    return Example(question, answer, tuple(options), choice, domain, special)
