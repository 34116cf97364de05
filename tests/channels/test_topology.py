import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.channels import topology
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM = 20_000


def draw(fn, key, **settings):
    return np.asarray(jax.jit(functools.partial(fn, num_users=NUM, **settings))(key))


def in_hexagon(points, radius):
    """Whether points lie in the hexagon with a corner on the y axis."""
    angles = np.pi / 3.0 * np.arange(3)
    normals = np.stack([np.cos(angles), np.sin(angles)])
    return (np.abs(points @ normals) <= radius * np.sqrt(0.75) * (1 + 1e-6)).all(axis=1)


def test_distances_are_pythagoras():
    a, b = jnp.array([[3.0, 4.0], [0.0, -2.0]]), jnp.array([0.0, 0.0])
    np.testing.assert_allclose(topology.distance_2d(a, b), [5.0, 2.0])
    np.testing.assert_allclose(
        topology.distance_3d(jnp.array([3.0, 0.0]), -4.0), [5, 4]
    )


@pytest.mark.parametrize("min_distance", [0.0, 35.0])
def test_users_in_an_annulus_are_uniform_by_area(min_distance, key):
    users = draw(topology.annulus, key, radius=100.0, min_distance=min_distance)
    r = np.linalg.norm(users, axis=1)
    assert (r >= min_distance * (1 - 1e-6)).all() and (r <= 100.0 * (1 + 1e-6)).all()
    share = (r**2 - min_distance**2) / (100.0**2 - min_distance**2)
    assert stats.kstest(share, "uniform").pvalue > 1e-3
    angle = np.arctan2(users[:, 1], users[:, 0]) / (2.0 * np.pi) + 0.5
    assert stats.kstest(angle, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(share, angle)[0, 1]) < 4.5 / np.sqrt(NUM)


@pytest.mark.parametrize("min_distance", [0.0, 10.0, 80.0])
def test_users_in_a_hexagon_are_as_those_left_by_rejection(min_distance, key):
    users = draw(topology.hexagon, key, radius=100.0, min_distance=min_distance)
    assert in_hexagon(users, 100.0).all()
    assert (np.linalg.norm(users, axis=1) >= min_distance * (1 - 1e-6)).all()
    box = np.random.default_rng(0).uniform(-100.0, 100.0, size=(400_000, 2))
    kept = in_hexagon(box, 100.0) & (np.linalg.norm(box, axis=1) >= min_distance)
    for view in (lambda p: p[:, 0], lambda p: p[:, 1], lambda p: p[:, 0] * p[:, 1]):
        assert stats.ks_2samp(view(users), view(box[kept])).pvalue > 1e-3


def test_users_in_a_hexagon_have_its_polar_moment(key):
    """E r^2 = 5 R^2 / 12 over a full hexagon."""
    users = draw(topology.hexagon, key, radius=1.0)
    squares = np.sum(users.astype(np.float64) ** 2, axis=1)
    error = squares.std() / np.sqrt(NUM)
    assert abs(squares.mean() - 5.0 / 12.0) < 4.5 * error


@pytest.mark.parametrize("num_rings", [0, 1, 2, 3])
def test_sites_tile_the_plane(num_rings):
    sites = np.asarray(topology.hexagonal_sites(num_rings, 100.0))
    assert sites.shape == (1 + 3 * num_rings * (num_rings + 1), 2)
    assert not sites[0].any()
    apart = np.linalg.norm(sites[:, None] - sites, axis=-1)
    np.fill_diagonal(apart, np.inf)
    if num_rings:
        assert apart.min() == pytest.approx(100.0 * np.sqrt(3.0), rel=1e-5)
        neighbours = np.isclose(apart[0], apart.min(), rtol=1e-4)
        assert neighbours.sum() == 6
        # Neighbours share an edge of the cells that `hexagon` draws in.
        assert in_hexagon(sites[neighbours] / 2.0, 100.0).all()
        assert not in_hexagon(sites[neighbours] / 1.99, 100.0).any()


def test_a_batch_of_drops_equals_each_alone(key):
    keys = jax.random.split(key, 3)
    for fn in (topology.annulus, topology.hexagon):
        drop = functools.partial(fn, num_users=4, radius=50.0, min_distance=5.0)
        batch = jax.jit(jax.vmap(drop))(keys)
        np.testing.assert_allclose(batch[1], drop(keys[1]), rtol=1e-4, atol=1e-4)
        assert np.any(batch[0] != batch[1])


def test_gradients_by_positions_equal_finite_differences():
    a, b = np.array([[30.0, 40.0], [-7.0, 3.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])

    @jax.jit
    def total(a, b, height):
        d = topology.distance_2d(a, b)
        return jnp.sum(d**1.5) + jnp.sum(jnp.sin(topology.distance_3d(d, height)))

    gradients.check_against_finite_differences(total, (a, b, 8.5))


def test_gradients_are_finite_where_positions_coincide():
    def distance(a, height):
        return topology.distance_3d(topology.distance_2d(a, jnp.ones(2)), height)

    slopes = jax.jit(jax.grad(distance, (0, 1)))(jnp.ones(2), 0.0)
    jax.tree.map(lambda slope: np.testing.assert_array_equal(slope, 0.0), slopes)


@pytest.mark.parametrize("min_distance", [-1.0, 100.0, float("nan")])
def test_a_hole_that_does_not_fit_is_refused(min_distance, key):
    with pytest.raises(ValueError, match=r"min_distance must lie in \[0, radius\)"):
        topology.annulus(key, 3, 100.0, min_distance)
    with pytest.raises(ValueError, match=r"min_distance .*here \[0, 86\.6025\) m"):
        topology.hexagon(key, 3, 100.0, min_distance)


@pytest.mark.parametrize("num_rings", [-1, 1.0, True])
def test_a_senseless_number_of_rings_is_refused(num_rings):
    with pytest.raises(ValueError, match="num_rings"):
        topology.hexagonal_sites(num_rings, 100.0)
