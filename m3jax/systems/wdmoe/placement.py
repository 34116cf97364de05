"""Which experts of a layer share a device (WDMoE, section V-D); NumPy.

Many tokens of a text choose the same two experts. If both lie on one device, the token
is sent there once instead of twice.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_EXACT_EXPERTS = 8


class Placement(NamedTuple):
    """Experts of a layer on devices.

    Attributes:
      devices: of each expert, ``[n]``.
      share: of the tokens' pairs of experts that share a device.
      is_exact: whether all matchings were looked at.
    """

    devices: np.ndarray
    share: float
    is_exact: bool


class Saved(NamedTuple):
    """Seconds of a layer, and what sharing a device saves.

    Attributes:
      in_order_s: experts 0 and 1 on the first device, 2 and 3 on the next, ...; tokens
        are sent once for each expert.
      in_order_once_s: the same, tokens sent once to a device.
      twice_s: with the placement, tokens sent once for each expert.
      once_s: with the placement, tokens sent once to a device.
    """

    in_order_s: float
    in_order_once_s: float
    twice_s: float
    once_s: float


def pair_ratios(routings: np.ndarray, num_experts: int) -> np.ndarray:
    """Share of tokens that choose both experts, per layer (figure 8).

    Args:
      routings: experts of each token, ``[L, T, k]``; -1 is none.
      num_experts: n.

    Returns:
      ``[L, n, n]``, symmetric, 0 on the diagonal; of L layers the greatest entry is
      what the figure shows.

    Example:
      >>> pair_ratios(np.array([[[0, 1], [0, 1], [2, 1], [0, 2]]]), 3)[0].tolist()
      [[0.0, 0.5, 0.25], [0.5, 0.0, 0.25], [0.25, 0.25, 0.0]]
    """
    asked = _asked(routings, num_experts).astype(float)
    both = np.einsum("ltn,ltm->lnm", asked, asked) / asked.shape[1]
    both[:, np.arange(num_experts), np.arange(num_experts)] = 0.0
    return both


def place(ratios: np.ndarray) -> Placement:
    """Puts two experts on each device, so that the most pairs of tokens share one.

    All matchings for up to eight experts (of eight there are 105); beyond that the best
    pair of those left, and so on.

    Args:
      ratios: of one layer, ``[n, n]``, n even.

    Raises:
      ValueError: n is odd.
    """
    num = len(ratios)
    if num % 2:
        raise ValueError(f"{num} experts make no pairs; give an even number.")
    is_exact = num <= _EXACT_EXPERTS
    if is_exact:
        pairs = max(matchings(num), key=lambda pairs: _total(ratios, pairs))
    else:
        pairs = _greedy(np.array(ratios, float))
    devices = np.zeros(num, int)
    for device, pair in enumerate(pairs):
        devices[list(pair)] = device
    return Placement(devices, float(_total(ratios, pairs)), is_exact)


def matchings(num: int) -> Iterator[list[tuple[int, int]]]:
    """All ways to make pairs of ``0 ... num - 1``; 105 of eight.

    Example:
      >>> len(list(matchings(8)))
      105
    """

    def of(left):
        if not left:
            yield []
            return
        first, *others = left
        for index, other in enumerate(others):
            for rest in of(others[:index] + others[index + 1 :]):
                yield [(first, other), *rest]

    return of(list(range(num)))


def saved(
    routings: np.ndarray,
    devices: np.ndarray,
    send_s: np.ndarray,
    compute_s: np.ndarray,
) -> Saved:
    """What a placement saves in one layer, of the wait for its slowest device.

    A device that has both experts of a token gets it once, computes twice, and sends
    the weighted sum back once.

    Args:
      routings: of one layer, ``[T, k]``; -1 is none.
      devices: of each expert, ``[n]``, such as ``place(...).devices``.
      send_s: seconds of a token down and up, ``[D]``.
      compute_s: seconds of an expert for a token, ``[D]``.
    """
    num = len(devices)
    asked = _asked(routings[None], num)[0]

    def wait(devices, once):
        spread = np.eye(len(send_s))[devices]  # [n, D]
        experts = asked @ spread  # [T, D]
        trips = np.minimum(experts, 1) if once else experts
        return float(np.max(trips.sum(0) * send_s + experts.sum(0) * compute_s))

    in_order = np.arange(num) // 2
    return Saved(
        *(wait(where, once) for where in (in_order, devices) for once in (False, True))
    )


def _asked(routings, num):
    """Bool ``[L, T, n]``."""
    routings = np.asarray(routings)
    return (routings[..., None] == np.arange(num)).any(axis=-2)


def _total(ratios, pairs):
    return sum(ratios[a][b] for a, b in pairs)


def _greedy(ratios):
    """Pairs from the most frequent on."""
    left, pairs = list(range(len(ratios))), []
    while left:
        _, a, b = max((ratios[a, b], -a, -b) for a in left for b in left if a < b)
        pairs.append((-a, -b))
        left = [expert for expert in left if expert not in pairs[-1]]
    return pairs
