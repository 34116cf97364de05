"""What is measured of M3LLM's routers, and of reference policies beside them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.envs.expert_routing import radio
from m3jax.evals import axes
from m3jax.systems.m3llm import answers, playing, routing_env
from m3jax.systems.m3llm import world as world_lib

METRICS = (
    *("task_accuracy", "llm_quality", "alignment", "diversity"),
    *("channel_quality", "snr_quality", "stability", "reward"),
)
"""In the order of the tables; see `describe`."""
SHOWN = ("reward", "llm_quality", "channel_quality", "stability")
DEFAULT_SNRS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
NUM_ENVS = 16
"""Episodes of each point of a grid."""
_MOST_ANSWERS = 800
_EVALUATION = 3_000_000

Play = Callable[[routing_env.Params, base.Array], playing.Played]
"""Plays the episodes of a key with one policy."""


def describe(
    told: playing.Played, made: world_lib.World, most_answers: int | None = None
) -> dict[str, float]:
    """Metrics of what a policy did, as section IV-A names them.

    - ``task_accuracy``: the experts' tokens cross the links, the task model answers;
      not in a world of drawn features.
    - ``llm_quality``: R_LLM; ``alignment``: the mean of R_1 and R_2.
    - ``diversity``: entropy of how much each expert is used over all, of its largest.
    - ``channel_quality``: R_channel; ``snr_quality``: Q, clipped to [0, 1].
    - ``stability``: S (1 - switching).
    - ``reward``: the combined one.

    Args:
      told: what happened.
      made: the world, whose test examples were asked.
      most_answers: situations that are answered, evenly spread; None for all.
    """
    info = {k: np.asarray(v, np.float64) for k, v in told.info.items()}
    weights = np.asarray(told.weights, np.float64)
    used = weights.reshape(-1, weights.shape[-1]).mean(axis=0)
    used = used / used.sum()
    entropy = -np.sum(used * np.log(np.maximum(used, 1e-12))) / np.log(len(used))
    values = {
        "llm_quality": float(info["semantic"].mean()),
        "alignment": float((info["activation"] + info["suppression"]).mean() / 2),
        "diversity": float(entropy),
        "channel_quality": float(info["channel"].mean()),
        "snr_quality": float(np.clip(info["quality"], 0, 1).mean()),
        "stability": float((info["stability"] * (1 - info["switching"])).mean()),
        "switching": float(info["switching"].mean()),
        "reward": float(np.asarray(told.reward, np.float64).mean()),
    }
    if made.pool is None:
        return values
    flat = [
        np.asarray(a).reshape(-1, *a.shape[2:])
        for a in (told.task, told.example, told.weights, told.snr_db)
    ]
    step = -(-len(flat[0]) // (most_answers or len(flat[0])))
    right = answers.answer_rows(made.pool, made.test_said, *(a[::step] for a in flat))
    return {"task_accuracy": float(right.mean()), **values}


def over_snr(
    system: str,
    made: world_lib.World,
    env: routing_env.RoutingEnv,
    params: routing_env.Params,
    act: playing.Act,
    actor: base.Params,
    grid: base.Grid,
    tell: base.Tell,
) -> list[base.Record]:
    """A router over SNRs of its links' budgets, beside what does not learn.

    The SNR is that at the mean distance, averaged over fading and without shadowing:
    the transmit power is what makes it so. All policies meet the same links, tasks and
    examples at a seed, whatever the SNR.

    Args:
      system: its name.
      made: the world.
      env: the environment as the router sees it.
      params: of that, with the test's bank.
      act: the router's policy.
      actor: its parameters.
      grid: SNRs, seeds; ``num_examples`` are the situations answered at each point.
      tell: takes the share of the work that is done.

    Returns:
      Rows of `METRICS` at each ``snr_db``.

    Raises:
      ValueError: an SNR is infinite.
    """
    snrs_db = grid.snrs_db or DEFAULT_SNRS_DB
    if not np.isfinite(snrs_db).all():
        raise ValueError(
            f"the links of {system} have a power each, so an SNR of inf has no"
            " meaning; leave inf out of --snr_db"
        )
    player = playing.make_player(env, act, NUM_ENVS, made.config.num_steps)
    plain = routing_env.RoutingEnv(env.inner)
    reference = playing.make_player(
        plain, playing.reference(plain), NUM_ENVS, made.config.num_steps
    )
    policies: dict[str, Play] = {grid.variant: lambda p, key: player(actor, p, key)}
    for number, name in enumerate(playing.REFERENCES):
        policies[name] = lambda p, key, n=number: reference(
            n, p._replace(filter=None), key
        )
    rows, total = [], len(policies) * len(snrs_db) * grid.num_seeds
    root = jax.random.fold_in(jax.random.key(0), _EVALUATION)
    for snr_db in snrs_db:
        budget = _with_budget(params, snr_db)
        for seed in range(grid.num_seeds):
            key = jax.random.fold_in(root, seed)
            for name, play in policies.items():
                told = jax.device_get(play(budget, key))
                most = grid.num_examples or _MOST_ANSWERS
                found = describe(told, made, most)
                rows += [
                    base.Record(
                        *(system, name, axes.at(snr_db=snr_db), seed),
                        *(metric, found[metric], "1"),
                    )
                    for metric in METRICS
                    if metric in found
                ]
                tell(len(rows) / (total * len(METRICS)))
    tell(1.0)
    return rows


def mean_reward(
    env: routing_env.RoutingEnv, act: playing.Act, num_steps: int
) -> Callable[[Any, routing_env.Params], float]:
    """Measures a policy without noise in the same few episodes each time."""
    player = playing.make_player(env, act, NUM_ENVS // 2, num_steps)

    def measure(actor: base.Params, params: routing_env.Params) -> float:
        key = jax.random.fold_in(jax.random.key(0), _EVALUATION)
        return float(player(actor, params, key).reward.mean())

    return measure


def _with_budget(params: routing_env.Params, snr_db: float) -> routing_env.Params:
    links = radio.with_budget(params.wireless.radio, jnp.float32(snr_db))
    return params._replace(wireless=params.wireless._replace(radio=links))
