import itertools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops import quantities
from m3jax.ops.quantities import Db, Dbm, Hertz, Joule, Ratio, Watt
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
OPERATORS |= {"/": operator.truediv, "<": operator.lt, ">=": operator.ge}
KINDS = (Dbm, Db, Watt, Joule, Hertz, Ratio, float)

# Written out by hand, result first: everything that physics allows.
ALLOWED = """
    Dbm = Dbm + Db      Dbm = Db + Dbm      Db = Db + Db        Watt = Watt + Watt
    Joule = Joule + Joule                   Hertz = Hertz + Hertz
    Ratio = Ratio + Ratio                   Ratio = Ratio + float
    Ratio = float + Ratio
    Dbm = Dbm - Db      Db = Dbm - Dbm      Db = Db - Db        Watt = Watt - Watt
    Joule = Joule - Joule                   Hertz = Hertz - Hertz
    Ratio = Ratio - Ratio                   Ratio = Ratio - float
    Ratio = float - Ratio
    Watt = Watt * Ratio     Watt = Ratio * Watt     Watt = Watt * float
    Watt = float * Watt     Joule = Joule * Ratio   Joule = Ratio * Joule
    Joule = Joule * float   Joule = float * Joule   Hertz = Hertz * Ratio
    Hertz = Ratio * Hertz   Hertz = Hertz * float   Hertz = float * Hertz
    Ratio = Ratio * Ratio   Ratio = Ratio * float   Ratio = float * Ratio
    Db = Db * float         Db = float * Db
    Watt = Joule * Hertz    Watt = Hertz * Joule
    Ratio = Watt / Watt     Ratio = Joule / Joule   Ratio = Hertz / Hertz
    Ratio = Ratio / Ratio   Joule = Watt / Hertz    Hertz = Watt / Joule
    Watt = Watt / Ratio     Watt = Watt / float     Joule = Joule / Ratio
    Joule = Joule / float   Hertz = Hertz / Ratio   Hertz = Hertz / float
    Ratio = Ratio / float   Ratio = float / Ratio   Db = Db / float
""".split()
ALLOWED = {tuple(ALLOWED[i + 2 : i + 5]): ALLOWED[i] for i in range(0, len(ALLOWED), 5)}


def pairs(symbol):
    for left, right in itertools.product(KINDS, KINDS):
        if (left, right) != (float, float):
            yield left, right, (left.__name__, symbol, right.__name__)


@pytest.mark.parametrize("symbol", ["+", "-", "*", "/"])
def test_arithmetic_is_allowed_exactly_where_physics_allows_it(symbol):
    for left, right, expression in pairs(symbol):
        if expression not in ALLOWED:
            with pytest.raises(TypeError, match="has no physical meaning") as told:
                OPERATORS[symbol](left(6.0), right(2.0))
            for kind in (left, right):
                name = "a bare number" if kind is float else kind.__name__
                assert name in str(told.value)
        else:
            result = OPERATORS[symbol](left(6.0), right(2.0))
            assert type(result).__name__ == ALLOWED[expression]
            assert float(result.value) == OPERATORS[symbol](6.0, 2.0)


@pytest.mark.parametrize("symbol", ["<", ">="])
def test_only_like_compares_with_like(symbol):
    for left, right, _ in pairs(symbol):
        if left is right:
            found = OPERATORS[symbol](left(6.0), right(2.0))
            assert bool(found) == OPERATORS[symbol](6.0, 2.0)
        else:
            with pytest.raises(TypeError, match="no physical meaning"):
                OPERATORS[symbol](left(6.0), right(2.0))


@pytest.mark.parametrize(
    ("expression", "mend"),
    [
        (lambda: Dbm(3.0) + Dbm(3.0), "convert both with .to_w()"),
        (lambda: Db(3.0) + Ratio(2.0), "convert the Ratio with .to_db()"),
        (lambda: Dbm(3.0) + Watt(1.0), "convert the Dbm with .to_w()"),
        (lambda: Watt(1.0) + Db(3.0), "convert the Watt with .to_dbm()"),
        (lambda: Watt(1.0) * Db(3.0), "convert the Db with .to_ratio()"),
        (lambda: Dbm(3.0) + 3.0, "such as Db(...)"),
        (lambda: 3.0 - Dbm(3.0), "such as Db(...)"),
        (lambda: Hertz(3.0) + 3.0, "such as Hertz(...)"),
        (lambda: Dbm(3.0) * 2, "convert the Dbm with .to_w()"),
        (lambda: Db(3.0) * Db(3.0), "convert both with .to_ratio()"),
        (lambda: Hertz(3.0) + Watt(3.0), "no conversion gives it one"),
        (lambda: np.ones(2) + Dbm(3.0), "such as Db(...)"),
        (lambda: np.float32(1.0) - Db(3.0), "such as Db(...)"),
        (lambda: jnp.ones(2) + Watt(3.0), "such as Watt(...)"),
        (lambda: Watt(Dbm(3.0)), "convert it with .to_w()"),
        (lambda: Hertz(Dbm(3.0)), "Hertz takes a number in Hz"),
        (lambda: Db("3 dB"), "Db takes a number in dB"),
    ],
)
def test_the_refusal_says_how_to_mend_it(expression, mend):
    with pytest.raises(TypeError) as told:
        expression()
    assert mend in str(told.value)


