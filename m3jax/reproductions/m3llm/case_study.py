"""The foggy traffic light: is the right expert worth a worse link?

M3LLM's case (section IV-D) with EdgeScenes' own means: a sign in much clutter at little
contrast. The expert that reads signs is behind a link of 15 dB; one that was made for
something else is behind 25 dB. Who picks whom, and who answers right?
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base, routing, specialists
from m3jax.reproductions.m3llm import training, variants
from m3jax.routing import answers
from m3jax.systems.m3llm import playing, routing_env

TASK = "sign"
OTHER = "recognise"
OWN_DB, OTHER_DB, REST_DB = 15.0, 25.0, 5.0
FOG = {"clutter": 1.0, "contrast": 0.35}
METRICS = ("weight_of_own", "weight_of_other", "task_accuracy")
_SEED = 77
_STEPS_BEFORE = 10


def measure(
    settings: variants.Settings,
    seed: int,
    trained: training.Trained,
    made: routing.World,
) -> list[base.Record]:
    """How much weight each policy gives the two experts, and how often it is right.

    Args:
      settings: of the study.
      seed: of noise.
      trained: M3LLM's router.
      made: the world.

    Returns:
      Rows of the variants ``case, POLICY`` with the metrics ``METRICS``.
    """
    names = made.pool.config.experts
    own, other = names.index(TASK), names.index(OTHER)
    snrs_db = np.full(len(names), REST_DB, np.float32)
    snrs_db[own], snrs_db[other] = OWN_DB, OTHER_DB
    num = settings.world.num_examples
    drawn = specialists.draw_examples(num, _SEED, "test", **FOG)
    bank = specialists.make_bank(drawn, settings.world.num_passing)
    said = answers.say(made.pool, drawn)
    still = _still(made)
    inner = dataclasses.replace(trained.env.inner, mode="calibrated")
    plain = routing_env.RoutingEnv(inner)
    routed = dataclasses.replace(trained.env, inner=inner)
    acts = {variants.FULL: (routed, trained.act, trained.actor, trained.params.filter)}
    for name, act in playing.reference(plain).items():
        acts[name] = plain, act, (), None
    rows = []
    for name, (env, act, actor, filtered) in acts.items():
        params = routing_env.Params(still, bank, filtered)
        choose = _chooser(env, act, own, snrs_db)
        keys = jax.random.split(jax.random.key(seed), num)
        weights, example = map(np.asarray, choose(actor, params, keys))
        about = np.full(num, own), example, weights
        right = answers.answer_rows(
            *(made.pool, said, *about), np.broadcast_to(snrs_db, weights.shape)
        )
        values = weights[:, own].mean(), weights[:, other].mean(), right.mean()
        rows += [
            base.Record("m3llm", f"case, {name}", None, seed, metric, float(value), "1")
            for metric, value in zip(METRICS, values, strict=True)
        ]
    return rows


def _still(made: routing.World):
    """The world without shadowing, fading, events and new tasks."""
    radio = made.params.radio._replace(
        mean_shadow_std_db=0.0,
        std_shadow_std_db=0.0,
        fading_mean=1.0,
        fading_std=0.0,
    )
    params = variants.with_events(made.params)
    return params._replace(radio=radio, task_change=0.0)


def _chooser(
    env: routing_env.RoutingEnv, act: playing.Act, task: int, snrs_db: np.ndarray
):
    """Compiles what a policy does after it has watched the links for some steps."""

    def one(actor, params, key):
        begin_key, watch_key, act_key = jax.random.split(key, 3)
        _, state = env.reset_env(begin_key, params)
        inside = state.wireless
        inside = inside._replace(
            task=jnp.int32(task),
            radio=inside.radio._replace(mean_snr_db=jnp.asarray(snrs_db)),
        )
        idle = jnp.ones((2, len(snrs_db)))

        def watch(carry, key):
            _, state = carry
            obs, state, *_ = env.step_env(key, state, idle, params)
            return (obs, state), None

        keys = jax.random.split(watch_key, _STEPS_BEFORE)
        begun = state._replace(wireless=inside)
        first = env.step_env(keys[0], begun, idle, params)[:2]
        (obs, state), _ = jax.lax.scan(watch, first, keys[1:])
        action = act(actor, act_key, obs, state, params)
        _, after, *_ = env.step_env(act_key, state, action, params)
        return after.wireless.weights, state.example

    return jax.jit(jax.vmap(one, in_axes=(None, None, 0)))
