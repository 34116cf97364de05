"""The discrete-event model against closed forms, and against its form for batches."""

import dataclasses
import time

import numpy as np
import pytest

from m3jax.channels import packet_loss
from m3jax.costs import (
    devices,
    drafts,
    speculation,
    speculative_batch,
    speculative_delays,
    vision_language,
    workers,
)
from m3jax.costs import speculative_rounds as rounds_lib
from m3jax.costs import speculative_timeline as timeline

LINK = workers.Link(300e6, 20e6)
SETTING = speculative_delays.Setting(
    draft_s=0.010,
    verify_s=0.0286,
    verify_token_s=1e-4,
    link=LINK,
    rtt_s=0.02,
    protocol=speculative_delays.Protocol("top_k", max_draft=8),
    edge_prefill_s=0.05,
    cloud_prefill_s=0.08,
)
UPLOADS = (2e6, 5e5)


def wild():
    """A link that fades, jitters, loses and gives up."""
    link = dataclasses.replace(LINK, jitter=0.4, fading_snr_db=12.0)
    return workers.lossy(link, packet_loss.IndependentLoss(0.4), most=2)


def draw(seed, num=8, tokens=40, gamma=4, acceptance=0.7, pipelined=False, **law):
    rng = np.random.default_rng(seed)
    drawn = rounds_lib.draw_rounds(
        rng,
        num,
        tokens=tokens,
        draft_length=gamma,
        acceptance=acceptance,
        pipelined=pipelined,
        **law,
    )
    return rng, drawn


def trip_s(setting, drafted):
    """Seconds that a draft is away where nothing is random."""
    up = setting.protocol.up_bits(drafted) / setting.link.up_bits_per_s
    down = setting.protocol.down_bits(drafted) / setting.link.down_bits_per_s
    verify = setting.verify_s + drafted * setting.verify_token_s
    return up + setting.rtt_s + verify + down


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_events_and_batch_tell_the_same_on_a_wild_link(pipelined, seed):
    setting = dataclasses.replace(SETTING, link=wild(), pipelined=pipelined)
    rng, rounds = draw(seed, pipelined=pipelined, confident=0.85)
    delays = speculative_delays.draw(rng, setting, rounds, UPLOADS)
    found = speculative_batch.run(setting, rounds, delays)
    for n in range(8):
        one = timeline.simulate(setting, rounds, delays, n)
        assert one.ended == pytest.approx(found.total_s[n], rel=1e-12)
        assert one.arrived == pytest.approx(found.upload_s[n], rel=1e-12)
        assert one.ended - one.started == pytest.approx(found.decode_s[n], rel=1e-12)
        assert one.busy_s("edge") == pytest.approx(found.edge_s[n], rel=1e-12)
        assert one.busy_s("cloud") == pytest.approx(found.cloud_s[n], rel=1e-12)
        assert one.busy_s("uplink") == pytest.approx(found.up_s[n], rel=1e-12)
        assert one.emitted.sum() == found.tokens[n] == 40
        wasted = [s.end - s.start for s in one.spans if s.kind == "wasted"]
        assert sum(wasted) == pytest.approx(found.wasted_s[n], abs=1e-12)
        assert all(s.kind in timeline.KINDS for s in one.spans)


@pytest.mark.parametrize("pipelined", [False, True])
def test_no_place_does_two_things_at_once(pipelined):
    setting = dataclasses.replace(SETTING, link=wild(), pipelined=pipelined)
    rng, rounds = draw(5, num=3, pipelined=pipelined, confident=0.9)
    delays = speculative_delays.draw(rng, setting, rounds, UPLOADS)
    one = timeline.simulate(setting, rounds, delays)
    for place in timeline.PLACES:
        own = sorted((s for s in one.spans if s.place == place), key=lambda s: s.start)
        for before, after in zip(own, own[1:], strict=False):
            assert after.start >= before.end - 1e-12
    assert np.all(np.diff(one.told) >= 0)


