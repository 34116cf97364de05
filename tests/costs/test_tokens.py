"""Lengths of answers, and delays token by token."""

import math

import jax
import numpy as np
import pytest

from m3jax.costs import budgets, lengths, responses, servers, tokens

pytestmark = pytest.mark.usefixtures("quick_compilation")

N = len(servers.TABLE_I)


def test_tokens_of_a_response_that_fades_once_add_up_to_its_phases(key):
    workload = responses.Workload(top_k=1000, answer_tokens=4.0)
    phases = jax.jit(lambda k: responses.draw(k, servers.TABLE_I, workload, 50))(key)
    each = jax.jit(
        lambda k: tokens.draw(k, servers.TABLE_I, workload, 50, 40, "response")
    )(key)
    np.testing.assert_array_equal(each.valid.sum(axis=1), phases.answer_tokens)
    np.testing.assert_allclose(each.delays_s.sum(axis=1), phases.total_s, rtol=1e-4)
    np.testing.assert_allclose(
        each.energies_j.sum(axis=1), phases.energies_j, rtol=1e-4
    )
    by_phase = budgets.expected_max(phases.delays_s)
    np.testing.assert_allclose(budgets.expected_max(each.delays_s), by_phase, rtol=1e-3)


def test_fresh_fading_for_each_token_makes_a_set_wait_longer_than_its_slowest_sum(key):
    workload = responses.Workload(answer_tokens=4.0, answers="fixed")
    each = jax.jit(lambda k: tokens.draw(k, servers.TABLE_I, workload, 500, 4))(key)
    assert each.valid.all()
    everyone = np.ones((1, N), bool)
    waited = float(budgets.expected_max(each.delays_s, everyone)[0])
    plain = each.delays_s.max(axis=2).sum(axis=1).mean()
    assert waited == pytest.approx(float(plain), rel=1e-5)
    assert waited > 1.05 * float(each.delays_s.sum(axis=1).max(axis=1).mean())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 0}, "max_tokens=0; give a finite number of 1 or more"),
        ({"max_tokens": 2, "fades_per": "hop"}, "fades_per='hop'; choose one of"),
    ],
)
def test_bad_settings_of_tokens_are_named(key, fields, message):
    with pytest.raises(ValueError) as caught:
        tokens.draw(key, servers.TABLE_I, responses.Workload(), 2, **fields)
    assert message in str(caught.value)


def test_each_application_has_its_share_and_its_own_lengths(key):
    chat = lengths.Application(prompt_tokens=40.0, answer_tokens=20.0, share=3.0)
    code = lengths.Application(
        prompt_tokens=300.0, prompt_spread=0.0, answer_tokens=7.0, answers="fixed"
    )
    prompt, answer, which = lengths.draw(key, (chat, code), 20_000)
    assert np.bincount(which).tolist() == [15_000, 5_000]
    assert prompt[which == 0].mean() == pytest.approx(40.0, rel=0.02)
    assert answer[which == 0].mean() == pytest.approx(20.0, rel=0.03)
    assert answer.min() == 1.0
    # Geometric: the standard deviation is sqrt(1 - p) / p.
    assert answer[which == 0].std() == pytest.approx(math.sqrt(380.0), rel=0.04)
    assert set(prompt[which == 1].tolist()) == {300.0}
    assert set(answer[which == 1].tolist()) == {7.0}
