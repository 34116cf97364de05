"""Tasks about strings: copies and reversals, brackets, edits.

Each function draws one item; ``special`` asks for what general texts do not show.
"""

import numpy as np

from m3jax.data.edgetext import items, words

_PAIRS = 2  # of brackets in a question that are closed already


def _letters(rng: np.random.Generator, count: int) -> list[str]:
    """Different letters in random order."""
    order = rng.permutation(len(words.LETTERS))[:count].tolist()
    return [words.LETTERS[i] for i in order]


def copying(rng: np.random.Generator, special: bool) -> items.Item:
    """Four or five letters, as they are or reversed.

    Special is to rotate: the first letter goes to the end.
    """
    length, back = rng.integers((4, 0), (6, 2)).tolist()
    shown = _letters(rng, length)
    if special:
        return items.Item(("rotate", "letters", *shown), [*shown[1:], shown[0]])
    if back:
        return items.Item(("reverse", "letters", *shown), shown[::-1])
    return items.Item(("copy", "letters", *shown), shown)


def brackets(rng: np.random.Generator, special: bool) -> items.Item:
    """What closes the brackets that are open, of three kinds.

    Special has angle brackets too, at least one of them open.
    """
    num_open = int(rng.integers(3, 6))
    num_kinds = len(words.BRACKETS) - (not special)
    open_kinds = rng.integers(num_kinds, size=num_open).tolist()
    if special:
        open_kinds[int(rng.integers(num_open))] = num_kinds - 1
    shown = _nested(rng, open_kinds, num_kinds)
    answer = [words.BRACKETS[kind][1] for kind in reversed(open_kinds)]
    closing = [pair[1] for pair in words.BRACKETS[:num_kinds]]
    others = (
        [*answer[:at], other, *answer[at + 1 :]]
        for at in range(num_open)
        for other in closing
    )
    return items.Item(("close", "brackets", *shown), answer, others)


def _nested(
    rng: np.random.Generator, open_kinds: list[int], num_kinds: int
) -> list[str]:
    """Brackets that leave these kinds open, among pairs that are closed."""
    shown = [words.BRACKETS[kind][0] for kind in open_kinds]
    for kind in rng.integers(num_kinds, size=_PAIRS).tolist():
        # A closed pair may stand anywhere, and what is closed already inside it.
        begin = int(rng.integers(len(shown) + 1))
        end = begin
        if begin < len(shown) and rng.integers(2):
            end = _end_of_pair(shown, begin)
        opening, closing = words.BRACKETS[kind]
        shown[begin:end] = [opening, *shown[begin:end], closing]
    return shown


_OPENING = {opening for opening, _ in words.BRACKETS}


def _end_of_pair(shown: list[str], begin: int) -> int:
    """One past the bracket that closes the one at ``begin``; ``begin`` if none does."""
    depth = 0
    for at in range(begin, len(shown)):
        depth += 1 if shown[at] in _OPENING else -1
        if depth <= 0:
            return at + 1 if depth == 0 else begin
    return begin


def editing(rng: np.random.Generator, special: bool) -> items.Item:
    """Four letters of which one is replaced or dropped.

    Special is to double one.
    """
    *shown, new = _letters(rng, 5)
    at, drop = rng.integers((4, 2)).tolist()
    before, old, after = shown[:at], shown[at], shown[at + 1 :]
    start = ("edit", "string", *shown)
    if special:
        return items.Item((*start, "double", old), [*before, old, old, *after])
    if drop:
        return items.Item((*start, "drop", old), [*before, *after])
    return items.Item((*start, "replace", old, "with", new), [*before, new, *after])
