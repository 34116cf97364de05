"""Features against NumPy, weights against the inverse of known variances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs.expert_routing import reports
from m3jax.systems.m3llm import reliability, reliability_streams, reliability_training
from m3jax.testing import traces

pytestmark = pytest.mark.usefixtures("quick_compilation")

T, N = 12, 3
RNG = np.random.default_rng(0)
SEEN = RNG.random((T, N)) < 0.7
HISTORY = reliability.History(
    semantic=RNG.normal(0.5, 0.1, T).astype(np.float32),
    channel=RNG.normal(0.4, 0.2, T).astype(np.float32) + np.arange(T, dtype=np.float32),
    snr=RNG.random((T, N)).astype(np.float32),
    observed=SEEN,
)
WINDOW = 32
find = jax.jit(reliability.features)
EXPECTED_ERROR = jax.jit(reliability_streams.expected_error, static_argnums=3)


def named(history):
    return dict(zip(reliability.FEATURES, np.asarray(find(history)), strict=True))


def test_features_are_those_of_numpy():
    expected = []
    for stream in HISTORY[:2]:
        stream = stream.astype(np.float64)
        slope = np.polyfit(np.arange(T), stream, 1)[0]
        rest = stream - stream.mean()
        expected += [stream.mean(), stream.std(), slope * (T - 1)]
        expected += [np.sum(rest[1:] * rest[:-1]) / np.sum(rest**2)]
    changes = [
        abs(HISTORY.snr[t + 1, n] - HISTORY.snr[t, n])
        for t in range(T - 1)
        for n in range(N)
        if SEEN[t, n] and SEEN[t + 1, n]
    ]
    assert 5 < len(changes) < (T - 1) * N
    assert len(reliability.FEATURES) == 9
    np.testing.assert_allclose(
        find(HISTORY), [*expected, np.mean(changes)], rtol=1e-4, atol=1e-5
    )


def test_what_was_not_observed_may_be_anything():
    spoilt = HISTORY._replace(snr=np.where(SEEN, HISTORY.snr, np.nan))
    np.testing.assert_array_equal(find(spoilt), find(HISTORY))
    nothing = HISTORY._replace(observed=np.zeros_like(SEEN))
    assert named(nothing)["snr_change"] == 0.0


def test_a_shift_moves_the_mean_alone_and_a_scale_what_has_the_unit():
    before = named(HISTORY)
    after = named(HISTORY._replace(semantic=3.0 * HISTORY.semantic + 2.0))
    expected = before | {
        "semantic_mean": 3.0 * before["semantic_mean"] + 2.0,
        "semantic_std": 3.0 * before["semantic_std"],
        "semantic_trend": 3.0 * before["semantic_trend"],
    }
    for name, value in expected.items():
        assert after[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_backwards_in_time_only_the_trends_turn():
    turned = find(jax.tree.map(lambda leaf: leaf[::-1], HISTORY))
    sign = [-1.0 if name.endswith("trend") else 1.0 for name in reliability.FEATURES]
    np.testing.assert_allclose(
        turned, np.array(sign) * find(HISTORY), rtol=1e-4, atol=1e-5
    )


def test_exchanged_streams_exchange_their_features():
    other = HISTORY._replace(semantic=HISTORY.channel, channel=HISTORY.semantic)
    order = [4, 5, 6, 7, 0, 1, 2, 3, 8]
    np.testing.assert_array_equal(find(other), np.asarray(find(HISTORY))[order])


def test_a_constant_stream_has_no_spread_and_no_memory():
    found = named(HISTORY._replace(semantic=np.full(T, 0.1, np.float32)))
    assert found["semantic_mean"] == np.float32(0.1)
    names = ("semantic_std", "semantic_trend", "semantic_persistence")
    assert [found[name] for name in names] == [0.0] * 3


def test_extreme_persistence_is_that_of_alternation_and_of_a_line():
    alternating = np.where(np.arange(T) % 2, 1.0, -1.0).astype(np.float32)
    found = named(HISTORY._replace(semantic=alternating))
    assert found["semantic_persistence"] == pytest.approx(-(T - 1) / T)
    line = named(HISTORY._replace(semantic=np.arange(T, dtype=np.float32)))
    assert line["semantic_trend"] == pytest.approx(T - 1)
    assert line["semantic_persistence"] > 0.5


def test_a_history_is_what_an_agent_saw():
    live, reported = (RNG.random((2, T, N)) < 0.7).astype(np.float32)
    view = reports.View(
        task=np.eye(T, 4, dtype=np.float32),
        live=live,
        reported=reported,
        snr=np.where(reported > 0, HISTORY.snr, 0.0),
        earned=np.stack(HISTORY[:2], axis=-1),
    )
    found = reliability.history_of(view)
    expected = HISTORY._replace(snr=view.snr, observed=(live > 0) & (reported > 0))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"semantic": HISTORY.semantic[:5]},
        {"snr": HISTORY.snr[:, :2]},
        {"observed": SEEN[0]},
        {"semantic": HISTORY.semantic[:, None]},
    ],
)
def test_wrong_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"rewards \[T\] of 3 steps or more"):
        reliability.features(HISTORY._replace(**wrong))
    short = jax.tree.map(lambda leaf: leaf[:2], HISTORY)
    with pytest.raises(ValueError, match="3 steps or more"):
        reliability.features(short)


@pytest.fixture(scope="module")
def untrained():
    return jax.jit(reliability.MODEL.init)(jax.random.key(0), np.zeros(9))


def test_untrained_weights_are_equal(untrained):
    found = jax.jit(reliability.weights)(untrained, HISTORY)
    np.testing.assert_allclose(found, [0.5, 0.5])


def test_no_gradient_reaches_history_or_parameters(trained):
    def total(params, semantic, channel, snr):
        history = reliability.History(semantic, channel, snr, SEEN)
        found = reliability.features(history)
        return reliability.weights(params, history)[0] + found.sum()

    slope = jax.jit(jax.grad(total, (0, 1, 2, 3)))(trained.params, *HISTORY[:3])
    for leaf in jax.tree.leaves(slope):
        np.testing.assert_array_equal(leaf, 0.0)
    # A trained network does have a slope: it is stopped, not absent.
    free = jax.jit(jax.grad(lambda f: reliability.MODEL.apply(trained.params, f)[0]))
    assert np.abs(free(find(HISTORY))).max() > 1e-3


def test_inverse_error_weights_have_the_least_loss():
    inputs, error = np.asarray(find(HISTORY))[None], np.array([[0.3, 0.1]])
    grid = np.linspace(0.0, 1.0, 1001, dtype=np.float32)
    tried = np.stack([grid, 1.0 - grid], axis=-1)
    cost = jax.jit(
        jax.vmap(lambda w: reliability_training.loss(w[None], inputs, error))
    )
    best = reliability_training.inverse_error_weights(jnp.asarray(error))
    np.testing.assert_allclose(tried[np.argmin(cost(tried))], best[0], atol=1e-6)
    equal = reliability_training.inverse_error_weights(jnp.zeros(2))
    np.testing.assert_array_equal(equal, 0.5)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_expected_error_is_that_of_many_streams(correlation):
    std, drift, num = 0.2, 0.01, 20_000
    noise = RNG.normal(size=(2 * WINDOW, num))
    x = [noise[0]]
    for w in noise[1:]:
        x.append(correlation * x[-1] + np.sqrt(1 - correlation**2) * w)
    streams = std * np.stack(x) + drift * np.arange(2 * WINDOW)[:, None]
    error = streams[WINDOW:].mean(axis=0) - streams[:WINDOW].mean(axis=0)
    expected = EXPECTED_ERROR(std, correlation, drift, WINDOW)
    np.testing.assert_allclose(np.mean(error**2), expected, rtol=0.05)


NUM_LEARNT, NUM_UNSEEN, STEPS = 2000, 1500, 400


draw = jax.jit(reliability_streams.simulate, static_argnums=(1, 2, 3))


def drawn(seed, max_correlation):
    """Streams without drift."""
    num = NUM_LEARNT + NUM_UNSEEN
    return draw(jax.random.key(seed), num, WINDOW, N, max_correlation, 0.0)


def learnt(simulated):
    part = jax.tree.map(lambda leaf: leaf[:NUM_LEARNT], simulated.histories)
    return reliability_training.train(jax.random.key(1), part, steps=STEPS)


@jax.jit
def weighed(params, simulated):
    """Weights of unseen histories, and what they are expected to cost."""
    unseen = jax.tree.map(lambda leaf: leaf[NUM_LEARNT:], simulated)
    present = jax.tree.map(lambda leaf: leaf[:, :WINDOW], unseen.histories)
    inputs = jax.vmap(reliability.features)(present)
    found = jax.vmap(lambda h: reliability.weights(params, h))(present)
    invert = reliability_training.inverse_error_weights
    weights = {
        "found": found,
        "best": invert(unseen.error),
        "variances": invert(inputs[:, 1:6:4] ** 2),
        "equal": jnp.full_like(found, 0.5),
    }
    cost = {
        name: reliability_training.loss(w, inputs, unseen.error)
        for name, w in weights.items()
    }
    return weights, cost


@pytest.fixture(scope="module")
def simulated():
    """Streams with memory."""
    return drawn(5, 0.9)


@pytest.fixture(scope="module")
def trained(simulated):
    return learnt(simulated)


def test_simulated_errors_are_the_expected_ones(simulated):
    found = np.asarray(reliability_training.squared_errors(simulated.histories))
    ratio = found / np.asarray(simulated.error)
    np.testing.assert_allclose(ratio.mean(axis=0), 1.0, atol=0.08)
    # The errors of both streams are apart from each other.
    assert abs(np.corrcoef(ratio.T)[0, 1]) < 0.05


@pytest.fixture(scope="module")
def white():
    return drawn(6, 0.0)


@pytest.fixture(scope="module")
def trained_on_white(white):
    return learnt(white)


def test_of_white_streams_the_learned_weights_are_nearly_the_best(
    trained_on_white, white
):
    weights, cost = weighed(trained_on_white.params, white)
    np.testing.assert_allclose(weights["found"].sum(axis=-1), 1.0, rtol=1e-5)
    assert cost["best"] < cost["found"] < 1.06 * cost["best"]
    assert cost["equal"] > 2.0 * cost["best"]
    assert np.abs(weights["found"] - weights["best"])[:, 0].mean() < 0.05


def test_of_streams_with_memory_they_beat_inverse_sample_variances(trained, simulated):
    """The best know what a window cannot tell: deviation and correlation exactly."""
    weights, cost = weighed(trained.params, simulated)
    assert cost["best"] < cost["found"] < 1.3 * cost["best"]
    assert cost["found"] < 0.9 * cost["variances"] < 0.9 * cost["equal"]
    found, best = weights["found"][:, 0], weights["best"][:, 0]
    assert np.corrcoef(found, best)[0, 1] > 0.9


def test_the_quieter_of_two_streams_is_trusted_as_it_deserves(trained_on_white):
    """Noise known exactly: nine to one in variance is 0.9 to 0.1 in weight."""
    streams = RNG.normal(0.5, [0.05, 0.15], (200, WINDOW, 2)).astype(np.float32)
    snr = RNG.normal(0.5, 0.2, (200, WINDOW, N)).clip(0.0, 1.0).astype(np.float32)
    seen = np.ones_like(snr, bool)

    @jax.jit
    def weigh(semantic, channel):
        history = reliability.History(semantic, channel, snr, seen)
        params = trained_on_white.params
        return jax.vmap(lambda h: reliability.weights(params, h))(history).mean(axis=0)

    quiet, loud = streams[..., 0], streams[..., 1]
    np.testing.assert_allclose(weigh(quiet, loud), [0.9, 0.1], atol=0.04)
    np.testing.assert_allclose(weigh(loud, quiet), [0.1, 0.9], atol=0.04)


def test_training_is_one_program_that_learns(trained, simulated):
    assert trained.losses.shape == (STEPS,)
    first, last = (
        np.mean(trained.losses[part]) for part in (slice(50), slice(-200, None))
    )
    assert last < 0.85 * first
    odd = jax.tree.map(lambda leaf: leaf[:4, :7], simulated.histories)
    with pytest.raises(ValueError, match="even number of steps"):
        reliability_training.train(jax.random.key(0), odd)


def test_windows_are_cut_in_order_each_half_over_the_last():
    run = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf[:2]]), HISTORY)
    found = reliability_training.windows(run, 4)
    assert found.snr.shape == (2, 8, N)
    for i in range(2):
        part = jax.tree.map(lambda leaf, i=i: leaf[4 * i : 4 * i + 8], run)
        jax.tree.map(
            lambda x, y, i=i: np.testing.assert_array_equal(x[i], y), found, part
        )
    with pytest.raises(ValueError, match="shorter than two windows"):
        reliability_training.windows(HISTORY, T)


def test_values_compile_nothing_again(untrained):
    other = jax.tree.map(lambda leaf: leaf[::-1], HISTORY)
    calls = [(untrained, jax.tree.map(jnp.asarray, h)) for h in (HISTORY, other)]
    traces.assert_no_retrace(reliability.weights, calls)
