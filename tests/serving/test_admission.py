"""The ledger of connections."""

import pytest

from m3jax.serving import admission, wire

Phase = admission.Phase


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(clock):
    return admission.Admission(4, 3, patience_s=1.0, clock=clock)


def enter(ledger, **members):
    for name, (address, phase) in members.items():
        ledger.enter(name, address)
        ledger.move(name, phase)


def test_an_address_has_no_more_places_than_it_may(ledger):
    for name in "abc":
        assert ledger.has_room("here")
        ledger.enter(name, "here")
    assert not ledger.has_room("here") and ledger.has_room("there")
    ledger.enter("d", "there")
    assert not ledger.has_room("there"), "all places are taken"
    ledger.leave("a")
    assert ledger.has_room("here") and ledger.has_room("there") and len(ledger) == 3


def test_nobody_gives_way_before_the_patience_ends(ledger, clock):
    enter(ledger, a=("x", Phase.RECEIVING), b=("x", Phase.IDLE), c=("x", Phase.IDLE))
    assert ledger.yielding("x") is None
    clock.now = 1.0
    assert ledger.yielding("x") == "a"
    ledger.move("a", Phase.RECEIVING)  # bytes that trickle in win no time
    assert ledger.yielding("x") == "a"
    ledger.move("a", Phase.WORKING)
    assert ledger.yielding("x") == "b"


@pytest.mark.parametrize("calm", [Phase.RECEIVING, Phase.IDLE, Phase.SENDING])
def test_who_works_never_gives_way(ledger, clock, calm):
    enter(ledger, a=("x", Phase.WORKING), b=("x", calm), c=("x", Phase.WORKING))
    clock.now = 9.0
    assert ledger.yielding("x") == "b"
    ledger.move("b", Phase.WORKING)
    assert ledger.yielding("x") is None


def test_strangers_give_way_before_those_that_were_answered(ledger, clock):
    enter(
        ledger,
        a=("x", Phase.SENDING),
        b=("x", Phase.IDLE),
        c=("x", Phase.RECEIVING),
    )
    clock.now = 1.0
    order = []
    while (member := ledger.yielding("x")) is not None:
        order.append(member)
        ledger.leave(member)
    assert order == ["c", "b", "a"]


def test_the_address_with_most_connections_pays(ledger, clock):
    enter(
        ledger,
        a=("one", Phase.RECEIVING),
        b=("many", Phase.IDLE),
        c=("many", Phase.IDLE),
        d=("many", Phase.IDLE),
    )
    clock.now = 1.0
    assert ledger.yielding("new") == "b"
    assert ledger.yielding("many") == "b"
    ledger.leave("b")
    ledger.enter("e", "many")
    assert ledger.yielding("many") == "c", "its own, oldest first"


def test_those_that_left_are_forgotten(ledger):
    ledger.enter("a", "x")
    ledger.leave("a")
    ledger.leave("a")
    ledger.move("a", Phase.WORKING)
    assert "a" not in ledger and not len(ledger) and ledger.count(Phase.WORKING) == 0
    assert not ledger._of_address, "addresses do not pile up"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("head_s", 0.0), ("body_s", float("nan")), ("write_s", float("inf"))),
        *(("idle_s", "1"), ("grace_s", -1.0), ("max_connections", 0)),
        *(("max_per_address", 1.5), ("max_parked", -1), ("max_per_address", 1000)),
    ],
)
def test_impossible_limits_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        wire.Wire(**{field: value})
    wire.Wire(grace_s=0, max_parked=0)
