import pytest

from m3jax.data.edgescenes import scenes, words
from m3jax.foundation import answering, sizes


def test_every_word_comes_back_from_its_id():
    ids = words.encode(" ".join(words.WORDS[3:]))
    assert ids == list(range(3, len(words.WORDS)))
    assert words.decode(ids) == " ".join(words.WORDS[3:])


def test_decoding_stops_at_the_end_and_skips_padding():
    one, two = words.encode("one two")
    assert words.decode([words.BOS, one, words.PAD, two, words.EOS, one]) == "one two"


def test_the_special_ids_are_those_of_the_networks():
    special = (words.PAD, words.BOS, words.EOS)
    assert special == (answering.PAD, answering.BOS, answering.EOS)
    assert [words.WORDS[i] for i in special] == ["<pad>", "<bos>", "<eos>"]


def test_the_vocabulary_fits_the_default_decoder():
    assert len(words.WORDS) <= sizes.Sizes().decoder.vocab_size


def test_an_unknown_word_is_named():
    with pytest.raises(ValueError, match="'zebra' is not in the vocabulary"):
        words.encode("a red zebra")


def test_facts_have_one_answer_each_in_words_that_are_known():
    questions = [question for question, _ in scenes.FACTS]
    assert len(set(questions)) == len(questions)
    for text in (text for fact in scenes.FACTS for text in fact):
        assert words.decode(words.encode(text)) == text
