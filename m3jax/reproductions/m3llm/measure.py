"""What is measured of M3LLM's routers, of reference policies, and of ASEM."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base, routing
from m3jax.envs import world
from m3jax.nn import state_space
from m3jax.ops import forecasting, gauss_markov, kalman
from m3jax.reproductions.m3llm import training, variants
from m3jax.routing import answers
from m3jax.routing import world as world_lib
from m3jax.systems.m3llm import asem, playing, routing_env

SYSTEM = "m3llm"
EXPERT = "expert: "
RECOVERY = 0.95
SURVIVOR = "best_survivor_accuracy"
_TEST, _BURST, _FAILURE = 2_000_000, 2_000_001, 2_000_002
_LINEAR_NOISE = 0.3
_CORRELATION = 0.9


def router(
    settings: variants.Settings,
    name: str,
    seed: int,
    trained: training.Trained,
    made: routing.World,
) -> tuple[list[base.Record], dict[str, np.ndarray]]:
    """All metrics of a trained router, and its rewards through burst and failure."""
    env, params = trained.env, trained.params
    players = _players(settings, env, {name: trained.act})
    about = players, trained.actor
    played = _play(about, params, seed, _TEST)[name]
    rows = _rows(name, seed, describe(played, made))
    curves = trained.curves
    rows += _rows(
        name,
        seed,
        {
            "env_steps_to_95_percent": steps_to(
                RECOVERY, curves["env_steps"], curves["reward"]
            ),
            "final_look": curves["reward"][-1],
        },
    )
    if curves["gradient_cosine"]:
        cosine = float(np.mean(curves["gradient_cosine"]))
        rows += _rows(name, seed, {"gradient_cosine": cosine})
    burst = _burst(settings, about, params, seed)[name]
    rows += _rows(name, seed, {"recovery_steps": recovery(settings, burst)})
    rows += _failure(settings, about, params, seed, made)
    return rows, {"burst": burst}


def references(
    settings: variants.Settings, seed: int, made: routing.World
) -> tuple[list[base.Record], dict[str, np.ndarray]]:
    """The same metrics of the policies that do not learn."""
    env, _ = routing.make_env(settings.world, False, True, seed)
    params = routing_env.Params(made.params, made.test_bank)
    about = _players(settings, env, playing.reference(env)), ()
    rows, arrays = [], {}
    played = _play(about, params, seed, _TEST)
    for name, told in played.items():
        rows += _rows(name, seed, describe(told, made))
    for name, burst in _burst(settings, about, params, seed).items():
        arrays[name] = burst
        rows += _rows(name, seed, {"recovery_steps": recovery(settings, burst)})
    rows += _failure(settings, about, params, seed, made)
    told = played[variants.ORACLE]
    local = made.local[told.task].mean()
    rows += _rows(variants.LOCAL, seed, {"task_accuracy": float(local)})
    rows += _rows(variants.CENTRAL, seed, {"task_accuracy": _central(told, made)})
    if seed == 0:  # experts are what they are at every seed
        rows += experts(made)
    return rows, arrays


def experts(made: routing.World) -> list[base.Record]:
    """Accuracy of each expert, and of the small generalist, on each task's test.

    Over a link without noise; the metric is ``accuracy/TASK``.
    """
    names = made.pool.config.experts
    clean = answers.measure_experts(made.pool, made.test_said, (np.inf,))[..., 0]
    columns = {f"{EXPERT}{name}": clean[:, i] for i, name in enumerate(names)}
    columns[f"{EXPERT}all seven"] = made.local
    return [
        row
        for variant, found in columns.items()
        for task, value in zip(names, found, strict=True)
        for row in _rows(variant, 0, {f"accuracy/{task}": float(value)})
    ]


def describe(told: playing.Played, made: routing.World) -> dict[str, float]:
    """Metrics of what a policy did, as section IV-A names them.

    - ``task_accuracy``: the experts' tokens cross the links, the task model answers.
    - ``llm_quality``: R_LLM; ``alignment``: the mean of R_1 and R_2.
    - ``diversity``: entropy of how much each expert is used over all, of its largest.
    - ``channel_quality``: R_channel; ``snr_quality``: Q, clipped to [0, 1].
    - ``stability``: S (1 - switching).
    - ``reward``: the combined one.
    """
    info = {k: np.asarray(v, np.float64) for k, v in told.info.items()}
    weights = np.asarray(told.weights, np.float64)
    used = weights.reshape(-1, weights.shape[-1]).mean(axis=0)
    used = used / used.sum()
    entropy = -np.sum(used * np.log(np.maximum(used, 1e-12))) / np.log(len(used))
    flat = [
        a.reshape(-1, *a.shape[2:])
        for a in (told.task, told.example, told.weights, told.snr_db)
    ]
    right = answers.answer_rows(made.pool, made.test_said, *flat)
    return {
        "task_accuracy": float(right.mean()),
        "llm_quality": float(info["semantic"].mean()),
        "alignment": float((info["activation"] + info["suppression"]).mean() / 2),
        "diversity": float(entropy),
        "channel_quality": float(info["channel"].mean()),
        "snr_quality": float(np.clip(info["quality"], 0, 1).mean()),
        "stability": float((info["stability"] * (1 - info["switching"])).mean()),
        "switching": float(info["switching"].mean()),
        "reward": float(np.asarray(told.reward, np.float64).mean()),
    }


def recovery(settings: variants.Settings, rewards: np.ndarray) -> float:
    """Steps after a burst until the reward is at 95 % of that before it."""
    before = rewards[: settings.burst_from].mean()
    after = rewards[settings.burst_until :]
    reached = np.flatnonzero(after >= RECOVERY * before)
    return float(reached[0] if len(reached) else len(after))


def steps_to(share: float, steps: list[float], values: list[float]) -> float:
    """Where a curve first has risen by a share of its rise to its last three values.

    Example:
      >>> steps_to(0.5, [0, 10, 20, 30, 40], [1.0, 1.0, 3.0, 3.0, 3.0])
      15.0
    """
    goal = values[0] + share * (np.mean(values[-3:]) - values[0])
    at = int(np.argmax(np.asarray(values) >= goal))
    if at == 0:
        return float(steps[0])
    return float(np.interp(goal, values[at - 1 : at + 1], steps[at - 1 : at + 1]))


def forecasts_linear(settings: variants.Settings, seed: int) -> list[base.Record]:
    """One-step errors where the Kalman filter is optimal: Gauss-Markov in noise."""
    model = gauss_markov.noisy(_CORRELATION, 1.0, _LINEAR_NOISE**2)
    num_links, length = 7, settings.world.asem_length
    shape = settings.world.asem_series, length, num_links
    train, test = (_noisy_series(seed, at, shape) for at in (0, 1))
    spaces = state_space.StateSpace(
        num_links,
        fast_dim=settings.world.asem.fast_dim,
        slow_dim=settings.world.asem.slow_dim,
        hidden_dim=settings.world.asem.hidden_dim,
        observation_std=_LINEAR_NOISE,
    )
    mask = jnp.ones(shape, bool)
    trained = world_lib.fit_asem(settings.world, spaces, train, mask, seed)
    by_link = jnp.moveaxis(test, 2, 1).reshape(-1, length, 1)
    exact = jax.jit(jax.vmap(lambda y: kalman.filter(model, y).predicted_mean))(by_link)
    exact = jnp.moveaxis(exact.reshape(shape[0], num_links, length), 1, 2)
    found = {
        **_simple_forecasts(train, mask, test, mask),
        "ASEM": _asem_forecast(spaces, trained, test, mask),
        "Kalman": exact,
    }
    return _errors(variants.LINEAR, seed, found, test, mask)


def forecasts_bursty(settings: variants.Settings, seed: int) -> list[base.Record]:
    """One-step errors on the reports of links with fading and bursts."""
    made = routing.make_world(settings.world)
    env, filtered = routing.make_env(settings.world, True, True, seed)
    train, test = (
        world_lib.simulate(settings.world, made.params, at)
        for at in (seed, 10_000 + seed)
    )
    series = [(r.snr - filtered.mean) / filtered.std for r in (train, test)]
    found = {
        **_simple_forecasts(series[0], train.mask, series[1], test.mask),
        "ASEM": _asem_forecast(env.asem, filtered.params, series[1], test.mask),
    }
    return _errors(variants.BURSTY, seed, found, series[1], test.mask)


def _noisy_series(seed: int, at: int, shape: tuple[int, ...]) -> base.Array:
    """Gauss-Markov processes of unit variance, seen through noise, ``[B, T, P]``."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), at), 3)
    num, length, links = shape
    r = _CORRELATION

    def move(x, w):
        return r * x + jnp.sqrt(1 - r**2) * w, x

    start = jax.random.normal(keys[0], (num, links))
    pushes = jax.random.normal(keys[1], (length, num, links))
    hidden = jnp.moveaxis(jax.lax.scan(move, start, pushes)[1], 0, 1)
    return hidden + _LINEAR_NOISE * jax.random.normal(keys[2], hidden.shape)