@pytest.mark.parametrize("gamma", [1, 3, 5])
def test_where_nothing_is_random_a_request_takes_the_closed_form(gamma):
    """Rounds of equal length: R (gamma t_d + trip), equation 14 mended."""
    rounds = rounds_lib.make_rounds(np.full((1, 6), gamma), np.full((1, 6), gamma - 1))
    delays = speculative_delays.draw(np.random.default_rng(0), SETTING, rounds, UPLOADS)
    one = timeline.simulate(SETTING, rounds, delays)
    upload = sum(UPLOADS) / SETTING.link.up_bits_per_s + SETTING.rtt_s
    start = max(SETTING.edge_prefill_s, upload + SETTING.cloud_prefill_s)
    each = gamma * SETTING.draft_s + trip_s(SETTING, gamma)
    assert one.started == pytest.approx(start, rel=1e-12)
    assert one.ended - one.started == pytest.approx(6 * each, rel=1e-12)
    slow = dataclasses.replace(SETTING, edge_prefill_s=3.0)
    assert timeline.simulate(slow, rounds, delays).started == 3.0


@pytest.mark.parametrize("draft_s", [0.002, 0.01, 0.05])
def test_pipelined_rounds_that_stand_take_the_longer_of_the_two(draft_s):
    setting = dataclasses.replace(SETTING, pipelined=True, draft_s=draft_s)
    rounds = rounds_lib.make_rounds(np.full((1, 9), 4), np.full((1, 9), 4))
    delays = speculative_delays.draw(np.random.default_rng(0), setting, rounds)
    one = timeline.simulate(setting, rounds, delays)
    trip, drafting = trip_s(setting, 4), 4 * draft_s
    expected = drafting + 8 * max(trip, drafting) + trip
    assert one.ended - one.started == pytest.approx(expected, rel=1e-12)
    assert one.emitted.tolist() == [4] * 9


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_token_takes_on_average_what_the_laws_of_acceptance_say(pipelined):
    """(1 - a^n) / (1 - a) tokens a round, n = gamma + 1, and gamma when pipelined."""
    alpha, gamma = 0.7, 4
    setting = dataclasses.replace(SETTING, pipelined=pipelined)
    rng, rounds = draw(
        0, 40, tokens=2000, gamma=gamma, acceptance=alpha, pipelined=pipelined
    )
    delays = speculative_delays.draw(rng, setting, rounds)
    found = speculative_batch.run(setting, rounds, delays)
    count = gamma if pipelined else gamma + 1
    tokens = (1 - alpha**count) / (1 - alpha)
    trip, drafting = trip_s(setting, gamma), gamma * setting.draft_s
    each = trip + drafting
    if pipelined:
        whole = alpha**gamma
        each = (1 - whole) * each + whole * max(trip, drafting)
    measured = found.decode_s.sum() / found.tokens.sum()
    assert measured == pytest.approx(each / tokens, rel=5e-3)


