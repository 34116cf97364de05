"""Runs of a router: kept, resumed bit for bit, restored; and the published sizes."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from m3jax import base
from m3jax.envs.expert_routing import radio
from m3jax.evals import axes, records
from m3jax.experiments import running
from m3jax.systems.m3llm import end_to_end, playing, router, world

CONFIG = pathlib.Path(__file__).parents[3] / "configs" / "m3llm.py"

pytestmark = pytest.mark.usefixtures("quick_compilation")


def get_config(variant):
    spec = importlib.util.spec_from_file_location("m3llm_config", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


@pytest.fixture(scope="module")
def fresh():
    """A router before its first step; the commands' tests train, resume and restore."""
    config = get_config("tiny")
    run = config.build()
    learner = run.make_learner()
    state = jax.jit(lambda key: learner.init(key, ()))(jax.random.key(0))
    return running.Trained(config, run, state.params)


def test_a_router_routes_by_its_two_heads(fresh):
    around = router.surround(fresh.config)
    params = router.seen_by(around.params, fresh.params)
    obs, _ = jax.vmap(around.env.reset, in_axes=(0, None))(
        jax.random.split(jax.random.key(0), 3), params
    )
    weights = fresh.predict["route"](fresh.params, obs, None)
    assert weights.shape == (3, 2, fresh.config.world.num_links)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)
    barred = ~np.asarray(obs["action_mask"])
    assert (np.moveaxis(np.asarray(weights), 1, -1)[barred] == 0).all()


def test_a_router_stands_over_snr_beside_the_policies_that_do_not_learn(fresh):
    """What is shipped, the actor and the ASEM that it sees through, is all it takes."""
    packed = fresh.run.pack(fresh.params)
    assert set(packed) == {"actor", router.FILTER}
    shares = []
    grid = base.Grid("r", (-5.0, 25.0), num_seeds=2)
    rows = fresh.run.evaluate(packed, grid, shares.append)
    assert {row.variant for row in rows} == {"r", *playing.REFERENCES}
    assert {axes.coordinate(row, "snr_db") for row in rows} == {-5.0, 25.0}
    assert shares == sorted(shares) and shares[-1] == 1.0
    for seed in (0, 1):
        quality = {
            snr_db: records.select(
                rows, variant="oracle", metric="snr_quality", snr_db=snr_db, seed=seed
            )[0].value
            for snr_db in (-5.0, 25.0)
        }
        assert quality[25.0] > quality[-5.0] + 0.1
        best = records.select(rows, variant="oracle", metric="reward", seed=seed)
        ours = records.select(rows, variant="r", metric="reward", seed=seed)
        assert all(a.value >= b.value for a, b in zip(best, ours, strict=True))


def test_the_budget_of_a_link_is_its_snr_at_the_mean_distance():
    """Without fading and shadowing, where the expert stands at that distance."""
    params = radio.RadioParams(std_distance=0.0, mean_shadow_std_db=0.0)
    params = params._replace(std_shadow_std_db=0.0, fading_std=0.0, fading_mean=1.0)
    moving = world.events.EventParams()
    links = radio.start(jax.random.key(0), 4, params, moving)
    for snr_db in (-3.0, 12.0):
        given = radio.with_budget(params, snr_db)
        found = radio.snr_db(links, jax.numpy.int32(0), given, moving)
        np.testing.assert_allclose(found, snr_db, atol=1e-3)


def test_what_no_router_can_be_measured_at_is_refused(fresh):
    with pytest.raises(ValueError, match="leave inf out of --snr_db"):
        running.evaluate(fresh, base.Grid("r", (0.0, np.inf)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"copies": 0}, "world.copies must be"),
        ({"num_passing": 9}, "world.num_passing is 9 of 7"),
        ({"task_change": 1.5}, "world.task_change is a probability"),
        ({"calibration_snrs_db": (0.0,)}, "at least three SNRs"),
    ],
)
def test_a_world_that_cannot_be_is_named(changes, told, tmp_path):
    config = router.Router(world=world.WorldConfig(**changes))
    with pytest.raises(ValueError, match=told):
        running.train(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_end_to_end_needs_experts():
    drawn = world.WorldConfig(drawn=world.DrawnFeatures(4, 3, 2), num_examples=2)
    config = router.Router(agent=end_to_end.Config(), world=drawn, uses_asem=False)
    with pytest.raises(ValueError, match="through real experts.*world.drawn=None"):
        config.build().make_learner().init(jax.random.key(0), ())


@pytest.fixture
def published():
    """The published sizes, few of whatever takes time."""
    config = get_config("paper")
    sac = config.agent.sac
    assert (sac.discount, sac.learning_rate) == (0.99, 7e-4)
    assert config.agent.last_temperature == 0.1
    sac.chunk, sac.capacity, sac.warmup = 2, 64, 8
    config.world.num_examples = 2
    return config


def test_the_published_sizes_have_the_published_state(published):
    around = router.surround(published)
    space = around.env.observation_space(around.params)
    assert space["observation"].shape == (1852,)
    assert around.env.action_space(around.params).shape == (2, 7)


@pytest.mark.slow
def test_one_chunk_of_the_published_sizes_runs(published):
    config = published
    learner = config.build().make_learner()

    def chunk(key):
        return learner.step(learner.init(key, ()), (), key)

    state, metrics = jax.jit(chunk)(jax.random.key(0))
    assert state.extra.replay.items.obs["observation"].shape == (64, 1852)
    assert np.isfinite(list(map(float, metrics.values()))).all()
