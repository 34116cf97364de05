"""All subsets of a few members at once: masks, sums, maxima, maximal sets, fronts.

A subset is a bool row ``[N]``, or its number: bit i of the number is member i. A
*table* holds a value for each of the 2^N subsets, in the order of their numbers. Tables
are made by doubling: the subsets with member i are those without it, in the same order.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import numbers

MAX_MEMBERS = 16
"""Above this, a table is too long to be made."""


def masks(num_members: int, most: int = MAX_MEMBERS) -> np.ndarray:
    """Every subset, the empty one first.

    Args:
      num_members: N.
      most: members that are allowed.

    Returns:
      bool ``[2^N, N]``: entry i of row r is bit i of r.

    Raises:
      ValueError: N is too large.

    Example:
      >>> masks(2).astype(int).tolist()
      [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    if not 0 <= num_members <= most:
        raise ValueError(
            f"{num_members} members have 2^{num_members} subsets; they are listed for"
            f" 0 to {most} members"
        )
    numbers = np.arange(2**num_members)
    return (numbers[:, None] >> np.arange(num_members) & 1).astype(bool)


def index(members: base.Array) -> base.Array:
    """The number of a subset, int32.

    Args:
      members: bool ``[..., N]``, N at most 31.

    Example:
      >>> int(index(jnp.array([True, False, True])))
      5
    """
    bits = 2 ** jnp.arange(members.shape[-1], dtype=jnp.int32)
    return jnp.sum(jnp.where(members, bits, 0), axis=-1).astype(jnp.int32)


def members(number: base.Array, num_members: int) -> base.Array:
    """The subset of a number, bool ``[N]``: the inverse of `index`."""
    return (number >> jnp.arange(num_members) & 1).astype(bool)


def nested(num_members: int, most: int) -> np.ndarray:
    """Every subset of at most ``most`` members, with every subset of it but the empty.

    Args:
      num_members: N.
      most: M, at least 1.

    Returns:
      bool ``[P, 2, N]``; row 1 of a pair is a subset of row 0.

    Example:
      >>> nested(2, 1).astype(int).tolist()
      [[[1, 0], [1, 0]], [[0, 1], [0, 1]]]
    """
    everyone = np.arange(num_members)
    pairs = [
        (np.isin(everyone, outer), np.isin(everyone, inner))
        for size in range(1, min(most, num_members) + 1)
        for outer in itertools.combinations(range(num_members), size)
        for part in range(1, size + 1)
        for inner in itertools.combinations(outer, part)
    ]
    return np.array(pairs)


def sums(values: base.Array) -> base.Array:
    """The sum of values over each subset.

    Args:
      values: ``[..., N]``, N at most `MAX_MEMBERS`.

    Returns:
      A table ``[..., 2^N]``; 0 for the empty subset.

    Example:
      >>> sums(jnp.array([1.0, 10.0])).tolist()
      [0.0, 1.0, 10.0, 11.0]
    """
    table = jnp.zeros((*values.shape[:-1], 1), values.dtype)
    for i in range(_checked(values)):
        table = jnp.concatenate([table, table + values[..., i, None]], axis=-1)
    return table


def maxima(values: base.Array, empty: float = -jnp.inf) -> base.Array:
    """The greatest value in each subset.

    Args:
      values: ``[..., N]``, N at most `MAX_MEMBERS`.
      empty: what the empty subset has; no subset has less.

    Returns:
      A table ``[..., 2^N]``.

    Example:
      >>> maxima(jnp.array([3.0, 2.0]), empty=0.0).tolist()
      [0.0, 3.0, 2.0, 3.0]
    """
    values = numbers.as_float(values)
    table = jnp.full((*values.shape[:-1], 1), empty, values.dtype)
    for i in range(_checked(values)):
        more = jnp.maximum(table, values[..., i, None])
        table = jnp.concatenate([table, more], axis=-1)
    return table


def mean_maxima(samples: base.Array) -> base.Array:
    """The mean over samples of the greatest value in each subset.

    With common random numbers, samples of delays give E[max] of every set at once, and
    the sets within a budget are downward closed, as a larger set has no smaller maximum
    in any sample. The table of the first half of the members is joined with that of the
    other half, sample by sample, so nothing of ``K 2^N`` is kept.

    Args:
      samples: ``[..., K, N]``, not negative, N at most `MAX_MEMBERS`.

    Returns:
      A table ``[..., 2^N]``; 0 for the empty subset.

    Example:
      >>> mean_maxima(jnp.array([[1.0, 3.0], [2.0, 0.0]])).tolist()
      [0.0, 1.5, 1.5, 2.5]
    """
    samples = numbers.as_float(samples)
    half = _checked(samples) // 2
    low = maxima(samples[..., :half], empty=0.0)
    high = maxima(samples[..., half:], empty=0.0)
    joined = jnp.maximum(high[..., :, None], low[..., None, :])  # [..., K, H, L]
    table = jnp.mean(joined, axis=-3)
    return table.reshape(*table.shape[:-2], -1)


def maximal(family: base.Array) -> base.Array:
    """The sets of a downward closed family that no member can be added to.

    Args:
      family: bool table ``[2^N]``; if it holds a set it holds all subsets of it.

    Returns:
      bool ``[2^N]``.

    Example:
      >>> maximal(jnp.array([True, True, True, False])).tolist()
      [False, True, True, False]
    """
    family = jnp.asarray(family)
    grows = jnp.zeros_like(family)
    for i in range(family.size.bit_length() - 1):
        pairs = family.reshape(-1, 2, 2**i)
        larger = jnp.stack([pairs[:, 1], jnp.zeros_like(pairs[:, 1])], axis=1)
        grows |= larger.reshape(-1)
    return family & ~grows


def pareto_front(points: np.ndarray) -> np.ndarray:
    """Points that no other one beats: as good in all objectives and better in one.

    Args:
      points: ``[P, D]``, less is better; rows with an infinity or a NaN count nowhere.

    Returns:
      bool ``[P]``; of equal points all are on the front or none is.

    Example:
      >>> pareto_front(np.array([[1, 3], [2, 2], [3, 3], [2, 2]])).tolist()
      [True, True, False, True]
    """
    points = np.asarray(points)
    order = np.lexsort(points.T[::-1])
    order = order[np.isfinite(points[order]).all(axis=1)]
    # In this order, no later point beats an earlier one.
    front = np.empty_like(points[order])
    on_front = np.zeros(len(points), bool)
    count = 0
    for row in order:
        point = points[row]
        no_worse = (front[:count] <= point).all(axis=1)
        if not (no_worse & (front[:count] < point).any(axis=1)).any():
            front[count], on_front[row] = point, True
            count += 1
    return on_front


def _checked(values: jax.Array) -> int:
    num_members = values.shape[-1]
    if num_members > MAX_MEMBERS:
        raise ValueError(
            f"a table of {num_members} members has 2^{num_members} entries; tables are"
            f" made for at most {MAX_MEMBERS}"
        )
    return num_members
