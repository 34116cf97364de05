"""Bayesian optimisation: quadrature, dense algebra, other libraries, exact optima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats
from sklearn import gaussian_process
from sklearn.gaussian_process import kernels

pytest.importorskip("tinygp")

from m3jax.ops import bayesian
from m3jax.ops.bayesian import acquisition, candidates, surrogate

pytestmark = pytest.mark.usefixtures("quick_compilation")

PLANE = bayesian.Space(
    (bayesian.Dimension("x", -2.0, 2.0), bayesian.Dimension("n", 1, 5, levels=5))
)
HYPER = surrogate.Hyper(
    jnp.log(jnp.array([0.3, 0.8])),
    jnp.log(jnp.float32(1.7)),
    jnp.log(jnp.float32(0.01)),
)
NOISE = 0.01 + surrogate.LEAST_NOISE


def data(num=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((num, 2)), rng.normal(size=num)


def matern(a, b):
    """Matern 5/2 by its definition, in float64."""
    scaled = np.array([0.3, 0.8])
    r = np.sqrt(5) * np.linalg.norm((a[:, None] - b[None]) / scaled, axis=-1)
    return 1.7 * (1 + r + r * r / 3) * np.exp(-r)


@pytest.mark.parametrize("mean", [-1.0, 0.3, 2.0])
@pytest.mark.parametrize("std", [0.1, 1.5])
@pytest.mark.parametrize("xi", [0.0, 0.1])
def test_expected_improvement_is_its_integral(mean, std, xi):
    law = stats.norm(mean, std)
    expected, _ = integrate.quad(
        lambda y: max(0.5 - xi - y, 0.0) * law.pdf(y),
        mean - 12 * std,
        min(mean + 12 * std, 0.5 - xi) if mean - 12 * std < 0.5 - xi else mean,
    )
    found = acquisition.expected_improvement(
        jnp.float32(mean), jnp.float32(std), 0.5, xi
    )
    assert float(found) == pytest.approx(expected, abs=2e-6, rel=1e-4)
    below = acquisition.probability_below(jnp.float32(mean), jnp.float32(std))
    assert float(below) == pytest.approx(law.cdf(0.0), abs=1e-5)


@pytest.mark.parametrize("std", [0.01, 1.5])
def test_the_logarithm_of_expected_improvement_is_exact_where_it_underflows(std):
    z = np.concatenate([np.linspace(-30, 3, 200), [-1.5 - 1e-4, -1.5 + 1e-4]])
    # phi(z) + z Phi(z) is the integral of Phi up to z, here over Phi(min(z, 0)).
    scale = np.array(
        [
            integrate.quad(
                lambda u, end=end: special.ndtr(end - u) / special.ndtr(min(end, 0.0)),
                0.0,
                40.0,
                points=[1.0 / max(1.0, -end)],
                limit=200,
            )[0]
            for end in z
        ]
    )
    expected = np.log(std) + np.log(scale) + special.log_ndtr(np.minimum(z, 0.0))

    def found(z):
        return acquisition.log_expected_improvement(-z * std, jnp.float32(std), 0.0)

    given = jnp.float32(z)
    np.testing.assert_allclose(found(given), expected, rtol=2e-6, atol=3e-4)
    slope = jax.vmap(jax.grad(found))(given)
    # d log h / dz = Phi(z) / h(z).
    exact = np.exp(special.log_ndtr(z) - expected + np.log(std))
    np.testing.assert_allclose(slope, exact, rtol=2e-3)


def test_the_logarithm_with_constraints_is_that_of_the_product():
    mean = jnp.array([[0.2, 0.7], [-0.3, 0.4], [0.1, -1.0]])
    std = jnp.array([[0.5, 0.3], [0.2, 0.4], [0.3, 0.6]])
    for best in (0.5, jnp.inf):
        plain, log = (
            acquisition.constrained(mean, std, best, 0.1, log) for log in (False, True)
        )
        np.testing.assert_allclose(np.exp(log), plain, rtol=1e-4)
        slope = jax.grad(
            lambda m, best=best: acquisition.constrained(m, std, best, log=True).sum()
        )(mean)
        assert np.all(np.isfinite(slope))


def test_a_mean_that_is_fitted_is_that_of_generalised_least_squares():
    points, values = data()
    values = values + 3.0
    inverse = np.linalg.inv(matern(points, points) + NOISE * np.eye(12))
    mean = inverse.sum(axis=0) @ values / inverse.sum()
    far = jnp.full((1, 2), 1e3)
    given = (*map(jnp.float32, (points, values)), np.ones(12, bool))
    found = surrogate.posterior(HYPER, *given, far, fit_mean=True)
    assert float(found.mean[0]) == pytest.approx(mean, rel=1e-4)
    # A shift of all values changes nothing else.
    shifted = given[0], given[1] + 2.0, given[2]
    density = [
        float(surrogate.log_density(HYPER, *each, fit_mean=True))
        for each in (given, shifted)
    ]
    assert density[0] == pytest.approx(density[1], abs=1e-2)


def test_climbs_reach_the_peak_and_leave_levels_alone():
    peak = jnp.array([0.37, 0.2])

    def merit(x):
        return -jnp.sum((x - peak) ** 2, axis=-1)

    begun = jnp.array([[0.3, 0.75], [0.45, 0.0], [0.02, 0.25]])
    ended = jax.jit(lambda x: candidates.climb(merit, x, PLANE, 60, 0.05))(begun)
    np.testing.assert_allclose(ended[:, 0], 0.37, atol=0.02)
    np.testing.assert_array_equal(ended[:, 1], begun[:, 1])
    over = candidates.climb(lambda x: x.sum(-1), begun, PLANE, 60, 0.1)
    np.testing.assert_array_equal(over[:, 0], 1.0)


def test_the_posterior_is_that_of_dense_algebra_and_of_scikit_learn():
    points, values = data()
    queries = np.random.default_rng(1).random((20, 2))
    filled = np.ones(12, bool)
    found = surrogate.posterior(
        HYPER, *map(jnp.float32, (points, values)), filled, jnp.float32(queries)
    )
    inverse = np.linalg.inv(matern(points, points) + NOISE * np.eye(12))
    cross = matern(points, queries)
    mean = cross.T @ inverse @ values
    variance = 1.7 - np.einsum("iq,ij,jq->q", cross, inverse, cross)
    np.testing.assert_allclose(found.mean, mean, atol=2e-3)
    np.testing.assert_allclose(found.std, np.sqrt(variance), atol=2e-3)
    kernel = kernels.ConstantKernel(1.7) * kernels.Matern([0.3, 0.8], nu=2.5)
    other = gaussian_process.GaussianProcessRegressor(
        kernel, alpha=NOISE, optimizer=None
    )
    other.fit(points, values)
    mean, std = other.predict(queries, return_std=True)
    np.testing.assert_allclose(found.mean, mean, atol=2e-3)
    np.testing.assert_allclose(found.std, std, atol=2e-3)


def test_the_likelihood_is_that_of_a_multivariate_normal():
    points, values = data()
    covariance = matern(points, points) + NOISE * np.eye(12)
    expected = stats.multivariate_normal(np.zeros(12), covariance).logpdf(values)
    given = (*map(jnp.float32, (points, values)), np.ones(12, bool))
    found = surrogate.log_density(HYPER, *given) - surrogate.log_prior(HYPER)
    assert float(found) == pytest.approx(expected, abs=2e-2)


def test_the_likelihood_has_a_slope_where_points_are_one():
    """Rows that are not filled do, and tests compile as smoke studies do."""
    points = jnp.array([[0.03], [0.33], [0.53], [0.95], [0.0], [0.0]])
    values = jnp.array([1.3, -0.2, -0.9, 0.5, 0.0, 0.0])
    given = points, values, jnp.arange(6) < 4
    begun = surrogate.prior(1)
    slope = jax.jit(jax.grad(surrogate.log_density))(begun, *given)
    for name in begun._fields:
        up, down = (
            surrogate.log_density(
                begun._replace(**{name: getattr(begun, name) + step}), *given
            )
            for step in (0.02, -0.02)
        )
        change = float(up - down) / 0.04
        assert float(jnp.sum(getattr(slope, name))) == pytest.approx(change, rel=2e-2)


def test_rows_that_are_not_filled_change_nothing():
    points, values = data()
    queries = jnp.float32(np.random.default_rng(1).random((5, 2)))
    wide = np.concatenate([points, np.full((6, 2), 0.5)])
    more = np.concatenate([values, np.full(6, 1e6)])
    filled = np.arange(18) < 12
    small = *map(jnp.float32, (points, values)), np.ones(12, bool)
    large = *map(jnp.float32, (wide, more)), filled
    for one, two in zip(
        surrogate.posterior(HYPER, *small, queries),
        surrogate.posterior(HYPER, *large, queries),
        strict=True,
    ):
        np.testing.assert_allclose(one, two, atol=1e-5)
    np.testing.assert_allclose(
        surrogate.log_density(HYPER, *small),
        surrogate.log_density(HYPER, *large),
        atol=1e-3,
    )


def test_fits_find_the_dimension_that_matters():
    points = np.random.default_rng(0).random((40, 2))
    values = np.sin(7 * points[:, 0])
    values = (values - values.mean()) / values.std()
    given = (*map(jnp.float32, (points, values)), np.ones(40, bool))
    begun = surrogate.prior(2)
    found = jax.jit(surrogate.fit, static_argnums=4)(begun, *given, 80)
    assert found.lengths[1] > found.lengths[0] + 1.0
    density = [surrogate.log_density(h, *given) for h in (begun, found)]
    assert density[1] > density[0] + 10.0


def test_spaces_snap_to_levels_and_list_them():
    unit = jnp.array([[0.3, 0.1], [1.4, 0.9]])
    snapped = PLANE.snap(unit)
    np.testing.assert_allclose(snapped, [[0.3, 0.0], [1.0, 1.0]], atol=1e-6)
    np.testing.assert_allclose(PLANE.values(snapped), [[-0.8, 1], [2, 5]], atol=1e-5)
    assert PLANE.size == np.inf and PLANE.grid(3).shape == (15, 2)
    np.testing.assert_array_equal(PLANE.snap(PLANE.grid(3)), PLANE.grid(3))


GRID = bayesian.Space(
    tuple(bayesian.Dimension(name, -2.0, 2.0, levels=9) for name in "xyz")
)


def bowl(x):
    """One optimum at (0.5, -1, 1) of a valley that turns."""
    return (
        (x[0] - 0.5) ** 2
        + 2 * (x[1] + 1 - 0.3 * (x[0] - 0.5)) ** 2
        + 0.5 * (x[2] - 1) ** 2
    )


def ring(x):
    """The same, and only where x + y is at least 0."""
    return bowl(x), jnp.array([-(x[0] + x[1])])


NUM, NUM_INITIAL = 32, 8


@pytest.fixture(scope="module")
def searched():
    """Eight seeds, free and with a constraint.

    One after the other in one program: small searches gain nothing side by side.
    """
    keys = jax.random.split(jax.random.key(0), 8)
    settings = bayesian.Settings(num=NUM, num_initial=NUM_INITIAL, fit_steps=10)

    def every(objective, num_excess):
        def one(key):
            return bayesian.minimise(key, objective, GRID, settings, num_excess)

        return jax.jit(lambda keys: jax.lax.map(one, keys))(keys)

    return every(bowl, 0), every(ring, 1), keys


def test_enumeration_is_exact():
    found = bayesian.enumerate_all(ring, GRID, 1)
    points = GRID.values(GRID.grid())
    values = np.array(jax.vmap(lambda x: ring(x)[0])(points))
    kept = np.asarray(points[:, 0] + points[:, 1] >= 0)
    assert found.num == 729 and found.num_feasible == kept.sum()
    assert float(found.value) == pytest.approx(values[kept].min(), abs=1e-6)
    assert found.point[0] + found.point[1] >= 0


def test_searches_reach_the_enumerated_optimum(searched):
    """Within 2 % of the grid's span in 32 evaluations, of 729 points."""
    free, bound, _ = searched
    for found, objective, count in ((free, bowl, 0), (bound, ring, 1)):
        best = bayesian.enumerate_all(objective, GRID, count)
        span = np.ptp(np.array(jax.vmap(bowl)(GRID.values(GRID.grid()))))
        regret = np.asarray(found.best_value) - float(best.value)
        assert np.all(regret >= -1e-6)
        assert np.all(regret <= 0.02 * span)
        assert np.median(regret) <= 1e-6
    assert np.all(np.asarray(bound.best_point)[:, :2].sum(axis=1) >= 0)


