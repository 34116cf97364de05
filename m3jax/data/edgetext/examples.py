"""Examples of EdgeText as the arrays that models read, and all those of a split."""

from collections.abc import Iterator

import numpy as np

from m3jax.data.edgetext import domains, words

FEATURES = {
    "question": ((domains.QUESTION_LENGTH,), np.int32),
    "answer": ((domains.ANSWER_LENGTH,), np.int32),
    "options": ((domains.NUM_OPTIONS, domains.ANSWER_LENGTH), np.int32),
    "choice": ((), np.int32),
    "domain": ((), np.int32),
    "special": ((), np.int32),
}
"""Name -> (shape, dtype) of all that a model may read."""


def encode(example: domains.Example) -> dict[str, np.ndarray]:
    """Turns an example into the arrays of ``FEATURES``.

    Args:
      example: what ``domains.draw`` returned.

    Returns:
      Name -> array. ``question`` is padded with PAD; ``answer`` and each of ``options``
      end with EOS and are then padded, and ``options`` is all PAD where there are none;
      ``choice`` is the index of the right option or -1; ``domain`` is the index into
      ``domains.DOMAINS``; ``special`` is 0 or 1.

    Raises:
      ValueError: a text is too long or has a word outside the vocabulary.
    """
    options = np.full(FEATURES["options"][0], words.PAD, np.int32)
    for row, text in zip(options, example.options, strict=False):
        row[:] = _ended(text)
    return {
        "question": words.pad(words.encode(example.question), domains.QUESTION_LENGTH),
        "answer": _ended(example.answer),
        "options": options,
        "choice": np.int32(example.choice),
        "domain": np.int32(domains.DOMAINS.index(example.domain)),
        "special": np.int32(example.special),
    }


def _ended(text: str) -> np.ndarray:
    return words.pad([*words.encode(text), words.EOS], domains.ANSWER_LENGTH)


def distinct(
    settings: domains.Settings, seed: int, split: str, size: int
) -> Iterator[domains.Example]:
    """Yields the examples of a stored split; no prompt comes twice.

    Args:
      settings: what is asked.
      seed: of all that is drawn.
      split: as ``domains.draw`` takes it.
      size: number of examples.
    """
    seen = set()
    for index in range(size):
        for attempt in range(1_000):
            example = domains.draw(settings, seed, split, index, attempt)
            if example.question not in seen:
                break
        else:
            raise ValueError(
                f"{split} has no {size} different prompts of {example.domain}"
            )
        seen.add(example.question)
        yield example
