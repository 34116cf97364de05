"""Types and ranges of a config's fields, all the way down."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import pytest

from m3jax.train import typed_fields


class Promised(Protocol):
    def validate(self) -> None: ...


@dataclasses.dataclass
class Inner:
    rate: float = 1.0
    count: int | None = None

    RANGES: ClassVar = {"rate": "(0, 1]", "count": "[1, inf)"}


@dataclasses.dataclass
class Config:
    steps: int = 1
    flag: bool = False
    name: str = "a"
    kind: Literal["x", "y"] = "x"
    pair: tuple[float, float] = (0.0, 1.0)
    nested: tuple[tuple[int, ...], ...] = ((1,), ())
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    inner: Inner = dataclasses.field(default_factory=Inner)
    maybe: Inner | None = None
    part: Promised = dataclasses.field(default_factory=Inner)
    anything: Any = None


def with_field(path, value):
    config = Config()
    *parents, name = path.split(".")
    holder = config
    for parent in parents:
        holder = getattr(holder, parent)
    setattr(holder, name, value)
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("steps", 2**32 - 1),
        ("pair", (1, math.inf)),
        ("pair", [0.0, 1.0]),
        ("nested", ((1, 2), (3,))),
        ("weights", {"a": 1}),
        ("maybe", Inner()),
        ("inner.rate", 1),
        ("inner.count", None),
        ("anything", object()),
    ],
)
def test_what_fits_passes(path, value):
    typed_fields.check(with_field(path, value))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (
            "steps",
            10**30,
            r"steps is 10000.* must be a whole number below 2\*\*32",
        ),
        ("steps", True, "steps is True"),
        ("steps", 1.0, "steps is 1.0"),
        ("steps", None, "steps is None"),
        ("steps", np.float32(1), "steps is "),
        ("flag", 1, "flag is 1; it must be True or False"),
        ("name", None, "name is None; it must be text"),
        ("kind", "z", "kind is 'z'; it must be one of"),
        ("pair", (1.0,), "pair is .1.0,.; it must be a tuple of 2"),
        ("pair", "ab", "pair is 'ab'; it must be a tuple"),
        ("pair", (0.0, math.nan), r"pair\[1\] is nan; it must be a number"),
        ("nested", ((1,), (2, "x")), r"nested\[1\]\[1\] is 'x'"),
        ("weights", {"a": "b"}, r"weights\['a'\] is 'b'"),
        ("weights", 3, "weights is 3; it must be a mapping"),
        ("inner", None, "inner is None; it must be a Inner"),
        ("maybe", 3, "maybe is 3; it must be a Inner or None"),
        ("part", "text", "part is 'text'; it must be a Promised"),
        ("inner.rate", 0.0, r"inner.rate is 0.0; it must be in \(0, 1\]"),
        ("inner.rate", 1.5, "inner.rate is 1.5"),
        ("inner.rate", -math.inf, "inner.rate is -inf"),
        ("inner.rate", 10**30, "inner.rate is 1000000"),
        ("inner.count", 0, r"inner.count is 0; it must be in \[1, inf\)"),
    ],
)
def test_what_does_not_is_named_in_one_line(path, value, told):
    with pytest.raises(ValueError, match=told) as caught:
        typed_fields.check(with_field(path, value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_number_that_python_refuses_to_print_is_named_all_the_same():
    with pytest.raises(ValueError, match="steps is a number of thousands of digits"):
        typed_fields.check(Config(steps=10**5000))


def test_an_end_that_is_open_is_outside_and_one_that_is_closed_is_not():
    for allowed, value, fits in (
        ("[0, inf)", math.inf, False),
        ("[0, inf]", math.inf, True),
        ("(0, 1)", 1, False),
        ("[0, 1)", 0, True),
    ):

        @dataclasses.dataclass
        class One:
            value: float = 0.0

            RANGES: ClassVar = {"value": allowed}

        if fits:
            typed_fields.check(One(value))
        else:
            with pytest.raises(ValueError, match="must be in"):
                typed_fields.check(One(value))