@pytest.mark.parametrize("alpha", [0.3, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("pipelined", [False, True])
def test_throughput_stays_below_both_bounds(alpha, pipelined):
    """(gamma + 1) / gamma of the edge, and E[N] / max(gamma t_d, RTT + t_v)."""
    for gamma in (1, 3, 5, 8):
        setting = dataclasses.replace(SETTING, pipelined=pipelined)
        rng, rounds = draw(
            1, 30, tokens=400, gamma=gamma, acceptance=alpha, pipelined=pipelined
        )
        delays = speculative_delays.draw(rng, setting, rounds)
        found = speculative_batch.run(setting, rounds, delays)
        speed = found.tokens.sum() / found.decode_s.sum()
        assert speed <= (gamma + 1) / gamma / setting.draft_s
        powers = alpha ** np.arange(gamma + 1)
        verify = setting.verify_s + gamma * setting.verify_token_s
        longest = max(gamma * setting.draft_s, setting.rtt_s + verify)
        assert speed <= 1.02 * powers.sum() / longest


def test_low_confidence_asks_the_cloud_and_its_bits_are_counted():
    """Each asked place costs a pass of the draft that yields nothing."""
    rounds = rounds_lib.make_rounds(
        [[2, 0, 4]], [[2, 0, 4]], asked=[[True, True, False]]
    )
    assert rounds.emitted().tolist() == [[3, 1, 5]]
    assert rounds.emitted(pipelined=True).tolist() == [[3, 1, 4]]
    delays = speculative_delays.draw(np.random.default_rng(0), SETTING, rounds)
    found = speculative_batch.run(SETTING, rounds, delays)
    protocol = SETTING.protocol
    assert found.up_bits[0] == sum(protocol.up_bits(g) for g in (2, 0, 4))
    assert found.down_bits[0] == sum(protocol.down_bits(g) for g in (2, 0, 4))
    assert found.steps[0] == 3 + 1 + 4 and found.drafted[0] == 6
    assert found.scored[0] == 3 + 1 + 5 and found.rounds[0] == 3
    drafts = 8 * SETTING.draft_s
    trips = sum(trip_s(SETTING, g) for g in (2, 0, 4))
    assert found.decode_s[0] == pytest.approx(drafts + trips, rel=1e-12)


def test_tokens_that_stay_on_the_edge_cost_no_bits_and_no_trip():
    rounds = rounds_lib.make_rounds([[20]], [[20]], stays=True)
    delays = speculative_delays.draw(np.random.default_rng(0), SETTING, rounds)
    found = speculative_batch.run(SETTING, rounds, delays)
    assert found.decode_s[0] == pytest.approx(20 * SETTING.draft_s)
    assert found.up_bits[0] == found.rounds[0] == 0 and found.tokens[0] == 20
    one = timeline.simulate(SETTING, rounds, delays)
    assert one.ended == pytest.approx(found.total_s[0], rel=1e-12)


def test_retransmissions_are_bits_on_the_air():
    link = workers.lossy(LINK, packet_loss.IndependentLoss(0.3), most=6)
    setting = dataclasses.replace(SETTING, link=link)
    rng, rounds = draw(3, num=200, tokens=100)
    lossy = speculative_batch.run(
        setting, rounds, speculative_delays.draw(rng, setting, rounds)
    )
    clear = speculative_batch.run(
        SETTING, rounds, speculative_delays.draw(rng, SETTING, rounds)
    )
    ratio = lossy.up_bits.sum() / clear.up_bits.sum()
    assert ratio == pytest.approx(1 / 0.7, rel=0.02)
    assert np.all(lossy.decode_s >= clear.decode_s)
    np.testing.assert_array_equal(lossy.tokens, clear.tokens)


def test_a_fading_link_has_the_rate_of_its_block():
    link = workers.Link(1e6, 1e6, fading_snr_db=10.0)
    sent = link.transmit(np.random.default_rng(0), np.full(200_000, 1e6), 1e6)
    gains = np.random.default_rng(1).exponential(size=200_000)
    rates = np.maximum(np.log2(1 + 10.0 * gains), 0.1523) / np.log2(11.0)
    assert sent.air_s.mean() == pytest.approx(np.mean(1 / rates), rel=0.02)
    assert np.quantile(sent.air_s, 0.3) == pytest.approx(
        np.quantile(1 / rates, 0.3), rel=0.02
    )


def test_a_link_in_outage_repeats_as_chase_combining_says():
    link = workers.in_outage(workers.Link(1e6, 1e6), snr=1.0, rate=1.0, most=2)
    np.testing.assert_allclose(link.failures, [0.632, 0.264], atol=5e-4)


def test_a_thousand_requests_take_less_than_seconds():
    begun = time.perf_counter()
    for seed in range(5):
        setting = dataclasses.replace(SETTING, link=wild(), pipelined=True)
        rng, rounds = draw(seed, num=200, tokens=64, pipelined=True, confident=0.9)
        delays = speculative_delays.draw(rng, setting, rounds, UPLOADS)
        found = speculative_batch.run(setting, rounds, delays)
        assert found.total_s.shape == (200,)
    assert time.perf_counter() - begun < 5.0


def test_presets_have_the_sizes_that_are_published():
    """Weights counted from config.json's sizes, against the published totals."""
    from m3jax.costs import models

    small = models.from_sizes(
        "Qwen2-1.5B",
        vocab_size=151_936,
        dim=1536,
        depth=28,
        num_heads=12,
        num_kv_heads=2,
        ff_dim=8960,
        bits_per_weight=16.0,
    )
    preset = models.model("Qwen2-1.5B")
    assert small.num_params == pytest.approx(preset.num_params, rel=5e-3)
    assert small.cache_bytes == preset.cache_bytes == 28_672
    seven = vision_language.QWEN2_5_VL_7B
    assert seven.language.cache_bytes == 57_344
    assert seven.weight_bytes / 2 == pytest.approx(8.29e9, rel=5e-3)
    assert vision_language.QWEN2_VL_2B.weight_bytes / 2 == pytest.approx(
        2.21e9, rel=5e-3
    )
    assert seven.memory_bytes(2000) < devices.device("A100 40GB").memory_bytes


def test_energy_is_power_times_busy_time():
    rng, rounds = draw(0, num=5)
    delays = speculative_delays.draw(rng, SETTING, rounds, UPLOADS)
    found = speculative_batch.run(SETTING, rounds, delays)
    idle = dataclasses.replace(devices.RTX_3090, idle_power_w=30.0)
    spent = found.energy_j(idle, devices.A100_40GB, radio_w=2.0)
    waits = found.total_s - found.edge_s
    np.testing.assert_allclose(spent["edge"], 280 * found.edge_s + 30 * waits)
    np.testing.assert_allclose(spent["radio"], 2.0 * found.up_s)
    np.testing.assert_allclose(spent["cloud"], 250.0 * found.cloud_s)


@pytest.mark.parametrize("name", drafts.PROTOCOLS)
def test_protocols_count_the_bits_of_their_messages(name):
    protocol = speculative_delays.Protocol(name, max_draft=5, header_bits=320)
    each = drafts.draft_bits(name, 151_936, 32, 16)
    assert protocol.up_bits(3) == 3 * each + 3 + 320
    assert protocol.down_bits(3) == 18 + 3 + 320
    drafted = np.array([0, 2])
    np.testing.assert_array_equal(protocol.up_bits(drafted), 323 + drafted * each)
    np.testing.assert_array_equal(protocol.down_bits(drafted), [341, 341])


@pytest.mark.parametrize("gamma", [1, 4])
@pytest.mark.parametrize("overlap", [False, True])
def test_rounds_take_what_the_closed_forms_of_speculation_say(gamma, overlap):
    """Pipelined and never rejected is the ideal overlap; one by one is none."""
    setting = dataclasses.replace(SETTING, pipelined=overlap)
    rounds = rounds_lib.make_rounds(np.full((1, 50), gamma), np.full((1, 50), gamma))
    delays = speculative_delays.draw(np.random.default_rng(0), setting, rounds)
    one = timeline.simulate(setting, rounds, delays)
    closed = speculation.Setting(
        setting.draft_s,
        setting.verify_s,
        setting.verify_token_s,
        setting.rtt_s,
        setting.link.up_bits_per_s,
        setting.link.down_bits_per_s,
        draft_bits=setting.protocol.up_bits(2) - setting.protocol.up_bits(1),
        call_bits=setting.protocol.up_bits(0),
        answer_bits=setting.protocol.down_bits(0),
    )
    expected = speculation.round_s(closed, gamma, overlap)
    np.testing.assert_allclose(np.diff(one.told), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: rounds_lib.make_rounds([[2]], [[3]]), "accept between"),
        (lambda: rounds_lib.make_rounds([[-1, 2]], [[0, 1]]), "-1 after"),
        (lambda: rounds_lib.make_rounds([[2]], [[1]], stays=True), "stays on the edge"),
        (lambda: draw(0, acceptance=1.5), "acceptance"),
        (lambda: draw(0, tokens=0), "tokens"),
        (lambda: speculative_delays.Protocol("no"), "name"),
        (lambda: dataclasses.replace(SETTING, rtt_s=-1.0), "rtt_s"),
        (lambda: vision_language.vision_language_model("no"), "vision-language"),
    ],
)
def test_what_makes_no_sense_is_named(make, names):
    with pytest.raises(ValueError, match=names):
        make()
