"""The foggy traffic light: is the right expert worth a worse link?

M3LLM's case (section IV-D) with EdgeScenes' own means: a sign in much clutter at little
contrast. The expert that reads signs is behind a link of 15 dB; one that was made for
something else is behind 25 dB. Who picks whom, and who answers right?
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.systems.m3llm import answers, experts, playing, routing_env
from m3jax.systems.m3llm import world as world_lib
from m3jax.systems.m3llm.study import training, variants

TASK = "sign"
OTHER = "recognise"
OWN_DB, OTHER_DB, REST_DB = 15.0, 25.0, 5.0
FOG = {"clutter": 1.0, "contrast": 0.35}
CASE = "sign in fog"
METRICS = ("weight_of_own", "weight_of_other", "task_accuracy")
_SEED = 77
_STEPS = 10


def measure(
    programs: training.Programs,
    seed: int,
    trained: training.Trained,
    made: world_lib.World,
) -> list[base.Record]:
    """How much weight each policy gives the two experts, and how often it is right.

    Args:
      programs: of the study.
      seed: of noise.
      trained: M3LLM's router.
      made: the world.

    Returns:
      Rows of each policy at ``case`` CASE with the metrics ``METRICS``.
    """
    names = made.pool.config.experts
    own, other = names.index(TASK), names.index(OTHER)
    snrs_db = np.full(len(names), REST_DB, np.float32)
    snrs_db[own], snrs_db[other] = OWN_DB, OTHER_DB
    settings = programs.settings
    num = settings.world.num_examples
    drawn = experts.draw_examples(num, _SEED, "test", (TASK,), **FOG)
    bank = experts.make_bank(drawn, settings.world.num_passing)
    said = answers.say(made.pool, drawn)
    foggy = _foggy(made, own, snrs_db)
    inner = dataclasses.replace(trained.env.inner, mode="calibrated")
    plain = routing_env.RoutingEnv(inner)
    routed = dataclasses.replace(trained.env, inner=inner)
    player = programs.player(plain, None, num, _STEPS)
    acts = {name: (player, i, None) for i, name in enumerate(playing.REFERENCES)}
    player = programs.player(routed, trained.act, num, _STEPS)
    acts[variants.FULL] = player, trained.actor, trained.params.filter
    rows = []
    for name, (play, actor, filtered) in acts.items():
        params = routing_env.Params(foggy, bank, filtered)
        told = play(actor, params, jax.random.key(seed))
        task, example, weights = (
            np.asarray(a)[:, -1] for a in (told.task, told.example, told.weights)
        )
        heard = np.broadcast_to(snrs_db, weights.shape)
        right = answers.answer_rows(made.pool, said, task, example, weights, heard)
        values = weights[:, own].mean(), weights[:, other].mean(), right.mean()
        found = dict(zip(METRICS, map(float, values), strict=True))
        rows += variants.rows(name, seed, found, case=CASE)
    return rows


def _foggy(made: world_lib.World, task: int, snrs_db: np.ndarray):
    """The world with one task, and links that stay as they are said to be."""
    radio = made.params.radio._replace(
        mean_snr_db=jnp.asarray(snrs_db),
        std_snr_db=0.0,
        mean_shadow_std_db=0.0,
        std_shadow_std_db=0.0,
        fading_mean=1.0,
        fading_std=0.0,
    )
    row = jax.tree.map(lambda rows: rows[task : task + 1], made.params.tasks)
    params = variants.with_events(made.params)
    return params._replace(radio=radio, tasks=row, task_change=0.0)
