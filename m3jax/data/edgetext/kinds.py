"""Tasks about kinds of things: membership of a set, and syllogisms.

Each function draws one item; ``special`` asks for what general texts do not show.
"""

import numpy as np

from m3jax.data.edgetext import items, words

_THINGS = tuple(thing for things in words.KINDS.values() for thing in things)
_REST = {
    kind: tuple(thing for thing in _THINGS if thing not in things)
    for kind, things in (words.KINDS | words.SPECIAL_SETS).items()
}


def membership(rng: np.random.Generator, special: bool) -> items.Item:
    """The one thing of four that is of a kind.

    Special asks for a set that cuts across the kinds.
    """
    sets = words.SPECIAL_SETS if special else words.KINDS
    kind = tuple(sets)[int(rng.integers(len(sets)))]
    members = sets[kind]
    rest = _REST[kind]
    answer = members[int(rng.integers(len(members)))]
    wrong = [rest[i] for i in rng.permutation(len(rest))[:3].tolist()]
    shown = [*wrong]
    shown.insert(int(rng.integers(4)), answer)
    question = ("choose", kind, "in", "set", *shown)
    return items.Item(question, [answer], zip(wrong))


# Premises about a subject S, a middle M and a predicate P, and the quantifier of what
# follows about S and P.
_COMMON_FORMS = (
    (("all", "M", "P"), ("all", "S", "M"), "all"),
    (("no", "M", "P"), ("all", "S", "M"), "no"),
    (("all", "M", "P"), ("some", "S", "M"), "some"),
    (("some", "M", "P"), ("some", "S", "M"), "nothing"),
)
# "only M are S" says that all S are M; read as "all" it would lead elsewhere.
_SPECIAL_FORMS = (
    *((("only", "P", "M"), ("only", "M", "S"), "all"),) * 5,
    *((("no", "M", "P"), ("only", "M", "S"), "no"),) * 2,
    *((("only", "M", "P"), ("all", "S", "M"), "nothing"),) * 3,
)


def syllogism(rng: np.random.Generator, special: bool) -> items.Item:
    """What follows from two premises about three kinds of things, if anything.

    Special has ``only``, which turns a premise round.
    """
    forms = _SPECIAL_FORMS if special else _COMMON_FORMS
    form, swap = rng.integers((len(forms), 2)).tolist()
    order = rng.permutation(len(_THINGS))[:3].tolist()
    things = dict(zip("SMP", (_THINGS[i] for i in order), strict=True))
    *premises, quantifier = forms[form]
    told = [[q, things[x], "are", things[y]] for q, x, y in premises]
    if swap:
        told.reverse()
    subject, predicate = things["S"], things["P"]
    possible = {
        **{q: [q, subject, "are", predicate] for q in ("all", "no", "some")},
        "nothing": ["nothing"],
    }
    answer = possible.pop(quantifier)
    question = (*told[0], "and", *told[1], "what", "follows")
    return items.Item(question, answer, possible.values())
