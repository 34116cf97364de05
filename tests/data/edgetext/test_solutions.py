"""Every answer is found again by an oracle that reads nothing but the text."""

import datetime
import functools
import itertools
import re

import numpy as np
import pytest

from m3jax.data.edgetext import domains, words

NUM = 500
DIGIT = dict(zip(words.DIGITS, range(10), strict=True))
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
SETS = {
    "animals": "cats dogs cows hens pigs owls",
    "fruits": "apples pears plums figs limes grapes",
    "tools": "saws axes drills files rakes hammers",
    "treasures": "cats owls pears figs saws rakes",
    "omens": "dogs hens plums limes axes files",
    "gifts": "cows pigs apples grapes drills hammers",
    "relics": "cats hens apples limes drills rakes",
}
FACTOR = {"weeks": 7, "yards": 3, "decades": 10, "fathoms": 6, "scores": 20}


def solve_arithmetic(text):
    letters, digits = "([a-j])", r"(\w+)"
    found = re.fullmatch(
        f"let {letters} be {digits} and {letters} be {digits} "
        f"find {letters} {digits} {letters} modulo {digits}",
        text,
    ).groups()
    value = {found[0]: DIGIT[found[1]], found[2]: DIGIT[found[3]]}
    x, y = value[found[4]], value[found[6]]
    result = {"plus": x + y, "minus": x - y, "star": 2 * x}[found[5]]
    return words.DIGITS[result % DIGIT[found[7]]]


def solve_sorting(text):
    _, _, order, *shown = text.split()
    before = {
        "upward": lambda a, b: DIGIT[a] < DIGIT[b],
        "downward": lambda a, b: DIGIT[a] > DIGIT[b],
        "alphabetically": lambda a, b: a < b,
    }[order]
    places = {sum(before(b, a) for b in shown): a for a in shown}
    return " ".join(places[place] for place in range(len(shown)))


def solve_copying(text):
    how, _, shown = text.split(maxsplit=2)
    return {
        "copy": shown,
        "reverse": shown[::-1],
        "rotate": shown[2:] + " " + shown[0],
    }[how]


def solve_brackets(text):
    shown = text.removeprefix("close brackets ").replace(" ", "")
    before = None
    while shown != before:
        before, shown = shown, re.sub(r"\(\)|\[\]|\{\}|<>", "", shown)
    return " ".join(CLOSING[bracket] for bracket in reversed(shown))


def solve_calendar(text):
    day, weeks, count, unit, way = re.search(
        r"on (\w+) and . is (\w+) weeks (\w+) (\w+) (\w+) which", text
    ).groups()
    now = datetime.date(2024, 1, 1)
    while now.strftime("%A").lower() != day:
        now += datetime.timedelta(days=1)
    step = datetime.timedelta(days=1 if way == "later" else -1)
    now += 7 * DIGIT[weeks] * step
    left = DIGIT[count]
    while left:
        now += step
        left -= unit == "days" or now.isoweekday() < 6
    return now.strftime("%A").lower()


def solve_membership(text):
    kind, shown = re.fullmatch(r"choose (\w+) in set (.*)", text).groups()
    (member,) = set(SETS[kind].split()) & set(shown.split())
    return member


def solve_editing(text):
    shown, how, which = re.fullmatch(
        r"edit string (.*) (replace|drop|double) (.*)", text
    ).groups()
    old, *new = which.split(" with ")
    new = {"replace": new, "drop": [""], "double": [old + old]}[how]
    return " ".join(shown.replace(" ", "").replace(old, new[0]))


def solve_units(text):
    told, name, small = re.fullmatch(r"(.*) convert (.) to (\w+)", text).groups()
    count, unit = re.search(f"{name} is (\\w+) (\\w+)", told).groups()
    big = {"weeks": "days", "yards": "feet", "fathoms": "feet"}.get(unit, "years")
    assert small == big
    return " ".join(words.DIGITS[int(d)] for d in str(DIGIT[count] * FACTOR[unit]))


@functools.cache
def follows(premises, conclusion):
    """Whether a conclusion holds in every world where the premises hold."""
    regions = [r for r in itertools.product((0, 1), repeat=3) if any(r)]

    def holds(statement, world):
        quantifier, x, y = statement
        both = any(r["SMP".index(x)] and r["SMP".index(y)] for r in world)
        only_x = any(r["SMP".index(x)] and not r["SMP".index(y)] for r in world)
        return {"all": not only_x, "no": not both, "some": both}[quantifier]

    worlds = itertools.chain.from_iterable(
        itertools.combinations(regions, n) for n in range(len(regions) + 1)
    )
    return all(
        holds(conclusion, world)
        for world in worlds
        if all(holds(premise, world) for premise in premises)
    )


def solve_syllogism(text):
    told = [p.split() for p in text.removesuffix(" what follows").split(" and ")]
    told = [("all", y, x) if q == "only" else (q, x, y) for q, x, _, y in told]
    (middle,) = {told[0][1], told[0][2]} & {told[1][1], told[1][2]}
    things = {x for _, *pair in told for x in pair} - {middle}
    below = [x for _, x, y in told if y == middle]
    subject = below[0] if below else min(things)
    (predicate,) = things - {subject}
    short = {subject: "S", middle: "M", predicate: "P"}
    premises = tuple((q, short[x], short[y]) for q, x, y in told)
    for quantifier in ("all", "no", "some"):
        for x, y in ((subject, predicate), (predicate, subject)):
            if follows(premises, (quantifier, short[x], short[y])):
                return f"{quantifier} {x} are {y}"
    return "nothing"


SOLVE = {
    "arithmetic": solve_arithmetic,
    "sorting": solve_sorting,
    "copying": solve_copying,
    "brackets": solve_brackets,
    "calendar": solve_calendar,
    "membership": solve_membership,
    "editing": solve_editing,
    "units": solve_units,
    "syllogism": solve_syllogism,
}


def drawn(domain, special):
    settings = domains.Settings((domain,), special)
    return [domains.draw(settings, 3, "experts", index) for index in range(NUM)]


@pytest.mark.parametrize("domain", domains.DOMAINS)
@pytest.mark.parametrize("special", [0.0, 1.0])
def test_another_way_of_solving_finds_the_same_answer(domain, special):
    for example in drawn(domain, special):
        assert SOLVE[domain](example.question) == example.answer, example
        assert (example.domain, example.special) == (domain, bool(special))


@pytest.mark.parametrize(
    ("domain", "word", "plain", "least"),
    [
        ("arithmetic", "star", ("plus", "minus"), 0.65),
        ("sorting", "alphabetically", ("upward", "downward"), 0.8),
        ("copying", "rotate", ("copy", "reverse"), 1),
        ("calendar", "workdays", ("days",), 1),
        ("editing", "double", ("drop",), 1),
        ("units", "fathoms", ("yards",), 1),
        ("syllogism", "only", ("all",), 1),
    ],
)
def test_what_is_special_is_answered_wrongly_by_one_who_reads_it_as_common(
    domain, word, plain, least
):
    asked = [e for e in drawn(domain, 1.0) if word in e.question.split()]
    if domain == "units":
        asked = [e for e in asked if e.question.endswith("feet")]
    for other in plain:
        read = [SOLVE[domain](re.sub(word, other, e.question)) for e in asked]
        wrong = [r != e.answer for r, e in zip(read, asked, strict=True)]
        assert np.mean(wrong) >= least, other
