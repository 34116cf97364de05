"""Rewards of M3LLM: numbers by hand, printed forms, and bounds over random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs.expert_routing import judges, rewards, scoring

pytestmark = pytest.mark.usefixtures("quick_compilation")

CORE = np.array([True, True, False, False])
IRRELEVANT = np.array([False, False, False, True])
WEIGHTS = np.array([0.5, 0.15, 0.3, 0.05], np.float32)
SNR_DB = np.array([25.0, 15.0, 5.0, -5.0], np.float32)
ACTIVE = np.array([True, True, True, False])
BOUNDS = (5.0, 25.0)
PARAMS = scoring.RewardParams()
SCENE = scoring.Scene(
    core=CORE,
    irrelevant=IRRELEVANT,
    competence=np.array([0.9, 0.8, 0.5, 0.1], np.float32),
    snr_db=SNR_DB,
    live=np.ones(4, bool),
)
EVERY = jax.jit(lambda w, scene: scoring.score(w, scene, PARAMS))
PRINTED = jax.jit(
    lambda w, scene: scoring.score(w, scene, PARAMS, literal=scoring.LITERAL)
)


def spread(p):
    return float(-sum(x * np.log(x) for x in p if x > 0))


def one_head(weights):
    weights = jnp.asarray(weights, jnp.float32)
    return scoring.Weights(weights, weights)


def test_parts_are_those_computed_by_hand():
    total, parts = EVERY(one_head(WEIGHTS), SCENE)
    linear = 10 ** (SNR_DB[:3] / 10)
    arrives = 1 / (1 + np.exp(-(SNR_DB - 8.0) / 2.0))
    used = WEIGHTS[:3] / WEIGHTS[:3].sum()
    by_hand = {
        "activation": 0.5,  # one core expert of two reaches 0.2
        "suppression": 1.0,  # the irrelevant one is below 0.1
        "concentration": 0.65 * (1 - spread(WEIGHTS) / np.log(4)),
        "judged": 0.1 + 0.9 * float(WEIGHTS @ (SCENE.competence * arrives)),
        "quality": 0.5,  # of 1, 0.5 and 0
        "stability": 1 - np.sqrt(1 / 6) / 0.5,
        "balance": spread(used) / np.log(4),
        "efficiency": np.log2(1 + linear).mean() / np.log2(1 + 10**2.5),
    }
    for name, value in by_hand.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-5, err_msg=name)
    values = list(by_hand.values())
    semantic = np.dot([0.4, 0.3, 0.2, 0.1], values[:4])
    channel = np.dot([0.4, 0.3, 0.2, 0.1], values[4:])
    np.testing.assert_allclose(parts["semantic"], semantic, rtol=1e-5)
    np.testing.assert_allclose(parts["channel"], channel, rtol=1e-5)
    np.testing.assert_allclose(total, (semantic + channel) / 2, rtol=1e-5)


def test_printed_forms_are_those_computed_by_hand():
    _, parts = PRINTED(one_head(WEIGHTS), SCENE)
    used = WEIGHTS[:3] / WEIGHTS[:3].sum()
    by_hand = {
        "concentration": 0.65 * (1 - spread(WEIGHTS)),
        "quality": 0.5,
        "stability": 1 - SNR_DB[:3].std() / 0.5,
        "balance": spread(used),
        "efficiency": np.log2(1 + SNR_DB[:3]).mean() / np.log2(26.0),
    }
    for name, value in by_hand.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-5, err_msg=name)


@jax.jit
def both_forms(equal, snr_db):
    """Equal weights, and a spread of SNRs: the default and the printed form."""
    every, two = jnp.ones(7, bool), jnp.ones(2, bool)
    return [
        (
            rewards.concentration(equal, every, literal),
            rewards.balance(equal, every, literal),
            rewards.stability(snr_db, two, BOUNDS, literal),
        )
        for literal in (False, True)
    ]


def test_printed_forms_leave_the_unit_interval_where_ours_do_not():
    # Two links that are 8 dB off their mean of 15 dB, so Q = 1/2.
    equal, snr_db = np.full(7, 1 / 7, np.float32), np.array([7.0, 23.0], np.float32)
    ours, printed = both_forms(equal, snr_db)
    np.testing.assert_allclose(ours, (0.0, 1.0, 0.2), atol=1e-5)
    np.testing.assert_allclose(
        printed, (1 - np.log(7), np.log(7), 1 - 8 / 0.5), rtol=1e-5
    )


def test_all_parts_lie_in_the_unit_interval(key):
    keys = jax.random.split(key, 3)
    n = 512
    weights = jax.random.dirichlet(keys[0], jnp.full(4, 0.3), (n,))
    snr_db = 40.0 * jax.random.normal(keys[1], (n, 4))
    groups = jax.random.randint(keys[2], (n, 4), 0, 3)
    scene = SCENE._replace(core=groups == 0, irrelevant=groups == 1, snr_db=snr_db)
    axes = (
        0,
        SCENE._replace(core=0, irrelevant=0, competence=None, snr_db=0, live=None),
    )
    total, parts = jax.jit(jax.vmap(EVERY, axes))(one_head(weights), scene)
    for name, values in {"total": total, **parts}.items():
        assert np.isfinite(values).all(), name
        assert values.min() >= -1e-6 and values.max() <= 1 + 1e-6, name


def test_one_link_is_perfectly_stable_and_perfectly_unbalanced():
    _, parts = EVERY(one_head([0, 1, 0, 0]), SCENE)
    assert float(parts["stability"]) == 1.0
    assert float(parts["balance"]) == 0.0
    assert float(parts["quality"]) == 0.5


def test_one_link_is_perfectly_stable_at_any_snr_compiled_or_not(key):
    """Below SNR_min too, where a rounding would be divided by the constant alone."""
    snr_db = 5.0 + 12.0 * jax.random.normal(key, (512, 7))
    alone = jnp.arange(7) == 3

    def stability(snr_db, literal=False):
        return rewards.stability(snr_db, alone, BOUNDS, literal)

    for literal in (False, True):
        one = functools.partial(stability, literal=literal)
        np.testing.assert_array_equal(jax.jit(jax.vmap(one))(snr_db), 1.0)
        np.testing.assert_array_equal([one(row) for row in snr_db[:8]], 1.0)


def test_equal_links_are_perfectly_stable(key):
    """The mean of seven equal numbers is often not that number."""
    snr_db = jnp.repeat(-20.0 * jax.random.uniform(key, (512, 1)), 7, axis=1)
    active = jnp.arange(7) < jax.random.randint(key, (512, 1), 1, 8)
    found = jax.vmap(lambda x, a: rewards.stability(x, a, BOUNDS))(snr_db, active)
    np.testing.assert_array_equal(found, 1.0)


@pytest.mark.parametrize("place", range(4))
def test_a_weight_of_nan_is_no_better_than_any_number(place):
    weights = jnp.asarray(WEIGHTS).at[place].set(jnp.nan)
    total, parts = EVERY(scoring.single(weights, SCENE), SCENE)
    assert np.isnan(total)
    # On their own too, without the weights having been made valid first.
    alone = rewards.concentration(weights, CORE), rewards.balance(weights, CORE | True)
    assert np.isnan(alone).all()
    heard = rewards.suppression(weights, IRRELEVANT, PARAMS.suppression)
    assert place != 3 or heard == 0.0


def test_no_active_link_earns_nothing_from_channels():
    weights = scoring.Weights(jnp.asarray(WEIGHTS), jnp.full(4, 1e-3))
    assert float(EVERY(weights, SCENE)[1]["channel"]) == 0.0


def test_fifths_of_five_experts_pass_the_threshold_of_a_fifth():
    fifths = jnp.full(5, 1.0, jnp.float32)
    assert bool(rewards.passes(fifths / jnp.sum(fifths), 0.2).all())


def test_a_task_without_core_or_irrelevant_experts_costs_nothing():
    none = np.zeros(4, bool)
    assert float(rewards.activation(WEIGHTS, none, 0.2)) == 1.0
    assert float(rewards.suppression(WEIGHTS, none, 0.1)) == 1.0


def test_gradients_are_finite_at_weights_of_zero_and_one():
    def total(weights):
        return scoring.score(scoring.Weights(weights, weights), SCENE, PARAMS)[0]

    slope = jax.jit(jax.grad(total))
    for weights in ([1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4):
        assert np.isfinite(slope(jnp.array(weights))).all()


def test_the_foggy_traffic_light_is_better_read_over_the_worse_link():
    competence, snr_db = jnp.array([0.9, 0.5]), jnp.array([15.0, 25.0])
    reader, generalist = (
        judges.success(jnp.eye(2)[i], competence, snr_db, judges.ToyParams())
        for i in range(2)
    )
    assert float(reader) > float(generalist)
