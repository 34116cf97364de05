"""Events: off by default, at the set steps, and at their stationary rates by chance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs.expert_routing import events

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_EXPERTS, NUM_STEPS, NUM_ENVS = 5, 200, 64
QUIET = events.EventParams()


@jax.jit
def history(params):
    """What is wrong after each step: leading axes environment, time."""

    def run(key):
        def body(state, inputs):
            key, time = inputs
            state = events.advance(key, state, time, params)
            return state, (state, events.loss_db(state, params))

        keys = jax.random.split(key, NUM_STEPS)
        times = 1 + jnp.arange(NUM_STEPS)
        return jax.lax.scan(body, events.start(NUM_EXPERTS), (keys, times))[1]

    return jax.vmap(run)(jax.random.split(jax.random.key(0), NUM_ENVS))


def test_nothing_happens_by_default():
    seen, loss_db = history(QUIET)
    assert not loss_db.any()
    assert seen.live.all()
    assert (seen.reliability == 1.0).all()


def test_a_set_burst_hits_the_same_links_from_its_first_step_to_its_last():
    params = QUIET._replace(burst_at=10, burst_until=15, burst_loss_db=30.0)
    seen, loss_db = history(params)
    # Entry i is after step i + 1.
    inside = np.arange(1, NUM_STEPS + 1)
    inside = (inside >= 10) & (inside < 15)
    np.testing.assert_array_equal(seen.bursting, np.tile(inside, (NUM_ENVS, 1)))
    hit = np.asarray(seen.hit)[:, inside]
    assert (hit == hit[:, :1]).all()
    assert abs(hit[:, 0].mean() - 0.5) < 0.15
    np.testing.assert_array_equal(loss_db, 30.0 * np.asarray(seen.hit))


def test_a_set_failure_takes_one_expert_for_its_time_only():
    params = QUIET._replace(failing_expert=2, fails_at=5, returns_at=8)
    seen, _ = history(params)
    live = np.asarray(seen.live)
    gone = np.zeros((NUM_STEPS, NUM_EXPERTS), bool)
    gone[4:7, 2] = True
    np.testing.assert_array_equal(live, np.tile(~gone, (NUM_ENVS, 1, 1)))


def test_chance_keeps_its_stationary_rates():
    params = QUIET._replace(
        burst_rate=0.1,
        burst_stop=0.3,
        blockage_rate=0.1,
        unblock_rate=0.1,
        failure_rate=0.05,
        return_rate=0.2,
    )
    seen, _ = history(params)
    late = jax.tree.map(lambda x: np.asarray(x)[:, 50:], seen)
    assert late.bursting.mean() == pytest.approx(0.25, abs=0.03)
    assert late.hit.mean() == pytest.approx(0.125, abs=0.03)
    assert late.blocked.mean() == pytest.approx(0.5, abs=0.03)
    assert late.live.mean() == pytest.approx(0.8, abs=0.03)


def test_somebody_is_always_live():
    params = QUIET._replace(
        failure_rate=0.9, return_rate=0.0, failing_expert=1, fails_at=1, returns_at=500
    )
    live = np.asarray(history(params)[0].live)
    assert live.any(axis=-1).all()
    assert live[:, -1].sum(axis=-1).max() == 1


def test_reliability_drifts_within_its_bounds():
    seen, _ = history(QUIET._replace(drift_std=0.05, least_reliability=0.6))
    reliability = np.asarray(seen.reliability)
    assert reliability.min() == np.float32(0.6)
    assert reliability.max() == 1.0
    assert reliability[:, -1].std() > 0.05
