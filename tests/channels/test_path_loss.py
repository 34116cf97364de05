import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import path_loss
from m3jax.ops.quantities import Db, Hertz, Ratio
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize(
    ("distance", "carrier", "loss"),
    [
        # 32.45 + 20 log10(d / km) + 20 log10(f / MHz), the engineer's form of Friis.
        (1000.0, 1e6, 32.4478),
        (1000.0, 1e9, 92.4478),
        (100.0, 3.5e9, 32.4478 - 20.0 + 70.8814),
        (384.4e6, 2.2e9, 32.4478 + 111.6956 + 66.8485),  # the moon
    ],
)
def test_free_space_equals_friis(distance, carrier, loss):
    found = path_loss.free_space(distance, Hertz(carrier)).value
    assert float(found) == pytest.approx(loss, abs=2e-3)


def test_free_space_never_gives_a_gain():
    distances = jnp.array([0.0, 1e-3, path_loss.LIGHT_SPEED / 4 / np.pi / 1e9])
    loss = path_loss.free_space(distances, Hertz(1e9)).value
    np.testing.assert_allclose(loss, 0.0, atol=1e-5)


def test_log_distance_grows_by_the_exponent_each_decade_from_the_reference():
    loss = path_loss.log_distance(jnp.array([0.0, 5.0, 50.0, 5e3]), 3.2, Db(40.0), 5.0)
    np.testing.assert_allclose(loss.value, [40.0, 40.0, 72.0, 136.0], rtol=1e-5)


def test_free_space_is_log_distance_of_exponent_two():
    distance, carrier = jnp.array([3.0, 20.0, 700.0]), Hertz(5e9)
    reference = path_loss.free_space(1.0, carrier)
    np.testing.assert_allclose(
        path_loss.log_distance(distance, 2, reference).value,
        path_loss.free_space(distance, carrier).value,
        rtol=1e-5,
    )


def both(distance, carrier, exponent):
    free = path_loss.free_space(distance, carrier)
    return free + path_loss.log_distance(distance, exponent, Db(30.0))


def test_gradients_equal_finite_differences():
    gradients.check_against_finite_differences(
        jax.jit(lambda *args: both(*args).value), (120.0, Hertz(3.5), 3.0), rtol=1e-4
    )


def test_gradients_are_finite_at_no_distance():
    slopes = jax.jit(jax.grad(lambda *args: both(*args).value, (0, 1, 2)))
    grads = slopes(0.0, Hertz(3e9), 3.0)
    gradients.assert_finite(grads, "gradients")


def test_wrong_arguments_are_refused_by_name():
    with pytest.raises(
        TypeError, match=r"carrier must be Hertz.*write Hertz\(\.\.\.\)"
    ):
        path_loss.free_space(10.0, 3.5e9)
    with pytest.raises(
        TypeError, match=r"reference_loss must be Db, got Ratio; .*to_db"
    ):
        path_loss.log_distance(10.0, 3.0, Ratio(100.0))
    with pytest.raises(ValueError, match="reference_distance"):
        path_loss.log_distance(10.0, 3.0, Db(40.0), reference_distance=0.0)
