"""What is measured of M3LLM's routers and of reference policies."""

from collections.abc import Callable

import jax
import numpy as np

from m3jax import base
from m3jax.evals import curves
from m3jax.systems.m3llm import answers, evaluation, playing, routing_env
from m3jax.systems.m3llm import world as world_lib
from m3jax.systems.m3llm.study import training, variants

EXPERT = "expert: "
RECOVERY = 0.95
SURVIVOR = "best_survivor_accuracy"
_TEST, _BURST, _FAILURE = 2_000_000, 2_000_001, 2_000_002

_Play = Callable[[routing_env.Params, base.Array], playing.Played]
"""Plays the episodes of a key with one policy."""


def router(
    settings: variants.Settings,
    name: str,
    seed: int,
    trained: training.Trained,
    made: world_lib.World,
) -> tuple[list[base.Record], dict[str, np.ndarray]]:
    """All metrics of a trained router, and its rewards through a burst."""
    params = trained.params

    def play(params, key):
        return jax.tree.map(np.asarray, trained.play(trained.actor, params, key))

    looks = trained.curves
    burst = _burst(settings, play, params, seed)
    values = {
        **evaluation.describe(play(params, _key(seed, _TEST)), made),
        **_through_burst(settings, burst),
        **_failure(settings, play, params, seed, made),
        "convergence_steps": steps_to(RECOVERY, looks["env_steps"], looks["reward"]),
        "final_look": looks["reward"][-1],
    }
    if looks["gradient_cosine"]:
        values["gradient_cosine"] = float(np.mean(looks["gradient_cosine"]))
    variant = name.removesuffix(variants.ALONE)
    copies = settings.world_of(variants.VARIANTS[name]).copies
    return variants.rows(variant, seed, values, copies=copies), {"burst": burst}


def references(
    programs: training.Programs, config: world_lib.WorldConfig, seed: int
) -> tuple[list[base.Record], dict[str, np.ndarray]]:
    """Metrics of the policies that do not learn.

    Args:
      programs: of the study.
      config: of the world.
      seed: of episodes.

    Returns:
      Records, and rewards through a burst by name.
    """
    settings, made = programs.settings, programs.world(config.copies)
    env, _ = world_lib.make_env(made, False, True, seed)
    params = routing_env.Params(made.params, made.test_bank)
    player = programs.player(env, None, settings.test_envs, settings.world.num_steps)
    rows, arrays, played = [], {}, None
    for number, name in enumerate(playing.REFERENCES):

        def play(params, key, number=number):
            return jax.tree.map(np.asarray, player(number, params, key))

        played = play(params, _key(seed, _TEST))
        arrays[name] = _burst(settings, play, params, seed)
        values = {
            **evaluation.describe(played, made),
            **_through_burst(settings, arrays[name]),
        }
        rows += variants.rows(name, seed, values, copies=config.copies)
    for name, accuracy in (
        (variants.LOCAL, float(made.local[played.task].mean())),
        (variants.CENTRAL, _central(played, made)),
    ):
        found = {"task_accuracy": accuracy}
        rows += variants.rows(name, seed, found, copies=config.copies)
    # Experts are what they are at every seed and wherever they are hosted.
    if config.copies > 1 and seed == 0:
        rows += experts(made)
    return rows, arrays


def experts(made: world_lib.World) -> list[base.Record]:
    """Accuracy of each expert, and of the small generalist, at each ``task``'s test.

    Over a link without noise.
    """
    names = made.pool.config.experts
    clean = answers.measure_experts(made.pool, made.test_said, (np.inf,))[..., 0]
    columns = {f"{EXPERT}{name}": clean[:, i] for i, name in enumerate(names)}
    columns[f"{EXPERT}all seven"] = made.local
    return [
        row
        for variant, found in columns.items()
        for task, value in zip(names, found, strict=True)
        for row in variants.rows(variant, 0, {"accuracy": float(value)}, task=task)
    ]


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
    return curves.steps_to_level(risen(share, values), steps, values)


def risen(share: float, values: list[float]) -> float:
    """The level of a curve at a share of its rise to its last three values."""
    return float(values[0] + share * (np.mean(values[-3:]) - values[0]))


def _key(seed: int, at: int) -> base.Array:
    """Episodes that are the same for all variants of a seed."""
    return jax.random.fold_in(jax.random.key(seed), at)


def _burst(settings, play: _Play, params, seed: int) -> np.ndarray:
    """Mean reward of each step through one burst."""
    hit = variants.with_events(
        params.wireless,
        burst_at=settings.burst_from,
        burst_until=settings.burst_until,
        burst_share=settings.burst_share,
    )
    played = play(params._replace(wireless=hit), _key(seed, _BURST))
    return played.reward.mean(axis=0)


def _through_burst(settings: variants.Settings, burst: np.ndarray) -> dict[str, float]:
    """Steps to recover, and the reward lost in and after the burst, in steps."""
    before = burst[: settings.burst_from].mean()
    lost = np.sum(1.0 - burst[settings.burst_from :] / before)
    return {
        "recovery_steps": recovery(settings, burst),
        "lost_in_burst_steps": float(lost),
    }


def _failure(settings, play: _Play, params, seed, made) -> dict[str, float]:
    """Accuracy on a task after its own expert has failed, and that of who is left.

    Every task's expert fails in turn, on the first device that hosts it; what counts
    are the later steps of that task.
    """
    right, best = [], []
    for task in range(made.params.tasks.num_tasks):
        broken = variants.with_events(
            params.wireless, failing_expert=task, fails_at=settings.failure_at
        )
        told = play(params._replace(wireless=broken), _key(seed, _FAILURE))
        after = slice(settings.failure_at, None)
        late = told.task[:, after] == task
        situations = [
            a[:, after][late] for a in (told.task, told.example, told.weights)
        ]
        snr_db = told.snr_db[:, after][late]
        right.append(
            answers.answer_rows(made.pool, made.test_said, *situations, snr_db)
        )
        best.append(_best_survivor(situations, snr_db, task, made))
    return {
        "accuracy_after_failure": float(np.concatenate(right).mean()),
        SURVIVOR: float(np.concatenate(best).mean()),
    }


def _best_survivor(situations, snr_db, failed: int, made) -> np.ndarray:
    """What the most competent expert that is left gets right, in the same steps."""
    task, example, weights = situations
    left = np.array(made.params.tasks.competence[failed])
    left[failed] = -1.0
    alone = np.zeros_like(weights)
    alone[:, int(np.argmax(left))] = 1.0
    return answers.answer_rows(made.pool, made.test_said, task, example, alone, snr_db)


def _central(told: playing.Played, made: world_lib.World) -> float:
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
