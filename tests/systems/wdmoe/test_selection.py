import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.systems.wdmoe import lower_level, ratios, selection, testbed

pytestmark = pytest.mark.usefixtures("quick_compilation")

POLICIES = {
    "vanilla": selection.vanilla,
    "cosine": selection.cosine,
    "dynamic": selection.dynamic,
    "testbed": testbed.relieve,
}


def gates(seed, num_tokens=24, num_experts=8):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(num_experts, 0.7), num_tokens).astype(np.float32)
    return probs, rng.lognormal(-7.0, 1.0, num_experts).astype(np.float32)


def ratio_of(probs, kept, latencies):
    """Equation 12 by loops."""
    total = 0.0
    for k, seconds in enumerate(latencies):
        tokens = [j for j in range(len(probs)) if kept[j][k]]
        if tokens:
            weight = sum(float(probs[j][k]) for j in tokens)
            total += weight / (len(tokens) * float(seconds))
    return total


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_every_policy_keeps_the_best_and_a_head_of_the_chosen(name, k):
    probs, latencies = gates(0)
    mask = np.arange(24) < 20
    weights = jax.jit(selection.weights_of(POLICIES[name], k=k))(probs, mask, latencies)
    kept = np.asarray(weights > 0.0)
    assert kept[:20].any(axis=1).all() and not kept[20:].any()
    order = np.argsort(-probs, axis=1)
    for row, ranked in zip(kept[:20], order, strict=False):
        count = row.sum()
        assert count <= k and set(np.flatnonzero(row)) == set(ranked[:count])
    np.testing.assert_allclose(np.asarray(weights)[:20].sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", POLICIES)
def test_without_renormalising_the_gates_weights_stay(name):
    probs, latencies = gates(1)
    weights = np.asarray(
        POLICIES[name](probs, np.full(24, True), latencies, renormalise=False).weights
    )
    kept = weights > 0.0
    np.testing.assert_array_equal(weights[kept], probs[kept])


def test_ratio_is_that_of_the_loops_and_0_for_the_idle():
    probs, latencies = gates(2)
    kept = np.random.default_rng(0).random(probs.shape) < 0.3
    kept[:, 4] = False
    found = ratios.weight_latency_ratio(probs, kept, latencies)
    assert float(found[4]) == 0.0
    assert float(jnp.sum(found)) == pytest.approx(
        ratio_of(probs, kept, latencies), rel=1e-5
    )


def algorithm_1(probs, latencies, k=2):
    """The printed algorithm by loops, with the guards; kept and how it ended."""
    kept = np.zeros(probs.shape, bool)
    for j, row in enumerate(probs):
        kept[j, np.argsort(-row)[:k]] = True
    cosine = probs @ latencies
    cosine = cosine / np.linalg.norm(probs, axis=1) / np.linalg.norm(latencies)

    def one_pass(theta):
        for j, row in enumerate(probs):
            if cosine[j] <= theta and kept[j].sum() > 1:
                kept[j, np.argmin(np.where(kept[j], row, np.inf))] = False

    goal, theta, passes = 1.01 * ratio_of(probs, kept, latencies), 0.5, 0
    while ratio_of(probs, kept, latencies) <= goal:
        if (kept.sum(axis=1) <= 1).all():
            status = selection.Status.NOTHING_LEFT
            break
        if theta > 1.0 + 1e-9 or passes == 6:
            status = selection.Status.EXHAUSTED
            break
        one_pass(theta)
        theta, passes = theta + 0.1, passes + 1
    else:
        status = selection.Status.REACHED
    one_pass(min(theta, 1.0))
    return kept, status


@pytest.mark.parametrize("k", [2, 3])
def test_algorithm_1_is_that_of_the_loops(k):
    policy = jax.jit(selection.cosine, static_argnames="k")
    for seed in range(12):
        probs, latencies = gates(seed, num_tokens=6)
        kept, status = algorithm_1(probs, latencies, k)
        found = policy(probs, np.full(6, True), latencies, k=k)
        np.testing.assert_array_equal(found.weights > 0.0, kept)
        assert int(found.status) == status


def test_algorithm_1_ends_where_no_theta_reaches_its_mark():
    probs, latencies = gates(3)
    mask = np.full(24, True)
    found = selection.cosine(probs, mask, latencies, rise=1e6)
    assert int(found.status) == selection.Status.NOTHING_LEFT
    assert (np.asarray(found.weights > 0.0).sum(axis=1) == 1).all()
    # Of eight experts six passes and the last one may leave more than one.
    found = selection.cosine(probs, mask, latencies, rise=1e6, k=8, max_passes=6)
    assert int(found.status) == selection.Status.EXHAUSTED
    assert float(found.threshold) == 1.0
    # Equal latencies and uniform weights: every cosine is 1, which only theta 1 drops.
    same = np.full((4, 8), 0.125, np.float32)
    found = selection.cosine(same, np.full(4, True), np.ones(8), rise=1e6)
    assert int(found.num_dropped) == 4


def test_an_expert_out_of_reach_is_all_that_the_cosine_sees():
    probs = jnp.array([[0.9, 0.1], [0.1, 0.9]])
    found = ratios.cosine_similarity(probs, jnp.array([1.0, jnp.inf]))
    np.testing.assert_allclose(found, probs[:, 1] / jnp.linalg.norm(probs, axis=1))


@pytest.mark.parametrize(
    ("num_tokens", "num_experts"), [(1, 3), (2, 2), (3, 3), (4, 2), (4, 3)]
)
def test_exact_choice_is_that_of_brute_force(num_tokens, num_experts):
    probs, latencies = gates(10 * num_tokens, num_tokens, num_experts)
    best = 0.0
    for bits in itertools.product((0, 1), repeat=num_tokens * num_experts):
        kept = np.array(bits).reshape(num_tokens, num_experts)
        if kept.any(axis=1).all():
            best = max(best, ratio_of(probs, kept, latencies))
    found = lower_level.exact(probs, np.full(num_tokens, True), latencies)
    assert float(found.ratio) == pytest.approx(best, rel=1e-5)
    kept = np.asarray(found.weights > 0.0)
    assert kept.any(axis=1).all()
    assert ratio_of(probs, kept, latencies) == pytest.approx(best, rel=1e-5)


def test_exact_refuses_what_it_cannot_look_at():
    with pytest.raises(ValueError, match="choices"):
        lower_level.exact(jnp.ones((8, 8)), jnp.full(8, True), jnp.ones(8))


def test_dynamic_drops_no_more_weight_than_is_spared():
    probs, latencies = gates(4)
    mask = np.full(24, True)
    for spare in (0.0, 0.3, 1.0):
        kept = selection.dynamic(probs, mask, latencies, k=4, spare=spare).weights > 0
        first = np.sort(probs, axis=1)[:, -4:].sum(axis=1)
        left = np.where(kept, probs, 0.0).sum(axis=1)
        several = np.asarray(kept).sum(axis=1) > 1
        assert (left[several] >= (1 - spare) * first[several] - 1e-6).all()
        if spare in (0.0, 1.0):
            assert (np.asarray(kept).sum(axis=1) == (4 if spare == 0.0 else 1)).all()
    counts = np.arange(24) % 4
    kept = selection.keep_best(probs, mask, counts)
    assert np.asarray(kept).sum(axis=1).tolist() == np.maximum(counts, 1).tolist()


def test_algorithm_2_on_a_case_by_hand():
    """Device 3 takes 3 s a token: T = (2, 3, 3, 15), T_Q3 = 6, so floor(9 / 3) = 3 may
    go. The mean weight on it is 0.36; tokens 0, 1 and 2 have it last and below that.
    """
    probs = np.array(
        [
            [0.70, 0.00, 0.00, 0.30],
            [0.00, 0.80, 0.00, 0.20],
            [0.00, 0.00, 0.65, 0.35],
            [0.00, 0.45, 0.00, 0.55],  # its first: stays
            [0.00, 0.00, 0.60, 0.40],  # its last, but above the mean: stays
            [0.60, 0.40, 0.00, 0.00],
            [0.00, 0.00, 1.00, 0.00],
        ],
        np.float32,
    )
    probs[6] = [0.1, 0.0, 0.9, 0.0]
    mask = np.arange(7) < 6
    token_s = np.array([1.0, 1.0, 1.5, 3.0], np.float32)
    found = testbed.relieve(probs, mask, token_s)
    on_slowest = np.asarray(found.weights[:, 3] > 0.0)
    assert on_slowest.tolist() == [False, False, False, True, True, False, False]
    assert int(found.num_dropped) == 3
    # With 0.5 s a token nobody stands out.
    calm = testbed.relieve(probs, mask, np.array([1.0, 1.0, 1.5, 0.5], np.float32))
    assert int(calm.num_dropped) == 0


def test_algorithm_2_drops_the_least_weights_where_there_is_less_room():
    probs = np.tile(np.array([[0.6, 0.0, 0.4, 0.0]], np.float32), (8, 1))
    probs[:, 2] = np.linspace(0.1, 0.45, 8)
    # T = (8, 0, 12, 0), T_Q3 = 9: 12 < 13.5 stands out from a factor of 1.2 on.
    settings = {"stands_out": 1.2}
    token_s = np.array([1.0, 1.0, 1.5, 1.0], np.float32)
    found = testbed.relieve(probs, np.full(8, True), token_s, **settings)
    assert np.flatnonzero(found.weights[:, 2] == 0.0).tolist() == [0, 1]
    assert int(testbed.relieve(probs, np.full(8, True), token_s).num_dropped) == 0


def test_history_is_the_mean_of_latency_over_tokens():
    history = testbed.start_history(3)
    history = testbed.observe(history, jnp.array([4.0, 3.0, 0.0]), jnp.array([2, 1, 0]))
    history = testbed.observe(history, jnp.array([4.0, 0.0, 0.0]), jnp.array([1, 0, 0]))
    # Device 2 was never seen: the mean of the others.
    np.testing.assert_allclose(history.token_s, [3.0, 3.0, 3.0])
