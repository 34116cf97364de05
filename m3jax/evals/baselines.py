"""What a guesser gets who neither sees nor hears: the floor under every accuracy."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from m3jax import base
from m3jax.evals import axes


def question_only(
    train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Answers each question by the answer it most often had in training.

    No function of the question alone does better, up to the noise of counting.

    Args:
      train: holds question [n, Q] and answer [n, A], int.
      test: the same, m examples.

    Returns:
      float64 [m], 1 where the whole answer is right; 0 for a question never seen.
    """
    counts = collections.defaultdict(collections.Counter)
    for question, answer in zip(train["question"], train["answer"], strict=True):
        counts[question.tobytes()][answer.tobytes()] += 1
    best = {question: seen.most_common(1)[0][0] for question, seen in counts.items()}
    pairs = zip(test["question"], test["answer"], strict=True)
    return np.array([best.get(q.tobytes()) == a.tobytes() for q, a in pairs], float)


def chance(
    train: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    group_key: str = "skill",
) -> np.ndarray:
    """Chance to guess right among all answers of the group, each equally likely.

    Args:
      train: holds ``group_key`` [n] and answer [n, A], int.
      test: the same, m examples.
      group_key: name of the groups' indices.

    Returns:
      float64 [m]: 1 / (number of different answers of that group in training); 0 for a
      group never seen.
    """
    answers = collections.defaultdict(set)
    for group, answer in zip(train[group_key], train["answer"], strict=True):
        answers[int(group)].add(answer.tobytes())
    return np.array(
        [
            1 / max(len(answers[int(group)]), 1) * bool(answers[int(group)])
            for group in test[group_key]
        ]
    )


def to_records(
    values: np.ndarray,
    test: Mapping[str, np.ndarray],
    *,
    system: str,
    variant: str,
    groups: Sequence[str],
    group_key: str = "skill",
) -> list[base.Record]:
    """Rows of the mean over all examples and over each group, at no SNR.

    Args:
      values: float [m], accuracy of each example.
      test: holds int [m] named ``group_key``, indices into ``groups``.
      system: name of the system it is measured beside.
      variant: name of the baseline.
      groups: names of the groups, such as skills.
      group_key: the axis that groups stand on.

    Returns:
      Rows of ``answer_accuracy``.
    """
    parts = {(): values}
    for index, group in enumerate(groups):
        if (test[group_key] == index).any():
            parts[axes.at(**{group_key: group})] = values[test[group_key] == index]
    return [
        base.Record(
            system, variant, at, 0, "answer_accuracy", float(np.mean(part)), "1"
        )
        for at, part in parts.items()
    ]
