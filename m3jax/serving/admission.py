"""Who is connected, and whose place a newcomer may take.

A connection that works on nothing costs its caller nothing, so it holds its place only
until somebody needs it. The ledger knows no sockets: members are anything that can be a
key.
"""

import collections
import enum
import itertools
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Member = TypeVar("Member", bound=Hashable)


class Phase(enum.IntEnum):
    """What a connection does; lower ones give way first."""

    RECEIVING = 0
    """No whole request has come, or the next one is coming in."""
    IDLE = 1
    """It was answered, and nothing has come since."""
    SENDING = 2
    """Its caller takes an answer slowly."""
    WORKING = 3
    """A whole request is being answered; never gives way."""


class Admission(Generic[Member]):
    """A ledger of connections.

    Who gives way: of the address with most connections, those that are still
    RECEIVING before the IDLE ones, then those SENDING; of these the one that has been
    so for longest. An honest request comes in within milliseconds; nobody gives way
    before ``patience_s``.

    Args:
      max_members: most connections.
      max_per_address: most of one address.
      patience_s: seconds in one phase before a member gives way.
      clock: seconds that never run backwards.

    Example:
      >>> ledger = Admission(max_members=2, max_per_address=2, patience_s=0.0)
      >>> ledger.enter("a", "10.0.0.1"), ledger.enter("b", "10.0.0.1")
      (None, None)
      >>> ledger.has_room("10.0.0.2"), ledger.yielding("10.0.0.2")
      (False, 'a')
      >>> ledger.move("a", Phase.WORKING)
      >>> ledger.yielding("10.0.0.2")
      'b'
    """

    def __init__(
        self,
        max_members: int,
        max_per_address: int,
        patience_s: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._max_members = max_members
        self._max_per_address = max_per_address
        self._patience_s = patience_s
        self._clock = clock
        self._members: dict[Member, tuple[str, Phase, float, int]] = {}
        self._of_address: collections.Counter[str] = collections.Counter()
        self._turn = itertools.count()

    def __len__(self) -> int:
        """Number of members."""
        return len(self._members)

    def __contains__(self, member: Member) -> bool:
        """Whether it is a member."""
        return member in self._members

    def count(self, phase: Phase) -> int:
        """Members in a phase."""
        return sum(is_in is phase for _, is_in, _, _ in self._members.values())

    def has_room(self, address: str) -> bool:
        """Whether another of this address may enter."""
        return (
            len(self._members) < self._max_members
            and self._of_address[address] < self._max_per_address
        )

    def yielding(self, address: str) -> Member | None:
        """The member that gives way to a newcomer of this address; None: nobody does.

        Where the address has all the places it may have, only its own members do.
        """
        own = self._of_address[address] >= self._max_per_address
        latest = self._clock() - self._patience_s
        candidates = [
            (-self._of_address[where], phase, turn, member)
            for member, (where, phase, since, turn) in self._members.items()
            if phase is not Phase.WORKING
            and since <= latest
            and (not own or where == address)
        ]
        # Turns are unlike, so members are never compared.
        return min(candidates)[-1] if candidates else None

    def enter(self, member: Member, address: str) -> None:
        """Adds a member, RECEIVING; whether there is room is the caller's business."""
        self._note(member, address, Phase.RECEIVING)
        self._of_address[address] += 1

    def move(self, member: Member, phase: Phase) -> None:
        """Notes what a member does; it stays in place if it did so already."""
        known = self._members.get(member)
        if known is not None and known[1] is not phase:
            self._note(member, known[0], phase)

    def leave(self, member: Member) -> None:
        """Takes a member out; one that is not there is no error."""
        known = self._members.pop(member, None)
        if known is not None:
            self._of_address[known[0]] -= 1
            if not self._of_address[known[0]]:
                del self._of_address[known[0]]

    def _note(self, member: Member, address: str, phase: Phase) -> None:
        self._members[member] = (address, phase, self._clock(), next(self._turn))
