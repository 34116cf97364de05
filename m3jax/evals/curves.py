"""What is read off training curves."""

from collections.abc import Sequence

import numpy as np


def steps_to_level(
    level: float, steps: Sequence[float], values: Sequence[float]
) -> float:
    """Where a curve first reaches a level, interpolated between two looks.

    Args:
      level: to reach from below.
      steps: of the looks, rising.
      values: at each.

    Returns:
      The step; the last one if the curve never gets there.

    Example:
      >>> steps_to_level(1.5, [0, 10, 20], [1.0, 2.0, 3.0])
      5.0
      >>> steps_to_level(4.0, [0, 10, 20], [1.0, 2.0, 3.0])
      20.0
    """
    reached = np.flatnonzero(np.asarray(values) >= level)
    if not len(reached):
        return float(steps[-1])
    at = int(reached[0])
    if at == 0:
        return float(steps[0])
    return float(np.interp(level, values[at - 1 : at + 1], steps[at - 1 : at + 1]))
