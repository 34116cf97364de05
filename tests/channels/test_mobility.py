import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.channels import mobility
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")


def walk(start, velocity, time, half_width, num_steps=20_000):
    """The same motion in small steps, turned round at each wall that is hit."""
    position, velocity = start.copy(), velocity.copy()
    for _ in range(num_steps):
        position += velocity * time / num_steps
        beyond = np.abs(position) > half_width
        velocity[beyond] *= -1.0
        position[beyond] = 2 * half_width * np.sign(position[beyond]) - position[beyond]
    return position


def test_positions_equal_a_walk_in_small_steps():
    rng = np.random.default_rng(0)
    start, velocity = rng.uniform(-50, 50, (6, 2)), rng.normal(size=(6, 2)) * 20.0
    found = mobility.straight_line(start, velocity, 37.0, half_width=50.0)
    np.testing.assert_allclose(found, walk(start, velocity, 37.0, 50.0), atol=1e-2)


def test_the_way_moved_is_speed_times_time_between_walls():
    times = jnp.arange(50) * 0.1
    path = jax.jit(jax.vmap(mobility.straight_line, (None, None, 0, None)))(
        jnp.array([0.0, 9.0]), jnp.array([3.0, 4.0]), times, 10.0
    )
    moved = np.linalg.norm(np.diff(path, axis=0), axis=1)
    # A step across a wall ends short of it: only those are less than 0.5 m.
    assert (moved < 0.5 + 1e-4).all() and np.median(moved) == pytest.approx(0.5, 1e-4)
    assert (np.abs(path) <= 10.0).all()


def test_users_spread_evenly_stay_so(key):
    start = np.random.default_rng(0).uniform(-1.0, 1.0, size=(20_000, 2))

    @jax.jit
    def move(key):
        velocity = mobility.draw_velocities(key, 20_000, 1.4)
        return mobility.straight_line(start, velocity, 12.3, 1.0)

    after = np.asarray(move(key))
    for axis in (0, 1):
        assert stats.kstest(after[:, axis], "uniform", args=(-1, 2)).pvalue > 1e-3
    assert abs(np.corrcoef(after.T)[0, 1]) < 4.5 / np.sqrt(20_000)


def test_velocities_have_their_speed_in_every_direction(key):
    speed = jnp.array([3.0, 10.0, 30.0] * 5_000)
    draw = jax.jit(mobility.draw_velocities, static_argnums=1)
    velocity = np.asarray(draw(key, 15_000, speed))
    np.testing.assert_allclose(np.linalg.norm(velocity, axis=1), speed, rtol=1e-5)
    heading = np.arctan2(velocity[:, 1], velocity[:, 0]) / (2.0 * np.pi) + 0.5
    assert stats.kstest(heading, "uniform").pvalue > 1e-3


def test_gradients_equal_finite_differences():
    start, velocity = np.array([3.0, -2.0]), np.array([5.0, 1.5])

    @jax.jit
    def total(start, velocity, time, half_width):
        end = mobility.straight_line(start, velocity, time, half_width)
        return jnp.sum(jnp.sin(end))

    gradients.check_against_finite_differences(total, (start, velocity, 7.7, 10.0))