def _simple_forecasts(train, train_mask, test, test_mask) -> dict[str, base.Array]:
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


def _asem_forecast(model, params, series, mask) -> base.Array:
    predict = jax.jit(asem.make_system(asem.Config(), model).predict["forecast"])
    batch = {"series": series, "mask": mask}
    return predict(params, batch, jax.random.key(0))["mean"]


def _errors(variant, seed, found, truth, mask) -> list[base.Record]:
    """Mean square errors of observed steps, but for those in which one warms up."""
    warm = max(truth.shape[1] // 4, 1)
    valid = np.asarray(mask)[:, warm:]
    rows = []
    for name, forecast in found.items():
        error = np.asarray(forecast - truth, np.float64)[:, warm:]
        value = float((error**2)[valid].mean())
        rows += _rows(variant, seed, {f"forecast_error/{name}": value})
    return rows


_made: dict[str, playing.Player] = {}


def _players(
    settings: variants.Settings, env: routing_env.RoutingEnv, acts: dict
) -> dict[str, playing.Player]:
    """Players of the test's episodes, compiled once for all seeds."""
    players = {}
    for name, act in acts.items():
        key = repr((settings, name))
        if key not in _made:
            sizes = settings.test_envs, settings.world.num_steps
            _made[key] = playing.make_player(env, act, *sizes)
        players[name] = _made[key]
    return players


def _play(
    about: tuple[Mapping[str, playing.Player], Any],
    params: routing_env.Params,
    seed: int,
    at: int,
) -> dict[str, playing.Played]:
    """Plays episodes that are the same for all variants of a seed."""
    players, actor = about
    key = jax.random.fold_in(jax.random.key(seed), at)
    return {
        name: jax.tree.map(np.asarray, play(actor, params, key))
        for name, play in players.items()
    }


def _with(params: routing_env.Params, **events: Any) -> routing_env.Params:
    quiet: world.Params = variants.with_events(params.wireless, **events)
    return params._replace(wireless=quiet)


def _burst(settings, about, params, seed) -> dict[str, np.ndarray]:
    """Mean reward of each step through one burst that hits every link."""
    params = _with(
        params,
        burst_at=settings.burst_from,
        burst_until=settings.burst_until,
        burst_share=1.0,
    )
    played = _play(about, params, seed, _BURST)
    return {name: told.reward.mean(axis=0) for name, told in played.items()}


def _failure(settings, about, params, seed, made) -> list[base.Record]:
    """Accuracy on a task after its own expert has failed, and that of who is left.

    Every task's expert fails in turn; what counts are the steps of that task.
    """
    right, best = {name: [] for name in about[0]}, []
    competence = np.asarray(made.calibration.competence)
    for expert in range(competence.shape[1]):
        broken = _with(
            params,
            failing_expert=expert,
            fails_at=settings.failure_at,
        )
        for name, told in _play(about, broken, seed, _FAILURE).items():
            late = told.task[:, settings.failure_at :] == expert
            rows = [
                a[:, settings.failure_at :][late]
                for a in (told.task, told.example, told.weights, told.snr_db)
            ]
            right[name].append(answers.answer_rows(made.pool, made.test_said, *rows))
        best.append(_best_survivor(rows, expert, competence, made))
    survivor = float(np.concatenate(best).mean())
    return [
        row
        for name, found in right.items()
        for row in _rows(
            name,
            seed,
            {
                "accuracy_after_failure": float(np.concatenate(found).mean()),
                SURVIVOR: survivor,
            },
        )
    ]


def _best_survivor(rows, expert, competence, made) -> np.ndarray:
    """What the most competent expert that is left gets right, in the same steps."""
    task, example, weights, snr_db = rows
    left = competence[expert].copy()
    left[expert] = -1.0
    alone = np.zeros_like(weights)
    alone[:, int(np.argmax(left))] = 1.0
    return answers.answer_rows(made.pool, made.test_said, task, example, alone, snr_db)


def _central(told: playing.Played, made: routing.World) -> float:
    """All experts in one place behind one link, the task's own asked: its accuracy.

    The link is the first expert's; as many channel uses as for one expert.
    """
    task, example, snr_db = (
        a.reshape(-1, *a.shape[2:]) for a in (told.task, told.example, told.snr_db)
    )
    weights = np.eye(snr_db.shape[1], dtype=np.float32)[task]
    shared = np.broadcast_to(snr_db[:, :1], snr_db.shape)
    right = answers.answer_rows(
        *(made.pool, made.test_said, task, example, weights, shared)
    )
    return float(right.mean())


def _rows(variant: str, seed: int, values: Mapping[str, float]) -> list[base.Record]:
    units = {"recovery_steps": "step", "env_steps_to_95_percent": "step"}
    return [
        base.Record(SYSTEM, variant, None, seed, metric, value, units.get(metric, "1"))
        for metric, value in values.items()
    ]
