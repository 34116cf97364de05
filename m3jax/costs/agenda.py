"""What happens when, in the order of time; what all discrete-event models share."""

import heapq
from collections.abc import Callable


class Agenda:
    """Actions and their times. Those of one time happen in the order they were put.

    Example:
      >>> agenda, told = Agenda(), []
      >>> agenda.at(2.0, lambda time, word: told.append((time, word)), "late")
      >>> agenda.at(1.0, lambda time: agenda.at(time + 0.5, told.append))
      >>> agenda.play()
      >>> told
      [1.5, (2.0, 'late')]
    """

    def __init__(self):
        self._waiting, self._number = [], 0

    def at(self, time: float, action: Callable[..., None], *args) -> None:
        """Lets ``action(time, *args)`` happen."""
        heapq.heappush(self._waiting, (float(time), self._number, action, args))
        self._number += 1

    def play(self) -> None:
        """Until nothing is left; what happens may put more."""
        while self._waiting:
            time, _, action, args = heapq.heappop(self._waiting)
            action(time, *args)
