"""Plans of equation 11: by hand, by enumeration, and how soon searches find them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.costs import offload, offload_limits
from m3jax.ops import bayesian
from m3jax.systems.msao import planning

pytestmark = pytest.mark.usefixtures("quick_compilation")

REQUEST = offload.Request(jnp.array([324.0]), jnp.array([2e6]), 40.0, 64.0)
LIMITS = offload_limits.Limits(modalities=("image",), send_s=(0.2,))
SPACE = planning.make_space()


def measured(sparsity=0.5):
    """Words that agree less the less the draft is sure; quality that falls."""
    rng = np.random.default_rng(0)
    entropies = rng.beta(1.0, 3.0, size=(40, 12))
    agrees = rng.random((40, 12)) < 0.98 - 0.8 * entropies
    retention, compression = np.array([0.25, 0.5, 1.0]), np.array([0.0, 0.5, 0.75])
    lost = 0.06 * (1 - retention[:, None]) ** 2 + 0.05 * compression**3
    return planning.Measured(
        agrees,
        entropies,
        rng.random((40, 12)) < 0.8,
        1.0 - lost,
        retention,
        compression,
        np.array([sparsity]),
    )


def make(megabits_per_s=20.0, limits=LIMITS, **changed):
    conditions = planning.make_conditions(megabits_per_s)
    given = measured()._replace(**changed)
    return planning.make_objective(
        given, offload.Machines(), REQUEST, conditions, limits
    )


def test_confidence_and_acceptance_are_counted():
    given = planning.Measured(
        np.array([[True, False, True], [True, True, False]]),
        np.array([[0.1, 0.2, 0.6], [0.3, 0.0, 0.1]]),
        np.array([[True, True, True], [True, False, True]]),
        *measured()[3:],
    )
    given = planning.Measured(*map(jnp.asarray, given))
    # Of five valid words four are at most 0.3, and two of these agree.
    assert float(given.confident(0.3)) == pytest.approx(4 / 5)
    assert float(given.acceptance(0.3)) == pytest.approx(2 / 4)
    assert float(given.confident(0.05)) == 0.0 == float(given.acceptance(0.05))


def test_quality_is_linear_between_levels():
    given = measured()
    at = np.array(given.quality)
    assert float(given.quality_loss(0.5, 0.75)) == pytest.approx(1 - at[1, 2], abs=1e-6)
    middle = 1 - (at[1, 0] + at[1, 1] + at[2, 0] + at[2, 1]) / 4
    assert float(given.quality_loss(0.75, 0.25)) == pytest.approx(middle, abs=1e-6)
    assert float(given.quality_loss(0.1, 0.9)) == pytest.approx(1 - at[0, 2], abs=1e-6)


def test_the_objective_is_what_its_parts_are():
    given = measured()
    seconds, excess = make()(jnp.array([0.4, 0.25, 0.2, 3.0]))
    below = given.valid & (given.entropies <= 0.2)
    now = planning.make_conditions(20.0)._replace(
        confident=below.sum() / given.valid.sum(),
        acceptance=(below & given.agrees).sum() / below.sum(),
    )
    one = jnp.ones(1)
    plan = offload.Plan(0.4 * one, 0.25 * one, one, 3.0)
    found = offload.expected(offload.Machines(), REQUEST, plan, now)
    assert float(seconds) == pytest.approx(float(found.total_s), rel=1e-5)
    rows = dict(zip(LIMITS.names, np.asarray(excess), strict=True))
    # (0.4 - 0.25) / 0.25 of the way from the first retention to the second, and half
    # of that from the first compression to the second.
    first, second = given.quality[:2, :2].mean(axis=1)
    lost = 1 - (0.4 * first + 0.6 * second)
    sent_s = 0.4 * 0.75 * 2e6 / 20e6 + 0.02
    expected = {
        "quality loss": lost / 0.02 - 1,
        "edge memory": float(found.edge_bytes) / 24e9 - 1,
        "cloud memory": float(found.cloud_bytes) / 40e9 - 1,
        "sending time of image": sent_s / 0.2 - 1,
        "retention of image": 1 - 0.5 - 0.4,
    }
    assert rows == pytest.approx(expected, abs=1e-5)


def test_no_point_of_the_grid_is_better_than_the_optimum():
    objective = make()
    best = bayesian.enumerate_all(objective, SPACE, len(LIMITS.names))
    points = SPACE.values(jnp.asarray(SPACE.grid()))
    seconds, excess = map(np.array, jax.vmap(objective)(points))
    kept = np.all(excess <= 0, axis=1)
    assert 0 < kept.sum() < len(kept) == best.num
    assert float(best.value) == pytest.approx(seconds[kept].min(), rel=1e-6)
    assert float(best.value) > seconds.min()
    assert np.all(np.asarray(objective(best.point)[1]) <= 0)


def test_limits_that_bind_are_named():
    loose = make(sparsity=np.array([1.0]))
    assert list(planning.binding(loose, SPACE, LIMITS)) == ["quality loss"]
    slow = planning.binding(make(1.0), SPACE, LIMITS)
    assert slow["sending time of image"] == np.inf
    generous = offload_limits.Limits(("image",), quality_loss=1.0)
    vital = make(limits=generous, sparsity=np.array([0.3]))
    cost = planning.binding(vital, SPACE, generous)
    assert list(cost) == ["retention of image"]
    free = make(limits=generous, sparsity=np.array([1.0]))
    assert planning.binding(free, SPACE, generous) == {}
    count = len(LIMITS.names)
    slower, faster = (
        float(bayesian.enumerate_all(objective, SPACE, count).value)
        for objective in (vital, free)
    )
    assert cost["retention of image"] == pytest.approx(slower - faster, rel=1e-4)


@pytest.fixture(scope="module")
def compared():
    """A link that lets some plans through, and one that lets none; one program."""
    pytest.importorskip("tinygp")
    settings = bayesian.Settings(num=24, num_initial=10, fit_steps=5)

    def at(megabits_per_s):
        objective = make(megabits_per_s)
        return planning.compare(jax.random.key(0), objective, SPACE, settings, 6)

    at = jax.jit(at)
    return at(20.0), at(1.0)


def test_bayesian_optimisation_finds_the_optimum_sooner_than_chance(compared):
    found, _ = compared
    assert found.searched.shape == found.random.shape == (6, 24)
    assert found.grid.shape == (16,)
    for best, needed in (
        (found.searched, found.searched_needed),
        (found.random, found.random_needed),
    ):
        assert np.all(np.asarray(best) >= float(found.optimum.value) * (1 - 1e-6))
        for row, count in zip(np.asarray(best), np.asarray(needed), strict=True):
            near = row <= 1.02 * float(found.optimum.value)
            assert np.sum(~near) == count - 1
    assert np.mean(np.asarray(found.searched_needed) <= 24) >= 0.75
    assert np.median(found.searched_needed) < np.median(found.random_needed)


def test_without_a_feasible_plan_nobody_is_near(compared):
    found = compared[1]
    assert float(found.optimum.value) == np.inf
    assert np.all(np.asarray(found.searched_needed) == 25)
    assert np.all(np.asarray(found.random_needed) == 25)


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"agrees": np.ones((3, 3), bool)}, "agrees"),
        ({"valid": np.zeros((40, 12), bool)}, "valid"),
        ({"retention": np.array([0.5, 0.5, 1.0])}, "retention"),
        ({"quality": np.ones((3, 2))}, "quality"),
        ({"sparsity": np.ones(2)}, "sparsity"),
    ],
)
def test_measurements_that_make_no_sense_are_named(changed, names):
    with pytest.raises(ValueError, match=names):
        make(**changed)
