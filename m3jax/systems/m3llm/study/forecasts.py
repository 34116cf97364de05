"""How well ASEM forecasts links, beside simple forecasts and the Kalman filter."""

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.nn import state_space
from m3jax.ops import forecasting, gauss_markov, kalman
from m3jax.systems.m3llm import asem
from m3jax.systems.m3llm import world as world_lib
from m3jax.systems.m3llm.study import training, variants

LINEAR, BURSTY = "linear", "bursty"
NUM_LINKS = 7
CORRELATION = 0.9
NOISE = 0.3
_TEST = 10_000


def linear(settings: variants.Settings, seed: int) -> list[base.Record]:
    """One-step errors where the Kalman filter is optimal: Gauss-Markov in noise.

    Args:
      settings: of the study.
      seed: of series and training.

    Returns:
      Rows of ``forecast_error``, a mean square error, of each way to forecast at
      ``links`` LINEAR.
    """
    model = gauss_markov.noisy(CORRELATION, 1.0, NOISE**2)
    config = settings.world
    shape = config.asem_series, config.asem_length, NUM_LINKS
    train, test = (_noisy_series(seed, at, shape) for at in (0, 1))
    spaces = state_space.StateSpace(
        NUM_LINKS,
        fast_dim=config.asem.fast_dim,
        slow_dim=config.asem.slow_dim,
        hidden_dim=config.asem.hidden_dim,
        observation_std=NOISE,
    )
    mask = jnp.ones(shape, bool)
    trained = world_lib.fit_asem(config, spaces, train, mask, seed)
    by_link = jnp.moveaxis(test, 2, 1).reshape(-1, shape[1], 1)
    exact = jax.jit(jax.vmap(lambda y: kalman.filter(model, y).predicted_mean))(by_link)
    exact = jnp.moveaxis(exact.reshape(shape[0], NUM_LINKS, shape[1]), 1, 2)
    found = {
        **_simple(train, mask, test, mask),
        "ASEM": _asem(spaces, trained, test, mask),
        "Kalman": exact,
    }
    return _errors(LINEAR, seed, found, test, mask)


def bursty(programs: training.Programs, seed: int) -> list[base.Record]:
    """One-step errors on the reports of links with fading and bursts.

    Args:
      programs: of the study.
      seed: of series and training.

    Returns:
      Rows as those of `linear`, at ``links`` BURSTY.
    """
    made = programs.world(programs.settings.world.copies)
    env, filtered = world_lib.make_env(made, True, True, seed)
    train, test = (
        world_lib.simulate(made.config, made.params, at) for at in (seed, _TEST + seed)
    )
    series = [(r.snr - filtered.mean) / filtered.std for r in (train, test)]
    found = {
        **_simple(series[0], train.mask, series[1], test.mask),
        "ASEM": _asem(env.asem, filtered.params, series[1], test.mask),
    }
    return _errors(BURSTY, seed, found, series[1], test.mask)


def _noisy_series(seed: int, at: int, shape: tuple[int, ...]) -> base.Array:
    """Gauss-Markov processes of unit variance, seen through noise, ``[B, T, P]``."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), at), 3)
    num, length, links = shape
    r = CORRELATION

    def move(x, w):
        return r * x + jnp.sqrt(1 - r**2) * w, x

    start = jax.random.normal(keys[0], (num, links))
    pushes = jax.random.normal(keys[1], (length, num, links))
    hidden = jnp.moveaxis(jax.lax.scan(move, start, pushes)[1], 0, 1)
    return hidden + NOISE * jax.random.normal(keys[2], hidden.shape)


def _simple(train, train_mask, test, test_mask) -> dict[str, base.Array]:
    """Forecasts of each step by those before, ``[B, T, P]``; 0 for the first."""
    first = [jnp.moveaxis(x, 1, 0) for x in (train, train_mask, test, test_mask)]
    weight = forecasting.fit_moving_average(first[0], first[1])
    fitted = forecasting.fit_autoregression(first[0], first[1])
    made = {
        "last value": forecasting.last_value(first[2], 1, first[3]),
        "EWMA": forecasting.moving_average(first[2], 1, weight, first[3]),
        "AR(1)": forecasting.autoregression(fitted, first[2], 1, first[3]).mean,
    }

    def shift(forecast):
        ahead = forecast[:-1, 0]
        return jnp.moveaxis(jnp.concatenate([jnp.zeros_like(ahead[:1]), ahead]), 0, 1)

    return {name: shift(forecast) for name, forecast in made.items()}


def _asem(model, params, series, mask) -> base.Array:
    predict = jax.jit(asem.make_system(asem.Config(), model).predict["forecast"])
    batch = {"series": series, "mask": mask}
    return predict(params, batch, jax.random.key(0))["mean"]


def _errors(links: str, seed, found, truth, mask) -> list[base.Record]:
    """Mean square errors of observed steps, but for those in which one warms up."""
    warm = max(truth.shape[1] // 4, 1)
    valid = np.asarray(mask)[:, warm:]
    rows = []
    for name, forecast in found.items():
        errors = np.asarray(forecast - truth, np.float64)[:, warm:]
        value = {"forecast_error": float((errors**2)[valid].mean())}
        rows += variants.rows(name, seed, value, links=links)
    return rows
