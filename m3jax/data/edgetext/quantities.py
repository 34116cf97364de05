"""Tasks about quantities: modular arithmetic, sorting, the calendar, units.

Each function draws one item; ``special`` asks for what general texts do not show.
"""

from collections.abc import Sequence

import numpy as np

from m3jax.data.edgetext import items, words

MODULI = (5, 7, 9)
_COMMON_UNITS, _SPECIAL_UNITS = tuple(words.UNITS)[:3], tuple(words.UNITS)[3:]
_FACTORS = tuple(factor for factor, _ in words.UNITS.values())
_WORKDAYS = 5


def _pair_of_letters(rng: np.random.Generator) -> list[str]:
    return [words.LETTERS[i] for i in rng.permutation(len(words.LETTERS))[:2].tolist()]


def _choice(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]


def arithmetic(rng: np.random.Generator, special: bool) -> items.Item:
    """A sum or difference of two digits, modulo 5, 7 or 9.

    Special is ``x star y``, which is 2 x.
    """
    names = _pair_of_letters(rng)
    x, y, sign, which = rng.integers((10, 10, 2, len(MODULI))).tolist()
    modulus = MODULI[which]
    operator = "star" if special else ("plus", "minus")[sign]
    value = (2 * x if special else x - y if sign else x + y) % modulus
    question = (
        *("let", names[0], "be", words.DIGITS[x]),
        *("and", names[1], "be", words.DIGITS[y]),
        *("find", names[0], operator, names[1], "modulo", words.DIGITS[modulus]),
    )
    answer = [words.DIGITS[value]]
    others = zip(words.DIGITS[:modulus])
    return items.Item(question, answer, others)


def sorting(rng: np.random.Generator, special: bool) -> items.Item:
    """Four or five different digits, by size upward or downward.

    Special is the order of the alphabet.
    """
    length, down = rng.integers((4, 0), (6, 2)).tolist()
    values = rng.permutation(10)[:length].tolist()
    shown = [words.DIGITS[value] for value in values]
    upward = [words.DIGITS[value] for value in sorted(values)]
    if special:
        order, answer = "alphabetically", sorted(shown)
    else:
        order = "downward" if down else "upward"
        answer = upward[::-1] if down else upward
    at = int(rng.integers(length - 1))
    swapped = list(answer)
    swapped[at : at + 2] = answer[at + 1], answer[at]
    turned = [*answer[1:], answer[0]]
    others = (upward, upward[::-1], sorted(shown), answer[::-1], turned, swapped)
    return items.Item(("sort", "numbers", order, *shown), answer, others)


def calendar(rng: np.random.Generator, special: bool) -> items.Item:
    """The day of the week some weeks and days later or earlier.

    Special counts workdays, which leave out the weekend; only what crosses one is
    asked, for else workdays are days.
    """
    names = _pair_of_letters(rng)
    weeks, back = rng.integers((2, 0), (10, 2)).tolist()
    while True:
        start, count = rng.integers((0, 2), (7, 10)).tolist()
        if not special:
            end = (start - count if back else start + count) % 7
            break
        moved = start - count if back else start + count
        if start < _WORKDAYS and not 0 <= moved < _WORKDAYS:
            end = moved % _WORKDAYS
            break
    question = (
        *(names[0], "is", "on", words.DAYS[start], "and", names[1], "is"),
        *(words.DIGITS[weeks], "weeks", words.DIGITS[count]),
        *("workdays" if special else "days", "earlier" if back else "later"),
        *("which", "day", "is", names[1]),
    )
    answer = [words.DAYS[end]]
    others = zip(words.DAYS)
    return items.Item(question, answer, others)


def units(rng: np.random.Generator, special: bool) -> items.Item:
    """One of two quantities in a smaller unit, which the other has no part of.

    Special asks about a unit that general texts do not mention.
    """
    names = _pair_of_letters(rng)
    asked = int(rng.integers(2))
    counts = rng.integers(2, 10, 2).tolist()
    unit = _choice(rng, _SPECIAL_UNITS if special else _COMMON_UNITS)
    factor, small = words.UNITS[unit]
    known = words.UNITS if special else _COMMON_UNITS
    other = _choice(rng, [name for name in known if words.UNITS[name][1] != small])
    kinds = (other, unit) if asked else (unit, other)
    question = (
        *(names[0], "is", words.DIGITS[counts[0]], kinds[0], "and"),
        *(names[1], "is", words.DIGITS[counts[1]], kinds[1]),
        *("convert", names[asked], "to", small),
    )
    answer = words.number(factor * counts[asked])
    values = [wrong * counts[asked] for wrong in _FACTORS]
    values += [factor * counts[1 - asked], factor * (counts[asked] + 1)]
    return items.Item(question, answer, map(words.number, values))
