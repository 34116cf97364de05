"""Requests at published sizes, beside closed forms where nothing is random."""

import dataclasses

import numpy as np
import pytest

from m3jax.costs import inference, offload, speculative_rounds, vision_language, workers
from m3jax.systems.msao import pricing, ways

STILL = workers.Link(3e8, 3e8)
PLACE = pricing.Place(STILL, pipelined=False)
LENGTHS = np.array([1, 4, 9])
MACHINES = PLACE.machines
SEEN = PLACE.scale.image_tokens + PLACE.scale.audio_tokens


def _rng():
    return np.random.default_rng(0)


def test_the_cloud_alone_takes_its_passes_and_one_trip():
    work = ways.cloud_only(_rng(), PLACE, LENGTHS)
    token = inference.decode_time(MACHINES.cloud, MACHINES.target.language, 40 + SEEN)
    prefill = vision_language.prefill_time(MACHINES.cloud, MACHINES.target, 40, SEEN)
    bits = PLACE.scale.image_bits + PLACE.scale.audio_bits
    word = 18 / 3e8
    expected = bits / 3e8 + 0.02 + prefill + LENGTHS * token + word
    np.testing.assert_allclose(work.requests.total_s, expected, rtol=1e-6)
    np.testing.assert_array_equal(work.requests.up_bits, bits)
    assert not work.edge_flops.any() and not work.edge_bytes.any()


def test_the_edge_alone_sends_nothing():
    work = ways.edge_only(PLACE, LENGTHS)
    token = inference.decode_time(MACHINES.edge, MACHINES.draft.language, 40 + SEEN)
    prefill = vision_language.prefill_time(MACHINES.edge, MACHINES.draft, 40, SEEN)
    np.testing.assert_allclose(
        work.requests.total_s, prefill + LENGTHS * token, rtol=1e-6
    )
    assert not work.requests.up_bits.any() and not work.cloud_flops.any()
    language = MACHINES.draft.language
    flops = MACHINES.draft.prefill_flops(40, SEEN)
    np.testing.assert_allclose(
        work.edge_flops, flops + LENGTHS * language.decode_flops(40 + SEEN)
    )


@pytest.mark.parametrize("pipelined", [False, True])
def test_means_are_those_of_the_closed_form(pipelined):
    place = dataclasses.replace(PLACE, pipelined=pipelined)
    num, answer = 1000, 256
    rounds = speculative_rounds.draw_rounds(
        _rng(),
        num,
        tokens=answer,
        draft_length=4,
        acceptance=0.8,
        pipelined=pipelined,
    )
    half = pricing.Read(np.full(num, 0.5), np.ones(num))
    work = ways.speculative(_rng(), place, rounds, half, half)
    scale = place.scale
    one = np.ones((2, 1))
    asked = offload.Request(
        one * np.array([[scale.image_tokens], [scale.audio_tokens]]),
        one * np.array([[scale.image_bits], [scale.audio_bits]]),
        40.0,
        float(answer),
    )
    plan = offload.Plan(np.array([[0.5], [1.0]]), 0 * one, one, 4.0)
    now = offload.Conditions(3e8, 3e8, 0.02, 1.0, 1.0, 1.0, 0.8)
    expected = offload.expected(MACHINES, asked, plan, now, pipelined)
    found = work.requests.total_s.mean()
    # The last round is cut, and the closed form sends the question's words too.
    np.testing.assert_allclose(found, float(expected.total_s[0]), rtol=0.01)
    np.testing.assert_allclose(
        work.requests.prefill_s.mean(), float(expected.prefill_s[0]), rtol=1e-3
    )


def test_requests_keep_their_order_whatever_they_read():
    rounds = speculative_rounds.make_rounds([[2, -1], [0, 0], [3, 1]], 0)
    image, audio = np.array([1.0, 0.25, 1.0]), np.array([1.0, 0.0, 1.0])
    cloud = pricing.Read(image, audio)
    work = ways.speculative(_rng(), PLACE, rounds, cloud, pricing.everything(3))
    for row in range(3):
        own = speculative_rounds.Rounds(*(part[row : row + 1] for part in rounds))
        one = ways.speculative(
            *(_rng(), PLACE, own),
            pricing.Read(image[row : row + 1], audio[row : row + 1]),
            pricing.everything(1),
        )
        for found, expected in zip(work[1:], one[1:], strict=True):
            np.testing.assert_allclose(found[row], expected[0])
        np.testing.assert_allclose(
            work.requests.total_s[row], one.requests.total_s[0], rtol=1e-9
        )


def test_what_is_left_out_is_neither_sent_nor_computed():
    rounds = speculative_rounds.make_rounds([[4, 4]], 4)
    work = {
        name: ways.speculative(_rng(), PLACE, rounds, read, pricing.everything(1))
        for name, read in {
            "all": pricing.everything(1),
            "half": pricing.Read(np.array([0.5]), np.array([0.0])),
        }.items()
    }
    scale = PLACE.scale
    saved = work["all"].requests.up_bits - work["half"].requests.up_bits
    np.testing.assert_allclose(saved, 0.5 * scale.image_bits + scale.audio_bits)
    assert work["half"].cloud_flops < work["all"].cloud_flops
    assert work["half"].cloud_bytes < work["all"].cloud_bytes
    np.testing.assert_array_equal(work["half"].edge_flops, work["all"].edge_flops)


def test_a_split_model_reads_and_writes_as_much_as_the_whole():
    place = dataclasses.replace(PLACE, link=pricing.fading_link(300.0))
    work = ways.split(_rng(), place, LENGTHS)
    whole = ways.cloud_only(_rng(), place, LENGTHS)
    np.testing.assert_allclose(
        work.edge_flops + work.cloud_flops, whole.cloud_flops, rtol=1e-9
    )
    np.testing.assert_allclose(
        work.edge_bytes + work.cloud_bytes, whole.cloud_bytes, rtol=1e-9
    )
    assert (work.requests.up_bits > whole.requests.up_bits).all()
