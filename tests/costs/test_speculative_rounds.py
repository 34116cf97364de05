"""Rounds that follow from where draft and target agree, against a loop by hand."""

import itertools

import numpy as np
import pytest

from m3jax.costs import speculative_rounds


def play(agrees, sure, length, most, gamma, pipelined):
    """Token by token, one answer: [(drafted, accepted, steps, asked, emitted)]."""
    rounds, done = [], 0
    while done < length:
        drafted = accepted = steps = 0
        fallen = asked = ended = False
        room = most - done - (0 if pipelined else 1)
        while drafted < min(gamma, room) and not ended:
            place = done + drafted
            steps += 1
            if place < length and not sure[place]:
                asked = True
                break
            drafted += 1
            fallen |= place >= length or not agrees[place]
            accepted += not fallen
            ended = not fallen and done + accepted == length
        asked |= drafted == 0
        whole = accepted == drafted and not asked
        emitted = accepted + (not ended and not (whole and pipelined))
        rounds.append((drafted, accepted, steps, asked, emitted))
        done += emitted
    assert done == length
    return rounds


def draw(seed, num=40, most=13):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, most + 1, size=num)
    valid = np.arange(most) < lengths[:, None]
    agrees = (rng.random((num, most)) < rng.random((num, 1)) ** 0.3) & valid
    return agrees, rng.random((num, most)) * valid, valid


@pytest.mark.parametrize("pipelined", [False, True])
def test_rounds_are_those_of_a_loop_by_hand_and_sum_to_the_answer(pipelined):
    settings = itertools.product(range(5), (0, 1, 2, 3, 5, 20), (None, 0.0, 0.4, 0.9))
    for seed, gamma, threshold in settings:
        agrees, entropies, valid = draw(seed)
        found = speculative_rounds.of_agreement(
            agrees,
            entropies,
            valid,
            draft_length=gamma,
            threshold=threshold,
            pipelined=pipelined,
        )
        emitted = found.emitted(pipelined)
        np.testing.assert_array_equal(emitted.sum(axis=1), valid.sum(axis=1))
        assert not emitted[~found.valid].any() and emitted[found.valid].all()
        sure = entropies <= (2.0 if threshold is None else threshold)
        for n, row in enumerate(valid):
            expected = play(agrees[n], sure[n], row.sum(), len(row), gamma, pipelined)
            count = found.valid[n].sum()
            columns = (found.drafted, found.accepted, found.steps, found.asked, emitted)
            told = [tuple(column[n, i] for column in columns) for i in range(count)]
            assert told == expected


def test_each_answer_may_have_a_length_and_a_threshold_of_its_own():
    agrees, entropies, valid = draw(0)
    gammas, thresholds = np.arange(40) % 4, np.linspace(0.0, 1.0, 40)
    found = speculative_rounds.of_agreement(
        agrees, entropies, valid, draft_length=gammas, threshold=thresholds
    )
    for n in range(40):
        alone = speculative_rounds.of_agreement(
            *(part[n : n + 1] for part in (agrees, entropies, valid)),
            draft_length=gammas[n],
            threshold=thresholds[n],
        )
        count = alone.drafted.shape[1]
        for together, own in zip(found, alone, strict=True):
            np.testing.assert_array_equal(together[n, :count], own[0])
        assert (found.drafted[n, count:] == -1).all()


def test_a_draft_that_agrees_ends_the_answer_without_the_targets_word():
    valid = np.array([[True] * 4 + [False] * 3])
    found = speculative_rounds.of_agreement(
        valid, np.zeros((1, 7)), valid, draft_length=4
    )
    assert found.drafted.tolist() == found.accepted.tolist() == [[4]]
    assert found.ends.all() and found.emitted().tolist() == [[4]]
    made = speculative_rounds.make_rounds([[4]], [[4]], ends=True)
    assert made.emitted().tolist() == [[4]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"valid": np.array([[True, False, True]])}, "no hole"),
        ({"valid": np.zeros((1, 3), bool)}, "needs a word"),
        ({"entropies": np.zeros((1, 2))}, "alike"),
        ({"draft_length": -1}, "draft_length"),
    ],
)
def test_what_makes_no_sense_is_named(change, told):
    some = np.ones((1, 3), bool)
    given = {"agrees": some, "entropies": np.zeros((1, 3)), "valid": some}
    with pytest.raises(ValueError, match=told):
        speculative_rounds.of_agreement(**{**given, "draft_length": 2, **change})


@pytest.mark.parametrize(("accepted", "asked"), [(1, False), (0, False), (2, True)])
def test_only_a_draft_that_stands_ends_an_answer(accepted, asked):
    with pytest.raises(ValueError, match="ends the answer"):
        speculative_rounds.make_rounds([[2]], [[accepted]], asked=asked, ends=True)
