import collections

import numpy as np
import pytest

from m3jax.channels import arq, packet_loss
from m3jax.costs import timeline, timeline_events, workers

BITS = 65536.0


def rankings(seed=0, shape=(1, 3, 40)):
    """Experts of each token, by random weight."""
    return np.argsort(np.random.default_rng(seed).random((*shape, 8)), axis=-1)


def devices(**link):
    return workers.server_and_devices(352e6, **link)


def no_overlap(found, num_workers):
    for worker in range(num_workers):
        own = [event for event in found.events if event.worker == worker]
        own.sort(key=lambda event: event.start)
        for before, after in zip(own, own[1:], strict=False):
            assert after.start >= before.end - 1e-9


def test_without_jitter_and_loss_a_block_takes_the_closed_form():
    drawn = rankings()
    machines = devices(bits_per_s=(20e6, 40e6, 60e6, 80e6))
    found = timeline.simulate(machines, drawn, payload_bits=BITS)
    token_s = [
        worker.token_s
        + (BITS / worker.link.down_bits_per_s + BITS / worker.link.up_bits_per_s)
        if worker.link
        else worker.token_s
        for worker in machines
    ]
    counts = (drawn[0, :, :, :2, None] == np.arange(8)).sum(axis=(1, 2))
    expected = np.max(counts * np.array(token_s), axis=1)
    np.testing.assert_allclose(found.ends - found.starts, expected[None], rtol=1e-9)
    np.testing.assert_allclose(found.starts[0, 1:], found.ends[0, :-1])
    np.testing.assert_array_equal(found.tokens[0], counts)
    np.testing.assert_allclose(found.token_s, token_s, rtol=1e-9)
    no_overlap(found, 8)


def test_same_seed_same_timeline_and_jitter_keeps_the_mean():
    drawn = rankings(shape=(1, 1, 2000))
    calm = timeline.simulate(devices(), drawn, payload_bits=BITS)
    moved = timeline.simulate(devices(jitter=0.5), drawn, payload_bits=BITS, seed=3)
    again = timeline.simulate(devices(jitter=0.5), drawn, payload_bits=BITS, seed=3)
    assert moved.events == again.events and moved.events != calm.events
    np.testing.assert_allclose(moved.token_s[4:], calm.token_s[4:], rtol=0.1)
    no_overlap(moved, 8)


def test_losses_follow_the_law_of_arq():
    link = workers.Link(BITS, BITS, feedback_s=0.5, timeout_s=0.0)
    link = workers.lossy(link, packet_loss.IndependentLoss(0.3), most=8)
    rng = np.random.default_rng(0)
    drawn = np.array([sum(link.send(rng, BITS, BITS)) for _ in range(20_000)])
    law = arq.ARQ(1.0, 0.5, slot_seconds=1.0)
    expected = float(law.expect(np.asarray(arq.repeated(0.3, 8))).latency)
    assert drawn.mean() == pytest.approx(expected, rel=0.01)
    # Whatever is given up is sent anew, after a timeout that doubles.
    late = workers.Link(BITS, BITS, failures=(0.5,), feedback_s=0.0, timeout_s=1.0)
    drawn = [late.send(rng, BITS, BITS)[0] for _ in range(4000)]
    assert {0.0, 2.0, 5.0} <= set(np.round(drawn, 9))
    assert np.mean(np.isclose(drawn, 0.0)) == pytest.approx(0.5, abs=0.03)


def test_batches_queue_for_the_same_workers():
    drawn = rankings(shape=(3, 2, 20))
    found = timeline.simulate(devices(), drawn, payload_bits=BITS)
    no_overlap(found, 8)
    alone = timeline.simulate(devices(), drawn[2:], payload_bits=BITS)
    assert found.ends[2, -1] > alone.ends[0, -1]
    later = timeline.simulate(
        devices(), drawn, payload_bits=BITS, arrivals_s=(0.0, 100.0, 200.0)
    )
    assert later.ends[2, -1] - 200.0 == pytest.approx(alone.ends[0, -1])


def test_tokens_of_a_worker_that_fails_go_to_their_next_expert():
    drawn = rankings(shape=(2, 3, 40))
    calm = timeline.simulate(devices(), drawn, payload_bits=BITS)
    middle = float(calm.ends[0, 0]) * 0.5
    found = timeline.simulate(
        devices(jitter=0.3), drawn, payload_bits=BITS, failures_s={5: middle}
    )
    no_overlap(found, 8)
    # Nobody is lost, and each choice is worked on once.
    assert found.tokens.sum(axis=2).tolist() == [[80] * 3] * 2
    assert found.rerouted and not [one for one in found.rerouted if one.to < 0]
    done = collections.Counter(
        (e.batch, e.block, e.token, e.expert)
        for e in found.events
        if e.kind == "compute" and e.worker != 5
    )
    assert max(done.values()) == 1
    for one in found.rerouted:
        assert one.expert == 5 and one.time >= middle
        ranked = drawn[one.batch, one.block, one.token].tolist()
        assert one.to == next(e for e in ranked[2:] if e != 5)
    cut = [event for event in found.events if event.kind == "failed"]
    assert len(cut) == 1 and cut[0].end == middle and cut[0].worker == 5
    assert max(e.end for e in found.events if e.worker == 5) <= middle


def test_where_no_expert_is_left_a_token_is_recorded_as_lost():
    machines = [workers.Worker("a", 1.0), workers.Worker("b", 1.0)]
    found = timeline.simulate(
        machines,
        np.array([[[[0, 1]] * 3] * 2]),
        payload_bits=1.0,
        num_asked=1,
        failures_s={0: 1.5, 1: 2.0},
    )
    assert found.tokens.sum() == 1 and not np.isnan(found.ends).any()
    lost = [one for one in found.rerouted if one.to == -1]
    assert len(lost) == 5 and len(lost) + found.tokens.sum() == 6


def test_events_are_for_a_chart_and_bad_input_is_refused():
    found = timeline.simulate(devices(), rankings(), payload_bits=BITS)
    ends = [event.end for event in found.events]
    assert ends == sorted(ends)
    assert {event.kind for event in found.events} <= set(timeline_events.KINDS)
    with pytest.raises(ValueError, match="placement"):
        timeline.simulate(devices(), rankings(), payload_bits=1.0, placement=[0] * 3)
    with pytest.raises(ValueError, match="rankings"):
        timeline.simulate(devices(), np.zeros((2, 3)), payload_bits=1.0)
    with pytest.raises(ValueError, match="down_bits_per_s"):
        workers.Link(0.0, 1.0)
