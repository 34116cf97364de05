"""The floor under every accuracy, on sets small enough to count by hand."""

import numpy as np

from m3jax.evals import axes, baselines

SKILLS = ("colour", "number", "unasked")


def arrays(*rows):
    """(question, answer, skill) rows as the arrays of a set."""
    question, answer, skill = (np.array(column) for column in zip(*rows, strict=True))
    return {"question": question, "answer": answer, "skill": skill}


TRAIN = arrays(
    ([1, 1], [5, 0], 0),
    ([1, 1], [5, 0], 0),
    ([1, 1], [6, 0], 0),
    ([1, 2], [6, 0], 0),
    ([3, 0], [7, 8], 1),
)


def test_question_only_says_what_that_question_was_answered_by_most_often():
    test = arrays(
        ([1, 1], [5, 0], 0),
        ([1, 1], [6, 0], 0),  # the rarer answer
        ([1, 2], [6, 0], 0),
        ([3, 0], [7, 0], 1),  # the first word alone is not the answer
        ([9, 9], [5, 0], 0),  # never seen
    )
    assert baselines.question_only(TRAIN, test).tolist() == [1, 0, 1, 0, 0]


def test_chance_is_one_over_the_answers_that_the_skill_has():
    test = arrays(([9, 9], [5, 0], 0), ([9, 9], [5, 0], 1), ([9, 9], [5, 0], 2))
    assert baselines.chance(TRAIN, test).tolist() == [1 / 2, 1, 0]


def test_no_guess_from_the_question_beats_the_best_one_on_what_it_was_counted_on():
    rng = np.random.default_rng(0)
    question, answer = rng.integers(3, size=(300, 1)), rng.integers(4, size=(300, 1))
    seen = {"question": question, "answer": answer, "skill": question[:, 0]}
    best = baselines.question_only(seen, seen).mean()
    for guess in range(4):
        assert best >= (answer == guess).mean()
    tables = rng.integers(4, size=(50, 3))  # 50 other functions of the question
    assert best >= max((table[question] == answer).mean() for table in tables)


def test_records_have_a_row_for_all_and_for_each_skill_that_is_there():
    test = arrays(([1, 1], [5, 0], 0), ([1, 1], [6, 0], 0), ([3, 0], [7, 8], 1))
    rows = baselines.to_records(
        np.array([1.0, 0.0, 1.0]), test, system="s", variant="v", groups=SKILLS
    )
    values = {axes.coordinate(row, "skill"): row.value for row in rows}
    assert values == {None: 2 / 3, "colour": 0.5, "number": 1.0}
    assert {(r.system, r.variant, r.metric, r.unit) for r in rows} == {
        ("s", "v", "answer_accuracy", "1")
    }