def test_other_objects_are_left_to_python():
    with pytest.raises(TypeError, match="unsupported operand"):
        Dbm(1.0) + "1 dB"


def test_powers_add_in_watts_and_not_in_dbm():
    both = (Dbm(20.0).to_w() + Dbm(20.0).to_w()).to_dbm()
    assert float(both.value) == pytest.approx(20.0 + 10.0 * np.log10(2.0), abs=1e-4)
    three = Watt(jnp.full((3, 2), 0.1)).sum(axis=0)
    np.testing.assert_allclose(three.to_dbm().value, 10 * np.log10(300.0), atol=1e-4)


def test_conversions_equal_their_definitions_and_return():
    dbm = np.linspace(-170.0, 60.0, 24)
    watts = Dbm(jnp.float32(dbm)).to_w()
    np.testing.assert_allclose(watts.value, 1e-3 * 10.0 ** (dbm / 10.0), rtol=2e-5)
    np.testing.assert_allclose(watts.to_dbm().value, dbm, atol=1e-4)
    assert float(Db(10.0).to_ratio().to_db().value) == pytest.approx(10.0, abs=1e-5)
    assert np.isneginf(Watt(0.0).to_dbm().value)


@pytest.mark.parametrize("size", [4e-21, 1e-14, 1.0, 1e10])
def test_division_keeps_its_slope_at_sizes_where_jax_loses_it(size):
    """d(a/b)/db = -a / b^2, with b^2 far below the least float32."""

    def quotient(a, b):
        return (Joule(a) / Joule(b)).value

    by_a, by_b = jax.grad(quotient, (0, 1))(jnp.float32(size), jnp.float32(2.0 * size))
    np.testing.assert_allclose(by_a, 0.5 / size, rtol=1e-5)
    np.testing.assert_allclose(by_b, -0.25 / size, rtol=1e-5)


def snr(power, gain, bandwidth, figure):
    density = Joule(4e-3) * figure.to_ratio() + Joule(1e-3)
    received = (power + gain).to_w() + Watt(0.5)
    return received / (density * bandwidth)


def test_quantities_pass_through_jit_vmap_and_grad():
    args = Dbm(jnp.arange(3.0)), Db(2.0), Hertz(5.0), Db(1.0)
    eager = snr(*args).value
    expected = (1e-3 * 10 ** ((np.arange(3) + 2.0) / 10) + 0.5) / (
        5.0 * (4e-3 * 10**0.1 + 1e-3)
    )
    np.testing.assert_allclose(eager, expected, rtol=1e-5)
    mapped = jax.jit(jax.vmap(snr, (0, None, None, None)))(*args)
    assert isinstance(mapped, Ratio)
    np.testing.assert_allclose(mapped.value, expected, rtol=1e-5)


def test_gradients_equal_finite_differences():
    gradients.check_against_finite_differences(
        jax.jit(lambda *args: snr(*args).value),
        (Dbm(30.0), Db(2.0), Hertz(5.0), Db(1.0)),
    )


def test_an_argument_of_another_kind_is_refused_by_name():
    quantities.require(Dbm(1.0), Dbm, "power")
    quantities.require(None, Dbm, "power")  # a placeholder in a pytree
    for given, mend in [
        (Watt(1.0), r"power must be Dbm, got Watt; convert it with \.to_dbm\(\)\."),
        (Db(1.0), r"power must be Dbm, got Db\."),
        (1.0, r"got a bare number; write Dbm\(\.\.\.\) around a number in dBm"),
        (jnp.ones(2), "got a bare number"),
    ]:
        with pytest.raises(TypeError, match=mend):
            quantities.require(given, Dbm, "power")
