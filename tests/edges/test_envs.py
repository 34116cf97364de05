"""What every public function of ``m3jax.envs`` does at the edges: a row each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax import envs
from m3jax.envs import randomised, spaces
from m3jax.envs.edge_cloud import offloading, plans
from m3jax.envs.edge_cloud import world as cloud
from m3jax.envs.expert_routing import (
    events,
    judges,
    policies,
    radio,
    reports,
    rewards,
    routing,
    scoring,
    tasks,
    wireless,
    world,
)
from m3jax.testing import completeness
from m3jax.testing.edge_values import DTYPES, Row, check

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
WEIGHTS = jnp.array([0.5, 0.15, 0.35])
SNR_DB = jnp.array([15.0, 9.0, 6.0])
MASK = jnp.ones(3, bool)
BOUNDS = (5.0, 25.0)
HALF = jnp.float32(0.5)
SCENE = scoring.Scene(MASK, ~MASK, jnp.array([0.9, 0.8, 0.5]), SNR_DB, MASK)
REWARDS = scoring.RewardParams()
ENV = wireless.Wireless()
PARAMS = world.make_params(tasks.make_tasks(np.eye(3, dtype=bool), np.zeros((3, 3))))
STATE = ENV.reset(KEY, PARAMS)[1]
CLOUD = offloading.Offloading()
CLOUD_PARAMS = CLOUD.default_params
CLOUD_OBS, CLOUD_STATE = CLOUD.reset(KEY)
CLOUD_PLAN = jnp.array([0.9, 0.8, 0.7, 0.2, 0.6, 0.9, 0.5, 0.4])
FIXED = "empty one"  # sizes that parameters fix
# Scores in [0, 1] lie there for links of any quality, and a weight is in [0, 1].
SCORE = {"huge": lambda x: (x >= 0) & (x <= 1)}
FREE = dict.fromkeys(("inf", "ninf", "huge"), "any")
# Actions are numbers in [0, 1], which adapters check: beyond, only NaN must not vanish.


def score(action):
    return ENV.score(STATE, action, PARAMS)[0]


def report(history):
    state = STATE._replace(history=history)
    return reports.report(KEY, state, PARAMS._replace(report_delay=0))


def step(action):
    _, state, reward, *_ = ENV.step_env(KEY, STATE, action, PARAMS)
    return reward, state.weights


def cloud_world(fn, field):
    """A law of the world as a function of one field of its state."""
    return lambda x: fn(CLOUD_STATE._replace(**{field: x}), CLOUD_PARAMS)


def chosen(policy):
    def choose(snr):
        view = ENV.view(ENV.reset(KEY, PARAMS)[0], PARAMS)._replace(snr=snr)
        return policy(KEY, view, PARAMS)

    return choose


ROUTING = "expert_routing."
EDGE = "edge_cloud."

ROWS = [
    # Rewards: NaN in, NaN out; masked links and experts harmless; bounded.
    Row(
        rewards.activation,
        (WEIGHTS, MASK, HALF),
        (0, 2),
        nan=lambda x: x < 1.0,
        mask=1,
        skip=FIXED,
    ),
    Row(
        rewards.suppression,
        (WEIGHTS, MASK, HALF),
        0,
        nan=lambda x: x < 1.0,
        mask=1,
        skip=FIXED,
    ),
    Row(
        rewards.concentration,
        (WEIGHTS, MASK),
        inf="any",
        ninf="any",
        huge=SCORE["huge"],
        skip=f"{FIXED} all_masked",
    ),
    Row(
        lambda snr, active: rewards.quality(snr, active, BOUNDS),
        (SNR_DB, MASK),
        0,
        ROUTING + "rewards.quality",
        inf=1,
        ninf=0,
        huge=1,
        mask=1,
        skip=FIXED,
    ),
    Row(
        lambda snr, active: rewards.stability(snr, active, BOUNDS),
        (SNR_DB, MASK),
        0,
        ROUTING + "rewards.stability",
        inf="any",
        ninf="any",
        huge="any",
        mask=1,
        grad="zero tiny",
        skip=FIXED,
    ),
    Row(
        rewards.balance,
        (WEIGHTS, MASK),
        inf="any",
        huge=SCORE["huge"],
        mask=1,
        grad="zero tiny",
        skip=FIXED,
    ),
    Row(
        lambda snr, active: rewards.efficiency(snr, active, jnp.float32(25.0)),
        (SNR_DB, MASK),
        0,
        ROUTING + "rewards.efficiency",
        inf=1,
        huge=1,
        mask=1,
        skip=FIXED,
    ),
    Row(
        lambda snr: rewards.normalised(snr, BOUNDS),
        (SNR_DB,),
        0,
        ROUTING + "rewards.normalised",
    ),
    Row(rewards.entropy, (WEIGHTS,), inf="any", grad="zero tiny", skip="empty"),
    Row(rewards.passes, (WEIGHTS, HALF), nan=lambda x: ~x[0], skip="empty"),
    Row(
        lambda x: rewards.weighted((x, x), (0.5, 0.5)),
        (HALF,),
        0,
        ROUTING + "rewards.weighted",
    ),
    Row(
        judges.success,
        (WEIGHTS, SCENE.competence, SNR_DB, judges.ToyParams()),
        (0, 1, 2),
        **FREE,
        skip=FIXED,
    ),
    # Routing.
    Row(
        routing.normalise,
        (WEIGHTS, MASK),
        inf="any",
        mask=1,
        grad="zero tiny",
        skip=FIXED,
    ),
    Row(
        routing.combine,
        (WEIGHTS, WEIGHTS[::-1], MASK),
        (0, 1),
        inf="any",
        mask=2,
        grad="zero tiny",
        skip=f"{FIXED} all_masked",
    ),
    Row(
        routing.literal_product,
        (WEIGHTS, WEIGHTS[::-1], MASK),
        (0, 1),
        inf="any",
        ninf="any",
        mask=2,
        skip=FIXED,
    ),
    *(
        Row(
            lambda w, fn=fn: fn(scoring.single(w, SCENE), SCENE, REWARDS),
            (WEIGHTS,),
            0,
            f"{ROUTING}scoring.{name}",
            **FREE,
            skip=FIXED,
        )
        for name, fn in (
            ("semantic", lambda w, *rest: scoring.semantic(w, *rest)["semantic"]),
            ("score", lambda w, *rest: scoring.score(w, *rest)[0]),
        )
    ),
    Row(
        # A weight that is NaN passes no threshold: no link is used, which earns least.
        lambda w: scoring.channel(scoring.single(w, SCENE), SCENE, REWARDS)["channel"],
        (WEIGHTS,),
        0,
        ROUTING + "scoring.channel",
        nan=lambda x: np.isnan(x) | (x == 0),
        **FREE,
        skip=FIXED,
    ),
    Row(
        lambda heads: scoring.joined(heads, SCENE).final,
        (jnp.stack([WEIGHTS, WEIGHTS]),),
        0,
        ROUTING + "scoring.joined",
        inf="any",
        skip=FIXED,
    ),
    Row(
        lambda w: scoring.single(w, SCENE).final,
        (WEIGHTS,),
        0,
        ROUTING + "scoring.single",
        inf="any",
        skip=FIXED,
    ),
    # Links and events.
    *(
        Row(
            lambda x, name=name: radio.snr_db(
                STATE.radio._replace(**{name: x}), 0, PARAMS.radio, PARAMS.events
            ),
            (getattr(STATE.radio, name),),
            0,
            ROUTING + "radio.snr_db",
            inf="any",
            huge="any",
            ninf="any",
            skip=FIXED,
        )
        for name in ("shadow_db", "scatter")
    ),
    Row(
        lambda x: (
            radio.advance(
                KEY, STATE.radio._replace(shadow_db=x), PARAMS.radio, PARAMS.events
            ).shadow_db
        ),
        (STATE.radio.shadow_db,),
        0,
        ROUTING + "radio.advance",
        skip=f"{FIXED} float64",  # other draws, as the wider type has
    ),
    Row(
        lambda x: radio.distances(STATE.radio._replace(start=x), 0, PARAMS.events),
        (STATE.radio.start,),
        0,
        ROUTING + "radio.distances",
        inf="any",
        ninf="any",
        skip=FIXED,
    ),
    Row(
        lambda mean: (
            radio.start(
                KEY, 3, PARAMS.radio._replace(mean_distance=mean), PARAMS.events
            ).start
        ),
        (jnp.float32(275.0),),
        0,
        ROUTING + "radio.start",
        **FREE,
    ),
    Row(
        lambda snr: radio.with_budget(PARAMS.radio, snr).tx_power_dbm,
        (jnp.float32(20.0),),
        0,
        ROUTING + "radio.with_budget",
    ),
    Row(
        lambda x: (
            events.advance(
                KEY, STATE.events._replace(reliability=x), 1, PARAMS.events
            ).reliability
        ),
        (STATE.events.reliability,),
        0,
        ROUTING + "events.advance",
        inf="finite",
        ninf="finite",
        skip=FIXED,
    ),
    Row(
        lambda loss: events.loss_db(
            STATE.events._replace(hit=MASK), events.EventParams(burst_loss_db=loss)
        ),
        (jnp.float32(20.0),),
        0,
        ROUTING + "events.loss_db",
    ),
    Row(
        lambda x: world.scene(STATE._replace(history=x), PARAMS).snr_db,
        (STATE.history,),
        0,
        ROUTING + "world.scene",
        skip=FIXED,
    ),
    Row(report, (STATE.history,), 0, ROUTING + "reports.report", skip=FIXED),
    Row(
        lambda obs: reports.split(obs, PARAMS),
        (ENV.reset(KEY, PARAMS)[0],),
        0,
        ROUTING + "reports.split",
        skip=FIXED,
    ),
    # Policies answer with experts, of reports that nobody could make sense of too.
    *(
        Row(
            chosen(getattr(policies, name)),
            (WEIGHTS,),
            0,
            f"{ROUTING}policies.{name}",
            nan=lambda members: np.any(members) & ~members[0],
            skip=FIXED,
        )
        for name in ("network_first", "greedy_product")
    ),
    Row(
        lambda x: policies.best_subset(ENV, STATE._replace(history=x), PARAMS)[1],
        (STATE.history,),
        0,
        ROUTING + "policies.best_subset",
        nan="any",  # a link of which nothing is known is left out
        **FREE,
        skip=FIXED,
    ),
    # The environments: an action of NaN earns NaN.
    Row(score, (WEIGHTS,), 0, ROUTING + "wireless.Wireless.score", **FREE, skip=FIXED),
    Row(
        step, (WEIGHTS,), 0, ROUTING + "wireless.Wireless.step_env", **FREE, skip=FIXED
    ),
    Row(
        lambda action: ENV.step(KEY, STATE, action, PARAMS)[2],
        (WEIGHTS,),
        0,
        "environment.Environment.step",
        **FREE,
        skip=FIXED,
    ),
    Row(
        lambda obs: ENV.view(obs, PARAMS),
        (ENV.reset(KEY, PARAMS)[0],),
        0,
        ROUTING + "wireless.Wireless.view",
        skip=FIXED,
    ),
    # Between edge and cloud.
    Row(
        lambda action: CLOUD.score(CLOUD_STATE, action, CLOUD_PARAMS)[0],
        (CLOUD_PLAN,),
        0,
        EDGE + "offloading.Offloading.score",
        skip=FIXED,
    ),
    Row(
        lambda action: CLOUD.score(CLOUD_STATE, action[::-1], CLOUD_PARAMS)[0],
        (CLOUD_PLAN[::-1],),
        0,
        EDGE + "offloading.Offloading.score",
        skip=FIXED,
    ),
    Row(
        lambda action: CLOUD.advance(KEY, CLOUD_STATE, action, CLOUD_PARAMS)[2],
        (CLOUD_PLAN,),
        0,
        EDGE + "offloading.Offloading.advance",
        skip=FIXED,
    ),
    Row(
        lambda obs: CLOUD.believed(obs, CLOUD_PARAMS),
        (CLOUD_OBS,),
        0,
        EDGE + "offloading.Offloading.believed",
        inf="any",
        ninf="any",
        skip=f"{FIXED} float16",  # bits by the million
    ),
    Row(
        lambda action: plans.split(action, 3, 5),
        (CLOUD_PLAN,),
        0,
        EDGE + "plans.split",
        skip=FIXED,
    ),
    Row(
        lambda kept, theta: plans.join(kept, theta, jnp.float32(0.5), MASK),
        (WEIGHTS, HALF),
        (0, 1),
        EDGE + "plans.join",
        skip=FIXED,
    ),
    Row(
        lambda x: plans.encode_length(x, 5),
        (jnp.float32(3.0),),
        0,
        EDGE + "plans.encode_length",
    ),
    *(
        Row(
            cloud_world(getattr(cloud, name), field),
            (getattr(CLOUD_STATE, field),),
            0,
            f"{EDGE}world.{name}",
            skip=FIXED,
            **more,
        )
        for name, field, more in (
            ("snr_db", "walks", {}),
            ("loads", "walks", {"nan": "any"}),  # of the first walk, which is another's
            ("difficulty", "walks", {"nan": "any"}),
        )
    ),
    Row(
        lambda x: cloud.least_retention(CLOUD_STATE._replace(relevance=x)),
        (CLOUD_STATE.relevance,),
        0,
        EDGE + "world.least_retention",
        inf="any",
        ninf="any",
        skip=FIXED,
    ),
    Row(
        lambda x: cloud.confident(x, CLOUD_PARAMS),
        (HALF,),
        0,
        EDGE + "world.confident",
        inf=1,
        ninf=0,
        huge=1,
    ),
    Row(
        lambda hard, theta: cloud.acceptance(hard, theta, CLOUD_PARAMS),
        (HALF, HALF),
        (0, 1),
        EDGE + "world.acceptance",
    ),
    Row(
        lambda seen, theta: cloud.difficulty_of(seen, theta, CLOUD_PARAMS),
        (HALF, HALF),
        (0, 1),
        EDGE + "world.difficulty_of",
    ),
    Row(
        lambda x: cloud.quality_loss(x, MASK, CLOUD_STATE, CLOUD_PARAMS),
        (WEIGHTS,),
        0,
        EDGE + "world.quality_loss",
        skip=FIXED,
        ninf="any",
    ),
    Row(
        lambda x: cloud.draw_request(x, CLOUD_PARAMS),
        (jnp.linspace(-1.0, 1.0, 12),),
        0,
        EDGE + "world.draw_request",
        nan="any",  # the first is whether there is a modality: it is not
        skip=f"{FIXED} bool int32 uint8 uint32 float16 bfloat16",  # normals, drawn
    ),
    Row(
        lambda walks, new: cloud.walk(walks, new, CLOUD_PARAMS),
        (CLOUD_STATE.walks, CLOUD_STATE.walks),
        (0, 1),
        EDGE + "world.walk",
        skip=FIXED,
    ),
    Row(
        lambda x: cloud.column(x, jnp.ones((3, 2))),
        (WEIGHTS,),
        0,
        EDGE + "world.column",
    ),
    # Spaces and randomisation.
    Row(
        spaces.Box(0.0, 1.0, (3,)).contains,
        (WEIGHTS,),
        0,
        "spaces.Box.contains",
        nan=False,
        inf=False,
        ninf=False,
        huge=False,
    ),
    Row(
        spaces.Discrete(3).contains,
        (HALF,),
        0,
        "spaces.Discrete.contains",
        nan=False,
        inf=False,
        ninf=False,
        huge=False,
    ),
    Row(
        spaces.Binary((3,)).contains,
        (jnp.array([1.0, 0.0, 1.0]),),
        0,
        "spaces.Binary.contains",
        nan=False,
        inf=False,
        ninf=False,
        tiny=False,
        huge=False,
    ),
    Row(
        lambda low, high: randomised.draw(KEY, randomised.Range(low, high)),
        (WEIGHTS, WEIGHTS + 1.0),
        (0, 1),
        "randomised.draw",
        inf="any",
        ninf="any",
        skip=f"{FIXED} bool int32 uint8 uint32",  # whole numbers draw whole ones
    ),
]

SETTINGS = "settings and counts, no numbers of the user's"
EXEMPT = {
    **{
        f"{EDGE}offloading.Offloading.{name}": SETTINGS
        for name in ("action_space", "observation_space", "is_truncated", "table")
    },
    **{
        f"{ROUTING}wireless.Wireless.{name}": SETTINGS
        for name in ("action_space", "observation_space", "is_truncated")
    },
    **{
        f"randomised.Randomised.{name}": "reached through the environment within"
        for name in (
            *("action_space", "observation_space", "is_truncated"),
            *("reset_env", "step_env"),
        )
    },
    **{
        f"{ROUTING}policies.{name}": "reads who is live and the task, no numbers"
        for name in ("at_random", "uniform", "semantic_first")
    },
    **{
        f"environment.Environment.{name}": "abstract, or reached through step"
        for name in ("reset", "reset_env", "step_env", "is_truncated")
    },
    "environment.Environment.with_transition_gradients": "a setting",
    "environment.like": "types only",
    "batch_last.*": "reached through Offloading",
    f"{EDGE}offloading.Offloading.begin": "a key in, a state out",
    f"{EDGE}offloading.Offloading.from_plan": "a place in a table",
    f"{EDGE}plans.table": SETTINGS,
    f"{EDGE}policies.*": "score plans by Offloading.score; held by their tests",
    f"{EDGE}world.make_params": SETTINGS,
    f"{EDGE}world.num_normals": "a count",
    f"{ROUTING}comparison.*": "plays policies; held by its tests",
    f"{ROUTING}events.all_on": SETTINGS,
    f"{ROUTING}events.start": SETTINGS,
    f"{ROUTING}policies.best_heads": "tables of best_subset",
    f"{ROUTING}policies.best_weights": "tables of best_subset",
    f"{ROUTING}policies.make_policies": SETTINGS,
    f"{ROUTING}routing.shares": SETTINGS,
    f"{ROUTING}routing.subset_actions": SETTINGS,
    f"{ROUTING}tasks.following": "a key and whole numbers",
    f"{ROUTING}tasks.make_tasks": "host only; refuses what is no probability",
    f"{ROUTING}tasks.specialists": SETTINGS,
    f"{ROUTING}wireless.Wireless.from_subset": "truth values",
    f"{ROUTING}wireless.Wireless.reset_env": "a key in, a state out",
    f"{ROUTING}world.make_params": SETTINGS,
    "gymnasium_adapter.*": "checks actions by its spaces; held by its tests",
    "gymnasium_spaces.*": "host only; NaN and types held by the adapter's tests",
    "gymnasium_vector.*": "as gymnasium_adapter",
    "spaces.Binary.sample": "a key in",
    "spaces.Box.sample": "a key in",
    "spaces.Discrete.sample": "a key in",
}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_edges(row):
    check(row, dtypes=["uint8"], quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_edges_in_every_type(row):
    check(row, dtypes=DTYPES)


def test_every_function_has_a_row_or_a_reason():
    assert completeness.missing(envs, [row.covers for row in ROWS], EXEMPT) == []


def test_competences_that_are_no_probabilities_are_refused():
    for value in (np.nan, np.inf, -0.1, 1e30):
        with pytest.raises(ValueError, match="competence must be probabilities"):
            tasks.make_tasks(np.eye(2), np.zeros((2, 2)), np.full((2, 2), value))
