import itertools

import numpy as np
import pytest

from m3jax.systems.wdmoe import placement


def routings(seed=0, num_experts=8, num_tokens=200):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, num_experts, (3, num_tokens))
    far = rng.integers(1, num_experts, (3, num_tokens))
    partner = np.where(rng.random((3, num_tokens)) < 0.5, num_experts // 2, far)
    return np.stack([first, (first + partner) % num_experts], axis=-1)


def test_ratios_count_tokens_of_both_and_sum_up_to_all():
    drawn = routings()
    ratios = placement.pair_ratios(drawn, 8)
    np.testing.assert_allclose(ratios, np.swapaxes(ratios, 1, 2))
    np.testing.assert_allclose(ratios.sum(axis=(1, 2)), 2.0)  # each pair twice
    both = {(0, 4), (4, 0)}
    count = sum(tuple(pair) in both for pair in drawn[1])
    assert ratios[1, 0, 4] == pytest.approx(count / 200)


def test_place_is_the_best_of_all_assignments_of_eight():
    for layer in placement.pair_ratios(routings(1), 8):
        best = max(
            sum(layer[order[2 * d], order[2 * d + 1]] for d in range(4))
            for order in itertools.permutations(range(8))
            if order[0] == 0 and all(order[2 * d] < order[2 * d + 1] for d in range(4))
        )
        found = placement.place(layer)
        assert found.is_exact and found.share == pytest.approx(best)
        assert np.bincount(found.devices).tolist() == [2, 2, 2, 2]
        again = sum(
            layer[a, b]
            for a, b in itertools.combinations(range(8), 2)
            if found.devices[a] == found.devices[b]
        )
        assert again == pytest.approx(found.share)


def test_beyond_eight_greedy_finds_partners_that_stand_out():
    ratios = placement.pair_ratios(routings(2, 16, 2000), 16)[0]
    found = placement.place(ratios)
    assert not found.is_exact
    assert (found.devices[:8] == found.devices[8:]).all()
    with pytest.raises(ValueError, match="even"):
        placement.place(np.zeros((3, 3)))


def test_a_token_with_both_experts_on_a_device_is_sent_once():
    tokens = np.array([[0, 4], [0, 4], [4, 0], [1, 2]])
    devices = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    send, compute = np.full(4, 1.0), np.full(4, 0.25)
    found = placement.saved(tokens, devices, send, compute)
    # Device 0 has three tokens with both experts: 6 (1 + 0.25), or 3 + 6 x 0.25.
    assert (found.twice_s, found.once_s) == (7.5, 4.5)
    # In order, 0 and 1 share, 4 is on device 2: four and three sendings.
    assert found.in_order_s == 5.0


def test_frequent_pairs_together_are_faster_than_in_order():
    drawn = routings(3)
    for layer, ratios in zip(drawn, placement.pair_ratios(drawn, 8), strict=True):
        devices = placement.place(ratios).devices
        found = placement.saved(layer, devices, np.full(4, 1e-3), np.full(4, 3e-5))
        assert found.once_s < found.in_order_s and found.once_s < found.twice_s
