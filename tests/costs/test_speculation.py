"""When speculation pays: bounds, closed forms against enumeration, and a simulation."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.costs import drafts, payload, speculation
from m3jax.evals import speculation_plots
from m3jax.ops import draft_lengths

MOST = 8
PAPER = speculation.Setting(draft_s=0.010, verify_s=0.0286, rtt_s=0.020)
best = jax.jit(speculation.best, static_argnums=(2, 3))


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64():
        yield


def draw(num, seed=0):
    """Settings over three decades, and acceptances."""
    rng = np.random.default_rng(seed)
    setting = speculation.Setting(
        draft_s=10 ** rng.uniform(-3, -1, num),
        verify_s=10 ** rng.uniform(-3, -1, num),
        verify_token_s=10 ** rng.uniform(-6, -3, num),
        rtt_s=10 ** rng.uniform(-4, -1, num),
        up_bits_per_s=10 ** rng.uniform(5, 8, num),
        down_bits_per_s=10 ** rng.uniform(5, 8, num),
        draft_bits=rng.integers(18, 1000, num),
        call_bits=rng.integers(0, 100, num),
        answer_bits=rng.integers(0, 100, num),
    )
    return setting, rng.uniform(0, 1, num)


@pytest.mark.parametrize("overlap", [False, True])
def test_the_best_length_is_that_of_enumeration(overlap):
    settings, acceptances = draw(400)
    found = best(settings, acceptances, MOST, overlap)
    for n, acceptance in enumerate(acceptances):
        one = speculation.Setting(*(leaf[n] for leaf in settings))
        rates = []
        for g in range(1, MOST + 1):
            waiting = (
                (one.call_bits + g * one.draft_bits) / one.up_bits_per_s
                + one.answer_bits / one.down_bits_per_s
                + one.rtt_s + one.verify_s + g * one.verify_token_s
            )  # fmt: skip
            drafting = g * one.draft_s
            seconds = max(drafting, waiting) if overlap else drafting + waiting
            rates.append(sum(acceptance**i for i in range(g + 1)) / seconds)
        assert int(found.length[n]) == 1 + np.argmax(rates)
        assert float(found.tokens_per_s[n]) == pytest.approx(max(rates), rel=1e-12)
    assert len(np.unique(found.length)) == MOST


def test_at_no_round_trip_it_pays_just_above_the_cost_ratio():
    ratios = np.linspace(0.02, 0.98, 25)
    near = speculation.Setting(ratios, np.ones_like(ratios))
    for most in (1, MOST):
        found = speculation.break_even_acceptance(near, most)
        np.testing.assert_allclose(found, ratios, atol=1e-12)
    assert (best(near, ratios + 1e-6, MOST).speed_up > 1).all()
    assert (best(near, ratios - 1e-6, MOST).speed_up < 1).all()


@pytest.mark.parametrize("overlap", [False, True])
def test_throughput_is_never_above_its_bounds(overlap):
    settings, acceptances = draw(500, seed=1)
    for g in range(1, MOST + 1):
        rates = speculation.rate(settings, acceptances, g, overlap)
        edge = speculation.edge_rate(settings)
        assert (rates <= (g + 1) / g * edge * (1 + 1e-12)).all()
        verify_s = settings.verify_s + g * settings.verify_token_s
        slower = np.maximum(g * settings.draft_s, settings.rtt_s + verify_s)
        tokens = draft_lengths.expected_tokens(acceptances, g)
        over_cloud = tokens * settings.verify_s / slower
        ups = speculation.speed_up(settings, acceptances, g, overlap)
        assert (ups <= over_cloud * (1 + 1e-12)).all()
    # Both bounds are met where nothing but drafting, or verifying, takes time.
    ideal = speculation.Setting(1.0, 1e-9)
    assert float(speculation.rate(ideal, 1.0, 5)) == pytest.approx(6 / 5, rel=1e-8)
    assert float(speculation.speed_up(PAPER, 0.8, 5, True)) == pytest.approx(
        float(draft_lengths.expected_tokens(0.8, 5)) * 28.6 / 50, rel=1e-12
    )


@pytest.mark.parametrize(
    ("acceptance", "overlap", "expected"),
    [(0.7, False, 0.92), (0.9, False, 1.36), (0.95, False, 1.54), (0.7, True, 1.68),
     (0.8, True, 2.11)],
)  # fmt: skip
def test_what_msaos_own_figures_allow(acceptance, overlap, expected):
    found = best(PAPER, acceptance, 5, overlap)
    assert float(found.speed_up) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("overlap", [False, True])
def test_break_even_is_where_the_speed_up_is_one(overlap):
    settings, acceptances = draw(200, seed=2)
    needed = speculation.break_even_acceptance(settings, MOST, overlap)
    ever = np.isfinite(needed)
    assert 20 < ever.sum() < 180
    at = best(settings, np.where(ever, needed, 1.0), MOST, overlap).speed_up
    np.testing.assert_allclose(at[ever], 1.0, rtol=1e-9)
    assert (at[~ever] <= 1.0).all()
    rtts = speculation.break_even_rtt_s(settings, acceptances, MOST, overlap)
    pays = np.asarray(rtts) > 0
    assert 20 < pays.sum() < 180
    there = best(settings._replace(rtt_s=np.maximum(rtts, 0) * (1 - 1e-9)),
                 acceptances, MOST, overlap).speed_up  # fmt: skip
    beyond = best(settings._replace(rtt_s=np.maximum(rtts, 0) * (1 + 1e-6)),
                  acceptances, MOST, overlap).speed_up  # fmt: skip
    assert (there[pays] >= 1.0).all() and (beyond[pays] < 1.0).all()
    assert (there[~pays] <= 1.0).all()


def test_the_rate_is_that_of_simulated_rounds():
    rng = np.random.default_rng(0)
    g, acceptance = 4, 0.75
    setting = PAPER._replace(verify_token_s=1e-3, draft_bits=50.0, up_bits_per_s=1e4)
    stands = np.cumprod(rng.random((200_000, g)) < acceptance, axis=1).sum(axis=1)
    seconds = g * 0.010 + g * 50 / 1e4 + 0.020 + 0.0286 + g * 1e-3
    expected = (stands + 1).mean() / seconds
    error = stands.std() / np.sqrt(len(stands)) / seconds
    found = float(speculation.rate(setting, acceptance, g))
    assert abs(found - expected) < 4 * error
    work = (g + 1) / (stands + 1).mean()
    assert float(speculation.target_work(acceptance, g)) == pytest.approx(
        work, rel=0.01
    )


def test_all_of_it_goes_through_vmap_and_grad():
    settings, acceptances = draw(20, seed=3)
    one_by_one = jax.vmap(functools.partial(speculation.best, most=MOST))
    found = one_by_one(settings, acceptances)
    np.testing.assert_array_equal(
        found.length, best(settings, acceptances, MOST).length
    )
    needed = jax.vmap(lambda s: speculation.break_even_acceptance(s, MOST))(settings)
    np.testing.assert_array_equal(
        needed, speculation.break_even_acceptance(settings, MOST)
    )
    slope = jax.grad(lambda a: speculation.rate(PAPER, a, 4))(0.7)
    by_hand = sum(i * 0.7 ** (i - 1) for i in range(1, 5)) / (0.04 + 0.0486)
    assert float(slope) == pytest.approx(by_hand, rel=1e-9)
    for edge in (0.0, 1.0):
        assert np.isfinite(jax.grad(lambda a: speculation.rate(PAPER, a, 4))(edge))


@pytest.mark.parametrize(
    ("changes", "acceptance", "starts"),
    [
        ({}, 0.9, "yes: drafts of 5 bring 1.36x the cloud alone; it pays down to"),
        ({}, 0.7, "no: drafts of 3 bring 0.92x the cloud alone; it takes acceptance"),
        ({"rtt_s": 5.0}, 0.7, "no: .*even drafts that all stand are not enough, or a"),
        ({"draft_s": 0.02}, 0.65, "no: .*no round trip either; it takes acceptance"),
        ({"draft_s": 0.1}, 0.9, "no: .*draft is too slow or too large to send"),
        ({"draft_s": 0.02, "rtt_s": 5.0}, 0.3, "no: .*better drafts and a shorter"),
    ],
)
def test_advice_says_why(changes, acceptance, starts):
    setting = PAPER._replace(**changes)
    found = speculation.advise(setting, acceptance, most=5)
    assert found.reason.startswith("yes" if found.speculate else "no")
    assert found.speculate == (found.speed_up > 1)
    assert re.match(starts, found.reason), found.reason


@pytest.mark.parametrize(
    ("setting", "acceptance", "message"),
    [
        (PAPER._replace(draft_s=0.0), 0.5, "has draft_s=0.0"),
        (PAPER._replace(rtt_s=-1.0), 0.5, "has rtt_s=-1.0"),
        (PAPER, 1.2, "has acceptance=1.2"),
    ],
)
def test_numbers_that_make_no_sense_are_named(setting, acceptance, message):
    with pytest.raises(ValueError, match=message):
        speculation.advise(setting, acceptance)


def test_bits_of_the_protocols():
    vocab_size = 152_064
    word = payload.token_bits(vocab_size)
    assert drafts.draft_bits("ids", vocab_size) == word == 18
    assert drafts.draft_bits("ids_and_probs", vocab_size) == word + 32
    found = drafts.draft_bits("top_k", vocab_size, top_k=10, bits=8)
    assert found == 10 * (18 + 8) + 4
    whole = drafts.draft_bits("top_k", vocab_size)
    assert whole == vocab_size * 16 + 18 > 2.4e6
    counts = jnp.array([0, 7, 40]), jnp.array([5, 3, 9])
    up = drafts.uplink_bits("ids", *counts, vocab_size=vocab_size, max_draft=5)
    np.testing.assert_array_equal(up, counts[0] * 18 + counts[1] * 3)
    down = drafts.downlink_bits(counts[1], vocab_size=vocab_size, max_draft=5)
    np.testing.assert_array_equal(down, counts[1] * 21)
    with pytest.raises(ValueError, match="protocol='all'; choose one of"):
        drafts.draft_bits("all", 10)


def test_the_region_is_drawn_and_its_first_line_is_break_even():
    acceptances, rtts = np.linspace(0.3, 1.0, 29), np.linspace(0.0, 0.1, 21)
    ups = best(PAPER._replace(rtt_s=rtts[:, None]), acceptances[None], 5).speed_up
    ax = speculation_plots.speed_up_region(
        acceptances, rtts, ups, marks={"measured": (0.8, 0.02)}
    )
    lines = [c for c in ax.collections if hasattr(c, "levels")]
    assert lines[0].levels.tolist() == [1.0, 1.5, 2.3]
    needed = speculation.break_even_acceptance(PAPER._replace(rtt_s=rtts), 5)
    drawn = lines[0].get_paths()[0].vertices
    at = np.interp(drawn[:, 1] / 1e3, rtts, np.minimum(needed, 1.0))
    assert np.abs(drawn[:, 0] - at).max() < 0.02
    assert ax.get_ylabel() == "round trip (ms)"
    with pytest.raises(ValueError, match=r"speed_ups must be \[21, 29\]"):
        speculation_plots.speed_up_region(acceptances, rtts, ups.T)
