"""The checker of edges finds each kind of fault, and lets what is right pass."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from m3jax import testing
from m3jax.testing import completeness
from m3jax.testing.edge_values import Row, check

VALUES = jnp.array([0.5, -2.0, 1.5])
MASK = jnp.ones(3, bool)


def square_sum(x):
    return jnp.sum(x**2)


def float_square_sum(x):
    return jnp.sum(jnp.asarray(x * 1.0) ** 2)


def scan_sum(x):
    return lax.scan(lambda total, y: (total + 0.5 * y, None), x[0] * 0, x)[0]


def floor_by_comparison(x):
    return jnp.where(x > 0.0, 1.0, 0.0)


def with_check(x):
    if x.ndim == 0 or not len(x):
        raise ValueError("x is empty.")
    return x * 1.0


def multiplied_mean(x, mask):
    return jnp.sum(x * mask.astype(x.dtype)) / jnp.maximum(jnp.sum(mask), 1)


def replaced_mean(x, mask):
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def replaced_mean_without_floor(x, mask):
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.sum(mask)


def unlike_when_traced(x):
    return x * 2.0 if isinstance(x, jax.core.Tracer) else x * 1.0


def raw_error(x):
    return jnp.concatenate([x, jnp.ones((2, 2))]) * 1.0


def takes_no_zero(x):
    if not isinstance(x, jax.core.Tracer) and not jnp.all(x != 0.0):
        raise ValueError("x must not be 0.")
    return jnp.where(x != 0.0, 1.0, jnp.nan)


FAULTS = {
    "wraps": (Row(square_sum, (VALUES,)), "as int32"),
    "raw scan error": (
        Row(scan_sum, (VALUES,), inf="any", ninf="any", huge="any"),
        "not a clear error",
    ),
    "NaN swallowed": (
        Row(floor_by_comparison, (VALUES,)),
        "nan., compiled: expected nan",
    ),
    "0 times NaN": (Row(multiplied_mean, (VALUES, MASK), mask=1), "masked NaN"),
    "nobody": (Row(replaced_mean_without_floor, (VALUES, MASK), mask=1), "all masked"),
    "eager and compiled": (Row(unlike_when_traced, (VALUES,)), "differs from eager"),
    "raw shape error": (Row(raw_error, (VALUES,)), "not a clear error"),
    "gradient": (
        Row(jnp.sqrt, (VALUES[2:],), ninf="nan", grad="zero", skip="uint8"),
        "zero",
    ),
    "limit": (Row(float_square_sum, (VALUES,), inf=1.0), "not 1.0"),
    "declared error": (Row(float_square_sum, (VALUES,), huge="error"), "no error"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_kind_of_fault_is_found(name):
    row, message = FAULTS[name]
    with pytest.raises(AssertionError, match=message):
        check(row, dtypes=["int32"])


def test_what_is_right_passes():
    check(Row(float_square_sum, (VALUES,), inf=jnp.inf, huge=jnp.inf, grad="zero"))
    check(Row(with_check, (VALUES,)))
    check(Row(replaced_mean, (VALUES, MASK), mask=1))
    row = Row(takes_no_zero, (VALUES,), zero="error", nan="any")
    check(row, dtypes=["uint8"])


def test_missing_names_what_has_no_row_and_what_is_stale():
    exempt = {"dummy.*": "outside", "gone.*": "stale", "traces.CountTraces": "a class"}
    covered = [Row(completeness.missing, ()).covers, "m3jax.testing.nothing"]
    lines = completeness.missing(testing, covered, exempt)
    assert "no row: edge_values.check" in lines
    assert "exempt, but not there: gone.*" in lines
    assert "row of nothing: nothing" in lines
    quiet = ("completeness.missing", "dummy", "CountTraces")
    assert not any(name in line for line in lines for name in quiet)
