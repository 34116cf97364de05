import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops import units


def test_decibels_equal_the_definition_and_return():
    db = np.linspace(-40.0, 60.0, 21)
    lin = units.db_to_lin(jnp.float32(db))
    np.testing.assert_allclose(lin, 10.0 ** (db / 10.0), rtol=1e-5)
    np.testing.assert_allclose(units.lin_to_db(lin), db, atol=1e-4)


def test_integers_are_decibels_too():
    assert float(units.db_to_lin(jnp.int32(10))) == pytest.approx(10.0, rel=1e-6)


def test_infinite_decibels_are_an_infinite_ratio_with_zero_slope():
    value, slope = jax.value_and_grad(units.db_to_lin)(jnp.inf)
    assert np.isposinf(value)
    assert slope == 0.0


def test_slope_equals_the_analytic_one():
    slope = jax.grad(units.db_to_lin)(10.0)
    assert float(slope) == pytest.approx(np.log(10.0), rel=1e-5)


@pytest.mark.parametrize("values", [10, [0.0, 5.0], [float("inf")], np.zeros((2, 2))])
def test_good_snrs_pass_unchanged(values):
    checked = units.check_snr_db(values)
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, values)


@pytest.mark.parametrize(
    "values", [float("nan"), [1.0, float("nan")], float("-inf"), [], "loud", None]
)
def test_bad_snrs_are_refused_by_name(values):
    with pytest.raises(ValueError, match="snr_db"):
        units.check_snr_db(values)
