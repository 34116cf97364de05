"""Draft lengths and thresholds."""

import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn.speculation import policies
from m3jax.ops import draft_lengths


def feedback(entropies, agreed, judged=None, deferred=False, agreement=None):
    entropies = np.atleast_2d(np.array(entropies, np.float32))
    agreed = np.atleast_2d(agreed)
    return policies.Feedback(
        jnp.array(entropies),
        jnp.array(agreed if judged is None else np.atleast_2d(judged)),
        jnp.array(agreed if agreement is None else np.atleast_2d(agreement), float),
        jnp.array(agreed),
        jnp.full(len(entropies), deferred),
    )


def test_expected_tokens_are_a_geometric_sum():
    acceptances = np.r_[0.0, 1e-7, np.linspace(0.05, 0.95, 9), 1 - 1e-6, 1.0]
    lengths = np.arange(9)
    found = draft_lengths.expected_tokens(acceptances[:, None], lengths)
    sums = np.cumsum(acceptances[:, None] ** lengths, axis=1)
    np.testing.assert_allclose(found, sums, rtol=2e-6)


def test_the_best_length_is_that_of_enumeration():
    rng = np.random.default_rng(0)
    acceptances = rng.uniform(0, 1, 2000)
    costs, fixed = rng.uniform(0.01, 1.0, (2, 2000, 1))
    round_s = costs * np.arange(1, 9) + fixed
    found = draft_lengths.best_length(acceptances, round_s)
    rates = [
        [sum(a**i for i in range(g + 1)) / row[g - 1] for g in range(1, 9)]
        for a, row in zip(acceptances, round_s, strict=True)
    ]
    np.testing.assert_array_equal(found, 1 + np.argmax(rates, axis=1))
    assert len(np.unique(found)) == 8


def test_the_papers_length_is_literal():
    shares = np.linspace(0.01, 0.99, 99)
    literal = np.floor(np.log(1 - 0.8) / np.log(shares))
    found = draft_lengths.paper_length(shares, 0.8, 5)
    np.testing.assert_array_equal(found, np.clip(literal, 1, 5))
    assert literal.min() == 0 and literal.max() > 100


def test_acceptance_is_tracked_to_its_share():
    policy = policies.throughput_optimal(np.array([1.0, 1.1, 1.2]), weight=2.0)
    state = policy.init(1)
    assert int(policy.length(state)[0]) == 3
    for _ in range(100):
        state = policy.update(
            state, feedback([0, 0, 0], [0, 0, 0], judged=[True, False, False])
        )
    stood, judged = state
    assert float(stood[0] / judged[0]) == pytest.approx(1.4 / 102)
    assert int(policy.length(state)[0]) == 1


def test_the_threshold_falls_and_rises_within_its_bounds():
    policy = policies.confidence_stopped(0.5, 2, rate=0.2, least=0.1, most=0.8)
    low = feedback([0.02, 0.9], [True, False])
    high = feedback([0.3, 0.9], [False, True], deferred=True)
    state = policy.init(1)
    for _ in range(60):
        state = policy.update(state, low)
    assert float(state[0]) == pytest.approx(0.1)
    for _ in range(60):
        state = policy.update(state, high)
    assert float(state[0]) == pytest.approx(0.8)
    nothing = feedback([0.5, 0.5], [False, False])
    assert float(policy.update(state, nothing)[0]) == float(state[0])


def test_the_papers_threshold_only_falls():
    """On drafts below it that stand, and on any that is deferred, as printed."""
    policy = policies.paper(0.7, least=0.05)
    rng = np.random.default_rng(0)
    state, seen = policy.init(1), []
    for _ in range(200):
        entropies = rng.uniform(0, 1, (1, 5))
        confident = np.cumprod(entropies <= float(state[0]), axis=1).astype(bool)
        deferred = not confident.all()
        state = policy.update(state, feedback(entropies, confident, deferred=deferred))
        seen.append(float(state[0]))
    assert (np.diff(seen) <= 1e-7).all()
    assert seen[-1] == pytest.approx(0.05)


def test_each_sequence_goes_its_own_way():
    policy = policies.confidence_stopped(0.5, 1, rate=0.5)
    both = feedback([[0.1], [0.9]], [[True], [True]])
    found = policy.update(policy.init(2), both)
    assert float(found[0]) < 0.5 < float(found[1])
    np.testing.assert_array_equal(
        policy.confident(found, jnp.array([0.6, 0.6])), [False, True]
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: policies.fixed(0),
        lambda: policies.throughput_optimal(np.zeros(0)),
        lambda: policies.confidence_stopped(0.5, 2, least=0.6),
        lambda: policies.confidence_stopped(1.5, 2, most=2.0),
        lambda: policies.paper(2.0),
        lambda: policies.paper(0.5, max_draft=0),
    ],
)
def test_settings_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match=r"needs 0 <=|must be 1 token or more"):
        make()
