import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import shadowing
from m3jax.ops.quantities import Db, Ratio
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM = 20_000


def assert_covariance(samples, std, correlation):
    """``samples [NUM, K]`` have this covariance, to 4.5 standard errors."""
    samples = np.asarray(samples, np.float64)
    found = samples.T @ samples / len(samples) / np.outer(std, std)
    # Var of the mean product of normals with unit variance: (1 + rho^2) / n.
    error = np.sqrt((1.0 + correlation**2) / len(samples))
    np.testing.assert_array_less(np.abs(found - correlation), 4.5 * error)
    np.testing.assert_array_less(
        np.abs(samples.mean(axis=0)), 4.5 * np.asarray(std) / np.sqrt(len(samples))
    )


def test_correlation_along_a_path_falls_with_the_way_moved(key):
    """Of unequal steps: exp(-|x_i - x_j| / d_corr) between any two samples."""
    moved, std, d_corr = np.array([5.0, 0.0, 20.0, 1.0, 60.0]), 6.0, 25.0
    path = jax.jit(shadowing.along_path, static_argnames="shape")(
        key, moved, Db(std), d_corr, shape=(NUM,)
    )
    assert path.value.shape == (6, NUM)
    np.testing.assert_array_equal(path.value[1], path.value[2])  # nobody moved
    where = np.concatenate([[0.0], np.cumsum(moved)])
    correlation = np.exp(-np.abs(where[:, None] - where) / d_corr)
    assert_covariance(path.value.T, np.full(6, std), correlation)


def test_a_step_has_the_law_of_a_path_with_settings_of_each_user(key):
    std, d_corr = np.array([4.0, 8.0]), np.array([10.0, 50.0])
    start_key, step_key = jax.random.split(key)

    @jax.jit
    def before_and_after():
        start = shadowing.draw(start_key, Db(std), (NUM, 2))
        after = shadowing.step(step_key, start, 15.0, Db(std), d_corr)
        return jnp.concatenate([start.value, after.value], axis=1)

    both = before_and_after()
    correlation = np.eye(4)
    for user in range(2):
        rho = np.exp(-15.0 / d_corr[user])
        correlation[user, user + 2] = correlation[user + 2, user] = rho
    assert_covariance(both, np.tile(std, 2), correlation)


def test_very_short_steps_keep_their_noise_in_float32(key):
    """1 - rho^2 is 2e-7 here; in float32 it would come out a fifth too large."""
    after = jax.jit(shadowing.step)(key, Db(jnp.zeros(NUM)), 1e-7, Db(1.0), 1.0)
    ratio = np.std(np.asarray(after.value)) / np.sqrt(2e-7)
    assert ratio == pytest.approx(1.0, abs=4.5 / np.sqrt(2 * NUM))


def test_users_near_each_other_are_shadowed_alike(key):
    users = jnp.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [-90.0, 0.0]])
    std, d_corr = np.array([4.0, 6.0, 6.0, 8.0]), 10.0
    keys = jax.random.split(key, NUM)
    draw = functools.partial(
        shadowing.correlated,
        positions=users,
        std=Db(std),
        correlation_distance=d_corr,
    )
    drawn = jax.jit(jax.vmap(draw))(keys)
    apart = np.linalg.norm(np.asarray(users)[:, None] - np.asarray(users), axis=-1)
    assert_covariance(drawn.value, std, np.exp(-apart / d_corr))
    np.testing.assert_allclose(drawn.value[0], draw(keys[0]).value, rtol=1e-4)


def test_a_crowd_in_one_place_is_no_trouble_in_float32(key):
    users = jnp.zeros((100, 2))

    @jax.jit
    def draw(users):
        return shadowing.correlated(key, users, Db(4.0), 10.0).value

    drawn = np.asarray(draw(users))
    assert np.isfinite(drawn).all() and drawn.std() < 0.1
    slope = jax.jit(jax.grad(lambda users: jnp.sum(draw(users))))(users)
    gradients.assert_finite(slope, "gradient")


def test_gradients_equal_finite_differences(key):
    users = np.array([[0.0, 0.0], [30.0, 4.0], [-10.0, 20.0]])
    weights = np.array([1.0, -2.0, 3.0])

    @jax.jit
    def total(users, moved, std, d_corr):
        together = shadowing.correlated(key, users, std, d_corr)
        path = shadowing.along_path(key, moved, std, d_corr)
        return jnp.sum(weights * together.value) + jnp.sum(path.value**2)

    gradients.check_against_finite_differences(
        total, (users, np.array([3.0, 9.0]), Db(4.0), 25.0), rtol=1e-4
    )


def test_who_does_not_move_has_finite_gradients(key):
    def loss(moved):
        return jnp.sum(shadowing.along_path(key, moved, Db(4.0), 25.0).value)

    gradients.assert_finite(jax.jit(jax.grad(loss))(jnp.zeros(3)), "gradient")


def test_keys_are_used_once_and_decide_all(key):
    args = jnp.ones(4), Db(4.0), 10.0

    def use_each(path_key, step_key, together_key):
        path = shadowing.along_path(path_key, *args)
        shadowing.step(step_key, Db(1.0), 1.0, Db(4.0), 10.0)
        shadowing.correlated(together_key, jnp.ones((2, 2)), Db(4.0), 10.0)
        return path.value

    keys = jax.random.split(key, 3)
    with jax.debug_key_reuse(True):
        jitted = jax.jit(use_each)(*map(jax.random.clone, keys))
    eager = shadowing.along_path(keys[0], *args).value
    np.testing.assert_allclose(jitted, eager, rtol=1e-5)


def test_a_standard_deviation_that_is_no_decibel_is_refused(key):
    with pytest.raises(TypeError, match="std must be Db, got a bare number"):
        shadowing.along_path(key, jnp.ones(3), 4.0, 10.0)
    with pytest.raises(TypeError, match="std must be Db, got Ratio; .*to_db"):
        shadowing.correlated(key, jnp.ones((3, 2)), Ratio(4.0), 10.0)
