"""The output law is the target's to 1e-12, over all drafts and all coin flips.

The functions are those that decoding calls, in float64: a coin is placed in the middle
of what makes a draft stand or fall, and the row weighs as much as that is probable.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.costs import payload
from m3jax.nn.speculation import protocols, verification
from m3jax.ops import draft_lengths

judge = jax.jit(verification.judge)
PROTOCOLS = {
    "ids": protocols.ids(),
    "ids_and_probs": protocols.ids_and_probs(),
    "top_1": protocols.top_k(1),
    "top_2": protocols.top_k(2),
    "top_2 of 3 bits": protocols.top_k(2, functools.partial(payload.quantised, bits=3)),
}


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64():
        yield


def tables(vocab_size, length, seed, agree=0.5):
    """Laws of target and draft after every context of fewer than ``length`` words."""
    rng = np.random.default_rng(seed)
    target, draft = {}, {}
    for num in range(length):
        for context in itertools.product(range(vocab_size), repeat=num):
            p, q = rng.dirichlet(np.full(vocab_size, 0.7), 2)
            target[context], draft[context] = p, agree * p + (1 - agree) * q
            if seed % 2:  # words that one of them never says
                target[context][rng.integers(vocab_size)] = 0.0
                target[context] /= target[context].sum()
    return target, draft


def laws_of_draft(draft, protocol):
    """context -> (law that the draft is drawn from, as the protocol sends it)."""
    contexts = list(draft)
    logs = jnp.log(jnp.array([draft[context] for context in contexts]))
    if protocol.encode is None:
        sent = jax.nn.one_hot(jnp.argmax(logs, axis=-1), logs.shape[-1])
    else:
        sent = jnp.exp(protocol.encode(logs))
    return dict(zip(contexts, np.asarray(sent), strict=True))


def all_draft(law, word):
    return True


def round_law(context, most, target, drawn, judged, drafts=all_draft):
    """Blocks that a round may emit after a context, with their probabilities.

    ``drafts(law, word)`` says whether a position is drafted; others stay the target's.
    """
    vocab_size = len(target[()])
    paths = list(itertools.product(range(vocab_size), repeat=most))
    flips = list(itertools.product((True, False), repeat=most))
    p = np.array([[target[context + x[:i]] for i in range(most + 1)] for x in paths])
    q = np.array([[judged[context + x[:i]] for i in range(most)] for x in paths])
    from_q = np.array([[drawn[context + x[:i]] for i in range(most)] for x in paths])
    words = np.array(paths, np.int32)
    valid = np.array(
        [[drafts(law, x) for law, x in zip(*row, strict=True)]
         for row in zip(from_q, words, strict=True)]
    )  # fmt: skip
    valid = np.cumprod(valid, axis=1).astype(bool)
    stands = np.asarray(verification.accept_probability(p[:, :-1], q, words))
    drawn_with = np.take_along_axis(from_q, words[..., None], axis=-1)[..., 0].prod(1)
    found = {}
    for flip in flips:
        heads = np.array(flip)
        coins = np.where(heads, stands / 2, (1 + stands) / 2)
        weights = drawn_with * np.where(heads, stands, 1 - stands).prod(axis=1)
        verdict = judge(p, q, words, valid, coins)
        final_law = np.asarray(verdict.final_law)
        accepted = np.asarray(verdict.accepted)
        for row, path in enumerate(paths):
            for word in range(vocab_size):
                block = (*path[: accepted[row]], word)
                more = weights[row] * final_law[row, word]
                found[block] = found.get(block, 0.0) + more
    return found


def decoded_law(length, most, target, drawn, judged, drafts=all_draft):
    """Law of the first ``length`` words, over as many rounds as they take."""
    law, finished = {(): 1.0}, {}
    while law:
        context, mass = law.popitem()
        if len(context) == length:
            finished[context] = finished.get(context, 0.0) + mass
            continue
        ration = min(most, length - len(context) - 1)
        if not ration:
            blocks = {(word,): p for word, p in enumerate(target[context])}
        else:
            blocks = round_law(context, ration, target, drawn, judged, drafts)
        for block, p in blocks.items():
            if p > 0:
                after = context + block
                law[after] = law.get(after, 0.0) + mass * p
    return finished


def own_law(length, target):
    found = {}
    for words in itertools.product(range(len(target[()])), repeat=length):
        found[words] = np.prod([target[words[:i]][x] for i, x in enumerate(words)])
    return found


def distance(found, expected):
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-12)
    return max(abs(found.get(words, 0.0) - p) for words, p in expected.items())


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize(("vocab_size", "most"), [(4, 1), (3, 2), (4, 3)])
def test_the_law_is_the_targets(name, vocab_size, most):
    for seed in range(2):
        target, draft = tables(vocab_size, most + 1, seed)
        sent = laws_of_draft(draft, PROTOCOLS[name])
        found = decoded_law(most + 1, most, target, sent, sent)
        assert distance(found, own_law(most + 1, target)) < 1e-12


def rounded_to_2_bits(law):
    return np.maximum(np.round(law * 4) / 4, 1e-3)


@pytest.mark.parametrize("wrong", ["top_2", "a rounded q(x)"])
def test_what_is_drawn_from_one_law_and_judged_by_another_is_not(wrong):
    target, draft = tables(4, 3, seed=0)
    judged = laws_of_draft(draft, protocols.top_k(2))
    if wrong != "top_2":
        judged = {c: rounded_to_2_bits(law) for c, law in draft.items()}
    found = decoded_law(3, 2, target, draft, judged)
    assert distance(found, own_law(3, target)) > 1e-3


def test_stopping_by_the_law_of_the_draft_is_exact_and_taking_words_back_is_not():
    target, draft = tables(4, 3, seed=2)

    def is_confident(law, word):
        return -np.sum(law * np.log(law)) < 0.9

    def is_likely(law, word):
        return law[word] > 0.3

    stops = [is_confident(law, 0) for law in draft.values()]
    assert 0 < sum(stops) < len(stops)
    for drafts, exact in ((is_confident, True), (is_likely, False)):
        found = decoded_law(3, 2, target, draft, draft, drafts)
        error = distance(found, own_law(3, target))
        assert error < 1e-12 if exact else error > 1e-3


@pytest.mark.parametrize("name", PROTOCOLS)
def test_tokens_of_a_round_are_those_of_the_closed_form(name):
    """Where the laws do not change with the context, E[N] and a = 1 - TV are exact."""
    p, q = np.random.default_rng(5).dirichlet(np.ones(4), 2)
    target = {c: p for n in range(4) for c in itertools.product(range(4), repeat=n)}
    sent = laws_of_draft(dict.fromkeys(target, q), PROTOCOLS[name])
    tokens = sum(
        len(block) * mass
        for block, mass in round_law((), 2, target, sent, sent).items()
    )
    total_variation = np.abs(p - sent[()]).sum() / 2
    acceptance = float(verification.agreement(p, sent[()]))
    assert acceptance == pytest.approx(1.0 - total_variation, abs=1e-12)
    expected = draft_lengths.expected_tokens(1.0 - total_variation, 2)
    assert tokens == pytest.approx(float(expected), abs=1e-12)
    rows = np.broadcast_to(p, (4, 4)), np.broadcast_to(sent[()], (4, 4))
    stands = np.asarray(verification.accept_probability(*rows, np.arange(4)))
    assert acceptance == pytest.approx(float(sent[()] @ stands), abs=1e-12)


def test_greedy_verdicts_are_those_of_point_masses():
    rng = np.random.default_rng(0)
    own = rng.integers(0, 3, (300, 4), np.int32)
    words = rng.integers(0, 3, (300, 3), np.int32)
    valid = np.cumprod(rng.random((300, 3)) < 0.8, axis=1).astype(bool)
    greedy = verification.judge_greedy(own, words, valid)
    general = judge(
        jax.nn.one_hot(own, 3), jax.nn.one_hot(words, 3), words, valid,
        rng.random((300, 3)),
    )  # fmt: skip
    np.testing.assert_array_equal(greedy.accepted, general.accepted)
    np.testing.assert_array_equal(jax.nn.one_hot(greedy.final, 3), general.final_law)
    np.testing.assert_array_equal(greedy.agreement, general.agreement)
    assert set(np.asarray(greedy.accepted).tolist()) == {0, 1, 2, 3}


def test_equal_laws_leave_no_residual_and_give_the_target():
    p = jnp.array([0.25, 0.75])
    np.testing.assert_array_equal(verification.residual(p, p), p)
    np.testing.assert_array_equal(
        verification.residual(p, jnp.array([0.75, 0.25])), [0.0, 1.0]
    )
