"""Tags and coarse masks against texts whose words are known."""

import numpy as np
import pytest

from m3jax.systems.m3llm import context

# Words 0 to 2 are PAD, BOS and EOS; each word has an axis of its own.
TABLE = np.eye(8, dtype=np.float32)
SHARED, BAR, SIGN, AREA, NEW = 3, 4, 5, 6, 7
QUESTIONS = np.array(
    [
        [[SHARED, BAR, 0], [BAR, 2, 0]],
        [[SHARED, SIGN, 0], [SHARED, SIGN, SIGN]],
        [[SHARED, AREA, 0], [AREA, 0, 0]],
    ]
)


@pytest.fixture(scope="module")
def index():
    return context.make_index(TABLE, QUESTIONS)


def test_words_weigh_by_how_few_experts_say_them(index):
    weights = np.asarray(index.words).sum(axis=1)
    expected = np.zeros(8)
    expected[SHARED] = np.log(4 / 3)
    expected[[BAR, SIGN, AREA]] = np.log(4)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_a_text_is_the_mean_of_its_words(index):
    found = context.embed(index.words, np.array([[BAR, SIGN, 0, 0], [0, 1, 2, 0]]))
    np.testing.assert_allclose(found[0, [BAR, SIGN]], [np.log(4) / 2] * 2, rtol=1e-6)
    assert not np.asarray(found[1]).any()


def test_the_expert_who_is_asked_about_passes_first(index):
    asked = np.array([[SHARED, SIGN, 0], [AREA, SHARED, SHARED]])
    assert context.tag(index, asked).tolist() == [[0, 1, 0], [0, 0, 1]]
    two = np.asarray(context.coarse_mask(index, asked, 2))
    assert two.sum(axis=1).tolist() == [2, 2] and two[0, 1] and two[1, 2]


def test_a_threshold_passes_who_is_near_and_never_nobody(index):
    asked = np.array([[SIGN, 0, 0], [NEW, 0, 0]])
    mask = np.asarray(context.coarse_mask(index, asked, None, threshold=0.5))
    assert mask[0].tolist() == [False, True, False]
    assert mask.any(axis=1).all()


def test_bad_arguments_are_named(index):
    with pytest.raises(ValueError, match="num_experts or threshold"):
        context.coarse_mask(index, QUESTIONS[0], None)
    with pytest.raises(ValueError, match="expert 1 has no questions"):
        context.make_index(TABLE, np.array([[[BAR, 0]], [[0, 0]]]))
    with pytest.raises(ValueError, match="needs a table"):
        context.make_index(TABLE, QUESTIONS[0])
