import pytest

from m3jax.data import vocabulary
from m3jax.foundation import answering

FEW = vocabulary.Vocabulary((*vocabulary.SPECIAL, "red", "ring"), "few", "my.words")


def test_the_special_ids_are_those_of_the_networks():
    special = (vocabulary.PAD, vocabulary.BOS, vocabulary.EOS)
    assert special == (answering.PAD, answering.BOS, answering.EOS)


def test_an_unknown_word_is_named_with_where_the_known_ones_are():
    with pytest.raises(ValueError, match="'zebra' is not in .* of few; my.words.WORDS"):
        FEW.encode("red zebra")


def test_padding_fills_up_and_never_cuts():
    assert FEW.pad([3, 4], 4).tolist() == [3, 4, vocabulary.PAD, vocabulary.PAD]
    with pytest.raises(ValueError, match="'red ring' is longer than 1 words"):
        FEW.pad([3, 4], 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*vocabulary.SPECIAL, "red", "red"), "names a word twice"),
        (("red", *vocabulary.SPECIAL), "must begin with"),
    ],
)
def test_a_list_that_is_no_vocabulary_is_refused(words, told):
    with pytest.raises(ValueError, match=told):
        vocabulary.Vocabulary(words, "few", "my.words")
