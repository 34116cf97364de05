"""The oracle is the exact likelihood, wherever the model or the data are linear."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from m3jax.channels import doppler
from m3jax.nn import state_space
from m3jax.ops import gauss_markov, kalman
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

B, T, P, C = 3, 6, 2, 3
RNG = np.random.default_rng(0)
SERIES = RNG.normal(size=(B, T, P)).astype(np.float32)
CONTEXT = RNG.normal(size=(B, T, C)).astype(np.float32)
MASK = RNG.random((B, T, P)) < 0.7
MASK[:, 2] = False
MASK[0, 4:] = False
ALL, HEAD = (
    np.ones((B, T, P), bool),
    np.broadcast_to(np.arange(T)[:, None] < 4, MASK.shape),
)
SIZES = {"fast_dim": 3, "slow_dim": 2, "hidden_dim": 4}
MODEL = state_space.StateSpace(P, C, **SIZES, smoother=True)
KEY = jax.random.key(3)


def compiled(model, name, **static):
    """A method of the model as a compiled function that gives NumPy arrays."""
    run = jax.jit(functools.partial(model.apply, method=name, **static))
    return lambda *args, **kwargs: jax.tree.map(np.asarray, run(*args, **kwargs))


FILTER = compiled(MODEL, "filter")
SMOOTH = compiled(MODEL, "smooth")
SAMPLE = compiled(MODEL, "filter")
ELBO = compiled(MODEL, "elbo")


@jax.jit
def gradient(params, series):
    """Of the bound by the smoother, by the parameters and by the series."""

    def loss(params, series):
        args = (params, series, KEY, MASK, CONTEXT)
        return MODEL.apply(*args, smooth=True, method="elbo").loss(free_nats=0.01)

    return jax.grad(loss, (0, 1))(params, series)


@pytest.fixture(scope="module")
def params(random_params):
    return random_params(MODEL, SERIES, MASK, CONTEXT)


def first(tree, num):
    return jax.tree.map(lambda x: x[:, :num], tree)


def assert_close(a, b, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


def test_what_is_masked_may_be_anything_and_gets_no_gradient(params):
    clean = gradient(params, SERIES)
    spoilt = gradient(params, np.where(MASK, SERIES, np.nan))
    jax.tree.map(np.testing.assert_array_equal, spoilt, clean)
    slope = np.asarray(spoilt[1])
    assert (slope[~MASK] == 0.0).all() and (slope[MASK] != 0.0).all()


def test_gradients_reach_every_part(params):
    parts = ["fast_prior", "fast_posterior", "slow_posterior", "core", "emission"]
    patterns = [f"params/cell/{part}" for part in [*parts, "timescale"]]
    found, _ = gradient(params, SERIES)
    gradients.check_gradients_reach(found, [*patterns, "params/backward"])


def test_a_masked_end_equals_a_shorter_series(params):
    short = SERIES[:, :4], ALL[:, :4], CONTEXT[:, :4]
    smoothed = SMOOTH(params, SERIES, HEAD, CONTEXT)
    assert_close(first(smoothed, 4), SMOOTH(params, *short))
    assert_close(smoothed.fast.mean[:, 4:], smoothed.fast_prior.mean[:, 4:])


def test_forecasts_are_what_the_filter_expects_of_steps_without_observations(params):
    _, whole = FILTER(params, SERIES, HEAD, CONTEXT)
    state, _ = FILTER(params, SERIES[:, :4], ALL[:, :4], CONTEXT[:, :4])
    ahead = MODEL.apply(params, state, 2, CONTEXT[:, 4:], method="forecast")
    assert_close(ahead, jax.tree.map(lambda x: x[:, 4:], whole.predicted))


def test_where_nothing_is_observed_the_posterior_is_the_prior(params):
    _, step = FILTER(params, SERIES, MASK, CONTEXT)
    at_gap = jax.tree.map(lambda x: x[:, 2], step)
    posterior, prior = (
        (at_gap.fast, at_gap.slow),
        (at_gap.fast_prior, at_gap.slow_prior),
    )
    jax.tree.map(np.testing.assert_array_equal, posterior, prior)
    assert np.abs(step.fast.mean - step.fast_prior.mean)[:, 0].min() > 0.0
    elbo = ELBO(params, SERIES, KEY, MASK, CONTEXT)
    for term in (elbo.fast_kl, elbo.slow_kl, elbo.log_likelihood):
        np.testing.assert_array_equal(term[:, 2], 0.0)
    np.testing.assert_array_equal(elbo.num_observed, MASK.sum(axis=-1))


@pytest.mark.parametrize("core", state_space.CORES)
def test_step_by_step_and_one_by_one_equal_the_whole(core, random_params):
    """A series is as many calls that hand on the state; a batch is as many series."""
    model = state_space.StateSpace(P, C, **SIZES, core=core)
    params = random_params(model, SERIES, MASK, CONTEXT)
    run = compiled(model, "filter")
    end, whole = run(params, SERIES, MASK, CONTEXT)
    state = model.initial_state((B,))
    for t in range(T):
        part = [a[:, t : t + 1] for a in (SERIES, MASK, CONTEXT)]
        state, step = run(params, *part, state=state)
        assert_close(step, jax.tree.map(lambda x, t=t: x[:, t : t + 1], whole))
    assert_close(state, end)
    # One that has not started is the first, whatever it held.
    again = state._replace(started=np.zeros(B, bool))
    part = [a[:, :1] for a in (SERIES, MASK, CONTEXT)]
    assert_close(run(params, *part, state=again)[1], first(whole, 1))
    alone = jax.jit(jax.vmap(lambda *args: model.apply(params, *args, method="filter")))
    assert_close(alone(SERIES, MASK, CONTEXT), (end, whole))


def test_the_filter_knows_no_future_and_the_smoother_does(params):
    other = SERIES.copy()
    other[:, 4:] += 1.0
    filtered = [FILTER(params, x, ALL, CONTEXT)[1] for x in (SERIES, other)]
    assert_close(*(first(step, 4) for step in filtered), atol=0.0)
    # Nor does what is expected know the observation itself.
    np.testing.assert_array_equal(*(s.predicted.mean[:, 4] for s in filtered))
    smoothed = [SMOOTH(params, x, ALL, CONTEXT).fast.mean for x in (SERIES, other)]
    assert (np.abs(smoothed[1] - smoothed[0])[:, :4].max(axis=-1) > 1e-4).all()


NUM_PATHS = 4000


@pytest.fixture(scope="module")
def paths(params):
    """Many paths of the latents of one series, and of one that nobody observes."""
    copy = [np.broadcast_to(a[1], (NUM_PATHS, *a[1].shape)) for a in (SERIES, CONTEXT)]
    none, every = (np.full(copy[0].shape, seen) for seen in (False, True))
    return {
        "series": copy[0],
        "free": SAMPLE(params, copy[0], none, copy[1], KEY),
        "seen": SAMPLE(params, copy[0], every, copy[1], KEY)[1],
        "elbo": ELBO(params, copy[0], KEY, every, copy[1]),
    }


def test_the_terms_match_monte_carlo(params, paths):
    """Over z1, of the densities as they are defined; each path has its own z2."""
    step, elbo = paths["seen"], paths["elbo"]
    fast = np.random.default_rng(0).normal(*step.fast)
    ratio = stats.norm.logpdf(fast, *step.fast)
    ratio -= stats.norm.logpdf(fast, *step.fast_prior)
    emission = params["params"]["cell"]["emission"]
    mean = step.signal.mean + (fast - step.fast.mean) @ emission["fast"]
    noise = np.sqrt(np.exp(2.0 * emission["log_noise"]) + 1e-6)
    likelihood = stats.norm.logpdf(paths["series"], mean, noise)
    pairs = [(ratio, elbo.fast_kl), (likelihood, elbo.log_likelihood)]
    for sampled, closed in pairs:
        gap = sampled.sum(axis=-1) - closed
        assert (np.abs(gap.mean(axis=0)) < 4.5 * gap.std(axis=0) / 4000**0.5).all()


def test_the_slow_latent_rests_at_unit_variance_and_forgets_slowly(paths):
    end, step = paths["free"]
    assert np.std(end.slow, axis=0) == pytest.approx(np.ones(2), abs=0.06)
    fresh = step.slow_prior.std[:, 1:] ** 2
    assert (fresh < 1.0 - np.exp(-2.0 / MODEL.min_timescale)).all()
    np.testing.assert_array_equal(step.slow_prior.std[:, 0], 1.0)


def test_free_nats_cost_nothing_and_pass_no_gradient(paths):
    elbo = paths["elbo"]
    free = float(max(elbo.fast_kl.max(), elbo.slow_kl.max())) + 1.0
    silent = elbo._replace(fast_kl=0.0 * elbo.fast_kl, slow_kl=0.0 * elbo.slow_kl)
    expected = float(silent.loss())
    assert float(elbo.loss(free_nats=free)) == pytest.approx(expected)
    assert float(elbo.loss(beta=0.0)) == pytest.approx(expected)
    bound = -float(elbo.total().mean()) / (T * P)
    assert float(elbo.loss()) == pytest.approx(bound, rel=1e-4)
    slope = jax.grad(lambda kl: elbo._replace(fast_kl=kl).loss(free))(elbo.fast_kl)
    np.testing.assert_array_equal(slope, 0.0)


def exact_likelihood(prior, correlation, loading, noise_variance, series):
    """Of one slow latent that is seen with this loading, in nats, ``[B]``."""
    if prior == "standard_normal":
        std = np.sqrt(loading**2 + noise_variance)
        return stats.norm.logpdf(series, 0.0, std).sum(axis=(1, 2))
    model = gauss_markov.noisy(correlation, loading**2, noise_variance)
    known = jax.jit(jax.vmap(lambda y: kalman.filter(model, y).log_likelihood.sum()))
    return np.asarray(known(series))


@pytest.mark.parametrize("prior", state_space.PRIORS)
def test_the_bound_lies_below_the_exact_likelihood_of_the_model(prior, random_params):
    """Where z1 is not seen, the model is a Gauss-Markov process in noise, or white."""
    sizes = SIZES | {"slow_dim": 1, "smoother": True, "min_timescale": 1.0}
    model = state_space.StateSpace(1, prior=prior, **sizes)
    series = 1.5 * SERIES[..., :1]
    params = random_params(model, series, gain=0.3)
    cell = params["params"]["cell"]
    emission = cell["emission"]
    emission["fast"][:], emission["bias"][:], emission["slow"][:] = 0.0, 0.0, 0.9
    noise_variance = np.exp(2.0 * emission["log_noise"][0]) + 1e-6
    correlation = 0.0
    if prior == "learned":
        correlation = np.exp(-1.0 / (1.0 + np.exp(cell["timescale"][0])))
    exact = exact_likelihood(prior, correlation, 0.9, noise_variance, series)

    copies = np.broadcast_to(series, (1000, *series.shape))

    @jax.jit
    def bounds():
        run = functools.partial(model.apply, params, copies, KEY, method="elbo")
        return [run(smooth=smooth) for smooth in (False, True)]

    for elbo in bounds():
        total = np.asarray(elbo.total())
        error = 4.0 * total.std(axis=0) / np.sqrt(len(total))
        assert (total.mean(axis=0) < exact + error).all()
        assert (total.mean(axis=0) > exact - 20.0).all()


def test_the_literal_prior_expects_nothing_of_the_future(random_params):
    model = state_space.StateSpace(P, **SIZES, prior="standard_normal")
    params = random_params(model, SERIES)
    _, step = compiled(model, "filter")(params, SERIES)
    for prior in (step.fast_prior, step.slow_prior):
        assert (prior.mean == 0.0).all() and (prior.std == 1.0).all()
    assert (step.predicted.mean == step.predicted.mean[0, 0]).all()


CORRELATION, NOISE, LENGTH = 0.9, 1.0 / 3.0, 24


def draw(key, num):
    """Axes of Gauss-Markov gains, and what is seen of them, at unit variance."""
    gain_key, noise_key = jax.random.split(key)
    channel = doppler.GaussMarkov(CORRELATION)
    keys = jax.random.split(gain_key, num)
    gains = jax.vmap(lambda k: channel.generate(k, (LENGTH, 1)))(keys)
    states = np.sqrt(2.0 * (1.0 - NOISE)) * gains.real
    noise = np.sqrt(NOISE) * jax.random.normal(noise_key, states.shape)
    return states, states + noise


def train(model, key, num_steps, batch_size):
    """Parameters after some steps of Adam on fresh series."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))

    def step(carry, key):
        params, state = carry
        series_key, path_key = jax.random.split(key)
        _, series = draw(series_key, batch_size)

        def loss(params):
            return model.apply(params, series, path_key, method="elbo").loss()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(key):
        params = model.init(key, jnp.zeros((1, LENGTH, 1)))
        start = params, optimizer.init(params)
        return jax.lax.scan(step, start, jax.random.split(key, num_steps))[0][0]

    return run(key)


