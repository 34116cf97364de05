"""What the study makes of works: mixtures of them, and means."""

import numpy as np

from m3jax.costs import speculative_rounds, workers
from m3jax.nn import speculation
from m3jax.systems.msao import agreement, pricing, ways
from m3jax.systems.msao.study import measure, schedules, shared

PLACE = pricing.Place(workers.Link(3e8, 3e8))
LENGTHS = np.array([3, 8])
ALL = pricing.everything(2)


def _both():
    rounds = speculative_rounds.make_rounds([[2, -1], [4, 2]], [[2, 0], [4, 2]])
    everything = pricing.everything(2)
    rng = np.random.default_rng(0)
    return ways.speculative(rng, PLACE, rounds, everything, everything)


def test_answers_that_stay_are_the_edges_and_others_pay_for_both():
    edge, both = ways.edge_only(PLACE, LENGTHS), _both()
    stays = np.array([True, False])
    found = measure.mixed(PLACE, LENGTHS, ALL, stays, edge, both)
    seconds, operations = ways.drafting(PLACE, LENGTHS, ALL)
    np.testing.assert_allclose(
        found.requests.total_s,
        [edge.requests.total_s[0], both.requests.total_s[1] + seconds[1]],
    )
    np.testing.assert_allclose(
        found.edge_flops, [edge.edge_flops[0], both.edge_flops[1] + operations[1]]
    )
    np.testing.assert_allclose(found.cloud_flops, [0.0, both.cloud_flops[1]])
    # The cloud's model stays loaded, whoever asks it.
    np.testing.assert_array_equal(found.cloud_bytes, both.cloud_bytes)


def test_all_that_stay_cost_what_the_edge_does():
    edge, both = ways.edge_only(PLACE, LENGTHS), _both()
    found = measure.mixed(PLACE, LENGTHS, ALL, np.array([True, True]), edge, both)
    for mine, own in zip(found.requests, edge.requests, strict=True):
        np.testing.assert_array_equal(mine, own)


def test_means_are_of_requests_and_words_a_second_of_all_of_them():
    work = ways.edge_only(PLACE, LENGTHS)
    found = measure.taken(PLACE, work)
    total = work.requests.total_s
    assert np.isclose(found["latency_ms"], 1e3 * total.mean())
    assert np.isclose(found["words_per_s"], LENGTHS.sum() / total.sum())
    parts = [found[name] for name in ("upload_ms", "prefill_ms", "decode_ms")]
    assert np.isclose(sum(parts), found["latency_ms"])
    assert set(found) <= set(measure.UNITS)


def test_a_schedule_plays_the_rounds_of_what_its_draft_has_read():
    """A draft that reads all agrees everywhere, one that reads a part nowhere."""
    valid = np.ones((2, 6), bool)
    always = agreement.Agreement(valid, np.zeros((2, 6)), valid)
    never = agreement.Agreement(~valid, np.full((2, 6), 0.9), valid)
    half = np.full(2, 0.5)
    said = shared.Said(np.zeros((2, 6), int), valid[:, 0], always, never, half, half)
    assert said.lengths.tolist() == [6, 6]

    def rounds(**own):
        plan = {"draft_length": 3, "threshold": 1.0, "reads_all": True} | own
        return schedules.rounds_of(PLACE, said, schedules.Schedule(**plan))

    assert rounds().accepted.sum() == rounds().drafted.clip(0).sum() > 0
    assert rounds(reads_all=False).accepted.sum() == 0
    # Above the threshold nothing is drafted: the cloud is asked for each word.
    shy = rounds(reads_all=False, threshold=0.5)
    assert shy.drafted.clip(0).sum() == 0 and shy.asked.sum() == 12


def test_rounds_of_counts_have_their_sums():
    counts = speculation.Counts(
        drafted=np.array([7, 0, 5, 3]),
        accepted=np.array([7, 0, 5, 3]),
        rejected=np.zeros(4, int),
        calls=np.array([2, 3, 0, 5]),
        deferred=np.array([2, 3, 0, 5]),
        emitted=np.array([9, 3, 5, 8]),
    )
    found = measure.unverified(counts)
    np.testing.assert_array_equal(found.drafted.clip(0).sum(axis=1), counts.drafted)
    np.testing.assert_array_equal(found.asked.sum(axis=1), counts.calls)
    np.testing.assert_array_equal(found.emitted().sum(axis=1), counts.emitted)
    assert (found.stays.sum(axis=1) <= 1).all()