def test_searches_need_fewer_evaluations_than_random_ones(searched):
    free, _, keys = searched
    random = jax.vmap(lambda k: bayesian.random_search(k, bowl, GRID, NUM))(keys)
    best = bayesian.enumerate_all(bowl, GRID).value

    def needed(found):
        reached = np.asarray(found.running_best) <= best + 0.3
        return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, NUM + 1)

    assert needed(free).mean() < 0.7 * needed(random).mean()


def test_refined_searches_keep_a_constraint_that_binds():
    """The best point is on the edge of what is kept; seeds run as one."""
    square = bayesian.Space(tuple(bayesian.Dimension(name, -2.0, 2.0) for name in "xy"))

    def edge(x):  # The least is 0.5, at (0.5, 0.5), and 0 without the constraint.
        return jnp.sum(x**2), jnp.array([1.0 - jnp.sum(x)])

    settings = bayesian.Settings(num=20, num_initial=6, xi=0.01, fit_steps=10)
    search = jax.vmap(lambda k: bayesian.minimise(k, edge, square, settings, 1))
    found = jax.jit(search)(jax.random.split(jax.random.key(0), 6))
    assert np.all(np.isfinite(found.points)) and np.all(np.abs(found.points) <= 2.0)
    assert np.all(np.asarray(found.best_point).sum(axis=1) >= 1.0)
    assert np.all(np.asarray(found.best_value) >= 0.5)
    assert np.median(found.best_value) < 0.51