@pytest.mark.slow
def test_a_short_training_closes_most_of_the_gap_to_kalman(key):
    """And gets near the best filter, where the noise of the observations is known."""
    sizes = {"fast_dim": 4, "slow_dim": 2, "hidden_dim": 16}
    known = state_space.StateSpace(1, **sizes, observation_std=float(np.sqrt(NOISE)))
    params = train(known, key, num_steps=250, batch_size=48)
    exact = gauss_markov.noisy(CORRELATION, 1.0 - NOISE, NOISE)

    @jax.jit
    def compare(key):
        states, series = draw(key, 400)
        best = jax.vmap(lambda y: kalman.filter(exact, y))(series)
        bound = known.apply(params, series, key, method="elbo").total()
        _, step = known.apply(params, series, method="filter")
        likelihoods = best.log_likelihood.sum(axis=1), bound
        forecasts = best.predicted_mean, step.predicted.mean
        filtered = best.mean, step.signal.mean

        def errors(estimates, truth):
            late = [(e - truth)[:, LENGTH // 4 :] for e in estimates]
            return [jnp.mean(e**2) for e in late]

        return series, likelihoods, errors(forecasts, series), errors(filtered, states)

    series, (exact_nats, bound), forecast, filtered = compare(jax.random.key(9))
    gap = np.asarray(exact_nats - bound)
    white = stats.norm.logpdf(series).sum(axis=(1, 2))
    error = 4.0 * gap.std() / np.sqrt(len(gap))
    assert -error < gap.mean() < 0.2 * np.mean(exact_nats - white)
    assert forecast[1] < 1.1 * forecast[0]
    assert filtered[1] < 1.2 * filtered[0] < 0.7 * NOISE


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"prior": "flat"}, "prior"),
        ({"core": "both"}, "core"),
        ({"fast_dim": 0}, "fast_dim"),
        ({"min_timescale": 0.0}, "min_timescale"),
        ({"observation_std": -1.0}, "observation_std"),
    ],
)
def test_a_senseless_setting_is_refused(settings, named):
    model = state_space.StateSpace(P, **settings)
    with pytest.raises(ValueError, match=named):
        jax.eval_shape(model.init, jax.random.key(0), SERIES)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((SERIES[..., :1],), "observations"),
        ((SERIES[0, 0],), "observations"),
        ((SERIES, MASK[:, :3]), "mask"),
        ((SERIES, MASK, CONTEXT[..., :2]), "context"),
        ((SERIES[:2],), "state"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(args, named, params):
    state = MODEL.initial_state((B,)) if named == "state" else None
    with pytest.raises(ValueError, match=named):
        MODEL.apply(params, *args, state=state, method="filter")


def test_smoothing_without_a_smoother_is_refused():
    model = state_space.StateSpace(P, **SIZES)
    with pytest.raises(ValueError, match="smoother=True"):
        model.apply({}, SERIES, method="smooth")
