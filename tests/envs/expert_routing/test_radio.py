"""Links of M3LLM: the budget by hand, stationary laws and correlations in time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import doppler
from m3jax.envs.expert_routing import events, radio

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_LINKS, NUM_STEPS = 4096, 12
STILL = events.EventParams()
FADING = radio.RadioParams(fading_correlation=0.8)


@functools.partial(jax.jit, static_argnums=(3, 4))
def snr_db(links, params, moving, calibrated=False, literal=frozenset(), time=0):
    return radio.snr_db(links, jnp.int32(time), params, moving, calibrated, literal)


@jax.jit
def walk(key, params, moving):
    """Links before each of several steps, leading axis time."""
    begin, go = jax.random.split(key)

    def body(links, key):
        return radio.advance(key, links, params, moving), links

    first = radio.start(begin, NUM_LINKS, params, moving)
    return jax.lax.scan(body, first, jax.random.split(go, NUM_STEPS))[1]


def plain_link(distance=275.0):
    """One link without shadowing and with a gain of one."""
    return radio.Radio(
        mean_snr_db=jnp.array([17.0]),
        start=jnp.array([[distance, 0.0]]),
        velocity=jnp.zeros((1, 2)),
        shadow_std_db=jnp.zeros(1),
        shadow_db=jnp.zeros(1),
        scatter=jnp.array([[1.0, 0.0]]),
    )


@pytest.mark.parametrize(("bandwidth", "expected"), [(180e3, 19.1), (1e6, 11.6)])
def test_the_budget_at_the_mean_distance_is_that_of_the_design(bandwidth, expected):
    params = radio.RadioParams(bandwidth_hz=bandwidth)
    value = float(snr_db(plain_link(), params, STILL)[0])
    assert value == pytest.approx(expected, abs=0.05)


def test_noise_taken_in_one_hertz_gives_the_printed_mean():
    value = snr_db(
        plain_link(), radio.RadioParams(), STILL, False, frozenset({"noise_power"})
    )
    assert float(value[0]) == pytest.approx(71.6, abs=0.05)


def test_a_deep_fade_lowers_the_snr_and_raises_the_printed_one():
    params = radio.RadioParams()
    clear = plain_link()
    faded = clear._replace(scatter=jnp.array([[0.1, 0.0]]))
    for literal, change in ((frozenset(), -20.0), (frozenset({"fading_sign"}), 20.0)):
        two = [snr_db(x, params, STILL, False, literal) for x in (faded, clear)]
        np.testing.assert_allclose(two[0] - two[1], change, rtol=1e-5)


def test_calibrated_links_start_at_their_own_mean_and_lose_with_distance():
    params = radio.RadioParams()
    link = plain_link(100.0)._replace(velocity=jnp.array([[10.0, 0.0]]))
    moving = STILL._replace(speed=10.0, step_time=1.0)
    first, later = (
        float(snr_db(link, params, moving, True, frozenset(), t)[0]) for t in (0, 10)
    )
    assert first == pytest.approx(17.0, abs=1e-4)
    assert later == pytest.approx(17.0 - 35.0 * np.log10(2.0), abs=1e-3)


def test_distances_and_deviations_are_never_impossible(key):
    wild = radio.RadioParams(std_distance=1e3, std_shadow_std_db=100.0)
    links = jax.jit(radio.start, static_argnums=1)(key, NUM_LINKS, wild, STILL)
    assert float(radio.distances(links, jnp.int32(0), STILL).min()) >= 0.999
    assert float(links.shadow_std_db.min()) == 0.0


def test_links_start_in_the_distribution_that_they_keep(key):
    links = walk(key, FADING, STILL)
    sigma = links.shadow_std_db[0]
    for t in (0, NUM_STEPS - 1):
        unit = np.asarray(links.shadow_db[t] / sigma)
        assert abs(unit.mean()) < 5 / np.sqrt(NUM_LINKS)
        assert abs(unit.std() - 1) < 5 / np.sqrt(2 * NUM_LINKS)
        power = np.asarray((links.scatter[t] ** 2).sum(-1))
        assert abs(power.mean() - 1) < 5 / np.sqrt(NUM_LINKS)


def correlation(x, lag):
    """Over links of unit variance and zero mean, from the first step."""
    return float(np.mean(np.asarray(x[0]) * np.asarray(x[lag])))


@pytest.mark.parametrize("lag", [1, 5])
def test_autocorrelations_fall_geometrically(key, lag):
    links = walk(key, FADING, STILL)
    shadow = links.shadow_db / links.shadow_std_db
    bound = 5 / np.sqrt(NUM_LINKS)
    assert correlation(shadow, lag) == pytest.approx(0.9**lag, abs=1.5 * bound)
    axis = np.sqrt(2.0) * links.scatter[..., 0]
    assert correlation(axis, lag) == pytest.approx(0.8**lag, abs=1.5 * bound)
    # The process of `channels.doppler`, whose gains are drawn whole.
    draw = jax.vmap(lambda k: doppler.GaussMarkov(0.8).generate(k, (lag + 1,)))
    gains = draw(jax.random.split(key, NUM_LINKS))
    other = np.sqrt(2.0) * gains.real.T
    assert correlation(axis, lag) == pytest.approx(
        correlation(other, lag), abs=2 * bound
    )


def test_fading_as_printed_forgets_within_a_step(key):
    links = walk(key, FADING._replace(fading_correlation=0.0), STILL)
    axis = np.sqrt(2.0) * links.scatter[..., 0]
    assert abs(correlation(axis, 1)) < 5 / np.sqrt(NUM_LINKS)


def test_moving_devices_lose_correlation_by_the_way_they_go(key):
    params = FADING._replace(shadow_correlation=1.0)
    moving = STILL._replace(speed=5.0, step_time=1.0, correlation_distance=20.0)
    links = walk(key, params, moving)
    shadow = links.shadow_db / links.shadow_std_db
    bound = 7 / np.sqrt(NUM_LINKS)
    assert correlation(shadow, 4) == pytest.approx(np.exp(-1.0), abs=bound)
    still = walk(key, params, STILL).shadow_db
    np.testing.assert_array_equal(still[0], still[-1])