def test_no_point_of_a_small_grid_is_looked_at_twice(searched):
    rows = np.asarray(searched[0].points)
    design, sought = rows[:, :NUM_INITIAL], rows[:, NUM_INITIAL:]
    for before, after in zip(design, sought, strict=True):
        fresh = NUM - NUM_INITIAL
        assert len(np.unique(after, axis=0)) == fresh
        both = np.concatenate([np.unique(before, axis=0), after])
        assert len(np.unique(both, axis=0)) == len(both)


def test_ask_and_tell_are_the_same_search_for_objectives_in_python():
    settings = bayesian.Settings(num=14, num_initial=5, fit_steps=5)
    state = bayesian.start(jax.random.key(0), PLANE, settings)
    seen = []
    for n in range(14):
        point, state = bayesian.ask(jax.random.key(n), state, PLANE, settings)
        x, count = PLANE.values(point).tolist()
        seen.append((x - 0.7) ** 2 + (round(count) - 2) ** 2)
        assert count == round(count)
        state = bayesian.tell(state, point, seen[-1])
    assert int(state.count) == 14
    np.testing.assert_allclose(state.values, seen, rtol=1e-6)
    assert min(seen) < 0.2 and min(seen) < min(seen[:5]) + 1e-9
    over = bayesian.tell(state, point, -1.0)
    np.testing.assert_array_equal(over.values, state.values)


