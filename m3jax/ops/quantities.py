"""Numbers with a unit, for link budgets: what physics forbids is a ``TypeError``.

The tables below hold everything that is allowed; anything else is refused with the two
kinds named and the conversion that mends it. A bare number has no unit: it scales any
kind but ``Dbm`` and adds to a ``Ratio`` only. Each kind is a pytree with one leaf,
``value``, so all of it works under ``jit``, ``vmap`` and ``grad``.

    sum         Dbm + Db = Dbm,  and Db, Watt, Joule, Hertz, Ratio each with its own
    difference  Dbm - Db = Dbm,  Dbm - Dbm = Db,  and each but Dbm with its own
    product     Watt, Joule, Hertz, Ratio by Ratio or number;  Db by number;
                Joule * Hertz = Watt
    quotient    like by like = Ratio;  Watt / Hertz = Joule;  Watt / Joule = Hertz;
                Watt, Joule, Hertz, Ratio by Ratio or number;  Db by number
    order       each with its own
"""

import dataclasses
import operator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import numbers, units

_DB_OF_MILLI = -30.0
_NUMBERS = (int, float, np.ndarray, np.generic, jax.Array)


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What all kinds share: one value, and arithmetic by the tables.

    Attributes:
      value: a number or an array of any shape, traced or not; integers become floats.

    Raises:
      TypeError: if the value is itself a quantity, or text.
    """

    value: base.Array | float
    unit: ClassVar[str]
    # NumPy arrays then leave `array + quantity` to the quantity.
    __array_ufunc__ = None

    def __post_init__(self):
        if isinstance(self.value, (Quantity, str)):
            raise TypeError(
                f"{type(self).__name__} takes a number in {self.unit}, got "
                f"{self.value!r}{_conversion(type(self.value), type(self))}."
            )
        value = numbers.host_float(self.value)
        if isinstance(value, jax.Array) and value.dtype.kind in "iub":
            value = numbers.as_float(value)
        object.__setattr__(self, "value", value)

    def __add__(self, other):
        return _combine("+", self, other)

    def __radd__(self, other):
        return _combine("+", other, self)

    def __sub__(self, other):
        return _combine("-", self, other)

    def __rsub__(self, other):
        return _combine("-", other, self)

    def __mul__(self, other):
        return _combine("*", self, other)

    def __rmul__(self, other):
        return _combine("*", other, self)

    def __truediv__(self, other):
        return _combine("/", self, other)

    def __rtruediv__(self, other):
        return _combine("/", other, self)

    def __lt__(self, other):
        return _combine("<", self, other)

    def __le__(self, other):
        return _combine("<=", self, other)

    def __gt__(self, other):
        return _combine(">", self, other)

    def __ge__(self, other):
        return _combine(">=", self, other)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dbm(Quantity):
    """A power in decibels over one milliwatt.

    Example:
      >>> Dbm(23.0) + Db(8.0) - Db(100.0)
      Dbm(value=-69.0)
      >>> Dbm(23.0) + Dbm(23.0)
      Traceback (most recent call last):
      TypeError: Dbm + Dbm has no physical meaning; convert both with .to_w().
    """

    unit: ClassVar[str] = "dBm"

    def to_w(self) -> "Watt":
        """The power in watts: ``10^((dBm - 30) / 10)``."""
        return Watt(units.db_to_lin(self.value + _DB_OF_MILLI))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Db(Quantity):
    """A ratio of powers in decibels: a gain, a loss, an SNR."""

    unit: ClassVar[str] = "dB"

    def to_ratio(self) -> "Ratio":
        """The linear ratio: ``10^(dB / 10)``."""
        return Ratio(units.db_to_lin(self.value))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ratio(Quantity):
    """A linear ratio of powers, or anything else without a unit."""

    unit: ClassVar[str] = "1"

    def to_db(self) -> Db:
        """The ratio in decibels: ``10 log10``; 0 gives ``-inf``."""
        return Db(units.lin_to_db(self.value))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Watt(Quantity):
    """A power in watts."""

    unit: ClassVar[str] = "W"

    def to_dbm(self) -> Dbm:
        """The power in dBm: ``10 log10(W) + 30``; 0 gives ``-inf``."""
        return Dbm(units.lin_to_db(self.value) - _DB_OF_MILLI)

    def sum(self, axis: int | None = None) -> "Watt":
        """The total power of several sources, over an axis or all of them."""
        return Watt(jnp.sum(self.value, axis=axis))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Joule(Quantity):
    """An energy in joules, which is also a power density in watts per hertz."""

    unit: ClassVar[str] = "J"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hertz(Quantity):
    """A frequency, a bandwidth or a rate in hertz."""

    unit: ClassVar[str] = "Hz"


def require(value: Any, kind: type[Quantity], name: str) -> None:
    """Refuses a bare number or a quantity of another kind.

    Anything else passes, since JAX puts placeholders into pytrees.

    Args:
      value: what was given.
      kind: what it must be.
      name: its name in the message.

    Raises:
      TypeError: naming the argument, both kinds and the mend.
    """
    if isinstance(value, kind) or not isinstance(value, (Quantity, *_NUMBERS)):
        return
    given = _kind(value)
    mend = _conversion(given, kind)
    if given is float:
        mend = f"; write {kind.__name__}(...) around a number in {kind.unit}"
    raise TypeError(f"{name} must be {kind.__name__}, got {_name(given)}{mend}.")


_LINEAR = (Watt, Joule, Hertz, Ratio)
_ALIKE = {(kind, kind): kind for kind in (*_LINEAR, Db)}
_WITH_ONE = {(Ratio, float): Ratio, (float, Ratio): Ratio}
_SCALED = {(kind, by): kind for kind in _LINEAR for by in (Ratio, float)}
_SCALED[Db, float] = Db
_ORDERED = {(kind, kind): jnp.asarray for kind in (*_LINEAR, Db, Dbm)}
_PRODUCTS = {**_SCALED, (Joule, Hertz): Watt}

# symbol -> (left kind, right kind) -> kind of the result; float: a bare number.
_LAWS = {
    "+": {**_ALIKE, **_WITH_ONE, (Dbm, Db): Dbm, (Db, Dbm): Dbm},
    "-": {**_ALIKE, **_WITH_ONE, (Dbm, Db): Dbm, (Dbm, Dbm): Db},
    "*": {**_PRODUCTS, **{(b, a): kind for (a, b), kind in _PRODUCTS.items()}},
    "/": {
        **_SCALED,
        **{(kind, kind): Ratio for kind in _LINEAR},
        (Watt, Hertz): Joule,
        (Watt, Joule): Hertz,
        (float, Ratio): Ratio,
    },
    **dict.fromkeys(("<", "<=", ">", ">="), _ORDERED),
}
_CONVERSIONS = {
    Dbm: (Watt, ".to_w()"),
    Watt: (Dbm, ".to_dbm()"),
    Db: (Ratio, ".to_ratio()"),
    Ratio: (Db, ".to_db()"),
}


@jax.custom_jvp
def _divide(a: base.Array, b: base.Array) -> base.Array:
    """``a / b`` whose slope is not lost in float32.

    JAX's own has ``b^-2`` in it, which overflows for a noise density of 4e-21 J.
    """
    return a / b


@_divide.defjvp
def _divide_jvp(primals, tangents):
    (a, b), (a_dot, b_dot) = primals, tangents
    quotient = _divide(a, b)
    return quotient, (a_dot - quotient * b_dot) / b


_OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: _divide(*jnp.broadcast_arrays(*numbers.as_floats(a, b))),
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _combine(symbol: str, left: Any, right: Any) -> Any:
    if not all(isinstance(side, (Quantity, *_NUMBERS)) for side in (left, right)):
        return NotImplemented
    kinds = _kind(left), _kind(right)
    if kinds not in _LAWS[symbol]:
        raise TypeError(
            f"{_name(kinds[0])} {symbol} {_name(kinds[1])} has no physical meaning; "
            f"{_mend(symbol, *kinds)}."
        )
    values = (
        numbers.host_float(getattr(side, "value", side)) for side in (left, right)
    )
    return _LAWS[symbol][kinds](_OPERATIONS[symbol](*values))


def _mend(symbol: str, left: type, right: type) -> str:
    """The conversion that makes the expression legal, if there is one."""
    if float in (left, right) and symbol not in ("*", "/"):
        other = right if left is float else left
        unit = Db if other is Dbm and symbol in ("+", "-") else other
        return f"give the number its unit, such as {unit.__name__}(...)"
    to_left, by_left = _CONVERSIONS.get(left, (None, ""))
    to_right, by_right = _CONVERSIONS.get(right, (None, ""))
    if (left, to_right) in _LAWS[symbol]:
        return f"convert the {right.__name__} with {by_right}"
    if (to_left, right) in _LAWS[symbol]:
        return f"convert the {left.__name__} with {by_left}"
    if (to_left, to_right) in _LAWS[symbol]:
        both = by_left if left is right else f"{by_left} and {by_right}"
        return f"convert both with {both}"
    return "and no conversion gives it one"


def _conversion(given: type, wanted: type) -> str:
    kind, method = _CONVERSIONS.get(given, (None, ""))
    return f"; convert it with {method}" if kind is wanted else ""


def _kind(side: Any) -> type:
    return type(side) if isinstance(side, Quantity) else float


def _name(kind: type) -> str:
    return "a bare number" if kind is float else kind.__name__
