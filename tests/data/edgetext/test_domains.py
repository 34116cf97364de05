import collections
import functools
import itertools

import numpy as np
import pytest
from sklearn import cluster

from m3jax.data.edgetext import domains, examples, words

NUM = 500


@functools.cache
def drawn(domain, special=0.35, num=NUM):
    settings = domains.Settings((domain,), special)
    return [domains.draw(settings, 3, "experts", index) for index in range(num)]


every_domain = pytest.mark.parametrize("domain", domains.DOMAINS)


@every_domain
def test_of_four_options_just_one_is_right(domain):
    places = collections.Counter()
    for example in drawn(domain):
        places[example.choice] += 1
        if example.options:
            assert len(set(example.options)) == domains.NUM_OPTIONS
            assert example.options.index(example.answer) == example.choice
    if domain in ("copying", "editing"):
        assert set(places) == {-1}
    else:
        assert set(places) == {0, 1, 2, 3}
        assert max(places.values()) < 0.35 * NUM


@every_domain
def test_no_answer_is_guessed_from_the_domain_alone(domain):
    counts = collections.Counter(example.answer for example in drawn(domain))
    assert max(counts.values()) / NUM < 0.35


@every_domain
def test_prompts_are_at_least_twenty_thousand(domain):
    """By the birthday problem: n draws of N prompts meet n^2 / 2N times."""
    num = 2_000
    settings = domains.Settings((domain,))
    every = set()
    for index in range(num):
        split = "train" if index % 3 else "experts"  # 88 % of all prompts
        every.add(domains.draw(settings, 4, split, index).question)
    assert num - len(every) < 1.3 * num**2 / 2 / 20_000


@pytest.mark.parametrize("share", [0.35, 0.1])
def test_the_share_of_special_examples_is_as_set(share):
    settings = domains.Settings(special=share)
    found = [domains.draw(settings, 5, "experts", i).special for i in range(2_000)]
    assert abs(np.mean(found) - share) < 4 * np.sqrt(share * (1 - share) / 2_000)


def test_common_texts_do_not_show_what_is_special():
    special_words = {
        *("star", "alphabetically", "rotate", "<", ">", "workdays", "treasures"),
        *("omens", "gifts", "relics"),
        *("double", "fathoms", "scores", "only"),
    }
    for domain in domains.DOMAINS:
        common = {w for e in drawn(domain, 0.0) for w in e.question.split()}
        assert not common & special_words
        assert all(special_words & set(e.question.split()) for e in drawn(domain, 1.0))


def test_splits_share_no_prompt_and_repeat_none():
    settings, seen = domains.Settings(), {}
    for split in domains.SPLITS:
        for example in examples.distinct(settings, 0, split, 900):
            assert example.question not in seen, split
            assert domains.split_of(example.question) == split
            seen[example.question] = split
    assert sum(domains.SHARES.values()) == 100
    assert domains.SHARES["train"] == 4 * domains.SHARES["test"]  # 80 : 20


def test_too_few_prompts_are_told(monkeypatch):
    one = domains.draw(domains.Settings(), 0, "test", 0)
    monkeypatch.setattr(domains, "draw", lambda *_: one)
    with pytest.raises(ValueError, match="test has no 2 different prompts of arith"):
        list(examples.distinct(domains.Settings(), 0, "test", 2))


def test_texts_come_back_from_their_ids():
    assert len(words.WORDS) <= 120
    for example in itertools.chain(*map(drawn, domains.DOMAINS)):
        ids = examples.encode(example)
        assert words.decode(ids["question"]) == example.question
        assert words.decode(ids["answer"]) == example.answer
        told = [words.decode(row) for row in ids["options"]]
        assert told == (list(example.options) or [""] * domains.NUM_OPTIONS)
        assert domains.DOMAINS[ids["domain"]] == example.domain
        for name, array in ids.items():
            shape, dtype = examples.FEATURES[name]
            assert (array.shape, array.dtype) == (shape, dtype), name


def test_clusters_of_prompts_are_the_domains():
    """k-means on bags of words, of which it is told no domain."""
    asked = [(i, e) for i, d in enumerate(domains.DOMAINS) for e in drawn(d)[:150]]
    bags = np.zeros((len(asked), len(words.WORDS)))
    for bag, (_, example) in zip(bags, asked, strict=True):
        np.add.at(bag, words.encode(example.question), 1)
    bags /= np.linalg.norm(bags, axis=1, keepdims=True)
    kmeans = cluster.KMeans(len(domains.DOMAINS), n_init=5, random_state=0)
    found, truth = kmeans.fit_predict(bags), np.array([i for i, _ in asked])
    purity = sum(np.bincount(truth[found == c]).max() for c in set(found)) / len(asked)
    assert purity >= 0.9


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"domains": ("poetry",)}, "'poetry'.*choose some of .*'arithmetic'"),
        ({"domains": ()}, "domains is"),
        ({"special": 1.5}, "special is 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kwargs, told):
    with pytest.raises(ValueError, match=told):
        domains.Settings(**kwargs)