def test_baselines_keep_their_budgets():
    random = bayesian.random_search(jax.random.key(0), bowl, GRID, 30)
    assert random.points.shape == (30, 3)
    grid = bayesian.grid_search(bowl, GRID, 30)
    assert grid.points.shape == (27, 3)
    assert set(np.unique(grid.points)) == {-2.0, 0.0, 2.0}
    assert np.all(np.diff(np.asarray(grid.running_best)) <= 0)


def test_without_a_feasible_point_the_least_broken_is_told():
    def never(x):
        return bowl(x), jnp.array([1.0 + x[0] ** 2])

    found = bayesian.random_search(jax.random.key(0), never, GRID, 200, 1)
    assert float(found.best_value) == np.inf
    assert float(found.best_point[0]) == 0.0


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: bayesian.Dimension("x", 1, 1), "low"),
        (lambda: bayesian.Dimension("x", 0, np.inf), "finite"),
        (lambda: bayesian.Dimension("x", 0, 1, levels=1), "levels"),
        (lambda: bayesian.Space(()), "dimensions"),
        (lambda: bayesian.Settings(num=5), "num"),
        (lambda: bayesian.Settings(xi=-1.0), "xi"),
        (lambda: bayesian.Settings(num_near=0), "num_near"),
        (lambda: bayesian.Settings(num_refined=-1), "num_refined"),
        (lambda: bayesian.Settings(refine_steps=0), "refine_steps"),
        (lambda: PLANE.grid(), "most"),
        (lambda: bayesian.grid_search(bowl, GRID, 7), "points"),
    ],
)
def test_settings_that_make_no_sense_are_named(make, names):
    with pytest.raises(ValueError, match=names):
        make()


def test_without_tinygp_the_mend_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tinygp", None)
    with pytest.raises(ImportError, match="bayesopt"):
        surrogate.posterior(
            HYPER, jnp.zeros((2, 2)), jnp.zeros(2), jnp.ones(2, bool), 0
        )
