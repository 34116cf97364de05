"""Budgets of a response, and which sets of experts keep them.

A set is a bool row ``[N]``. Where masks are left out, all 2^N sets are meant, in the
order of their numbers: bit i of the number is expert i.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.costs import responses

MAX_EXPERTS = 16
"""Of more experts, not all sets are listed."""
_ENTRIES = 2**21
"""Of a table that is held at once."""
_EXACT = lax.Precision.HIGHEST  # accelerators would round to fewer bits


@dataclasses.dataclass
class Budget:
    """What a response, or a token, may cost on average (MoE2, equations 9 and 12).

    Plain and mutable, so that the command line can override a field.

    Attributes:
      tau_s: seconds; inf for no limit.
      energy_j: joules over all applications; inf for no limit.
      per: "response" or "token".
      taus_s: seconds for each application of the workload; (): ``tau_s`` for the mean
        over all.
    """

    tau_s: float = math.inf
    energy_j: float = math.inf
    per: str = "response"
    taus_s: tuple[float, ...] = ()

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        limits = {"tau_s": self.tau_s, "energy_j": self.energy_j}
        limits |= {f"taus_s[{m}]": tau_s for m, tau_s in enumerate(self.taus_s)}
        for field, value in limits.items():
            if not value > 0:
                raise ValueError(
                    f"budget.{field} is {value!r}; give a number above 0, or inf for no"
                    " limit"
                )
        if self.per not in responses.PER:
            raise ValueError(
                f"budget.per is {self.per!r}; choose one of {responses.PER}"
            )

    @property
    def is_open(self) -> bool:
        """Whether nothing is limited."""
        return all(map(math.isinf, (*self.limits, self.tau_s)))

    @property
    def limits(self) -> tuple[float, ...]:
        """Limits of the delays, then of the energy."""
        return (*(self.taus_s or (self.tau_s,)), self.energy_j)

    @property
    def names(self) -> tuple[str, ...]:
        """What each of ``limits`` limits."""
        delays = [f"delay of application {m}" for m in range(len(self.taus_s))]
        return (*(delays or ("delay",)), "energy")


class Feasibility(NamedTuple):
    """Whether sets keep a budget.

    Attributes:
      within: bool ``[S]``.
      spent: ``[S, L]``, mean of what each of ``budget.limits`` limits.
      binding: int32 ``[S]``, the limit of which the largest share is spent; its name
        is ``budget.names[binding]``.
    """

    within: base.Array
    spent: base.Array
    binding: base.Array

    def explain(self, budget: Budget, number: int) -> str:
        """Says in words what binds a set; host only.

        Args:
          budget: that was asked about.
          number: row of the set.
        """
        which = int(self.binding[number])
        limit = budget.limits[which]
        if math.isinf(limit):
            return "nothing is limited"
        unit = "J" if which == len(budget.limits) - 1 else "s"
        verdict = "within" if bool(self.within[number]) else "over"
        spent = float(self.spent[number, which])
        return (
            f"{budget.names[which]}: {spent:.3g} {unit} of {limit:g} {unit}, {verdict}"
        )


def expected_max(
    delays: base.Array,
    masks: base.Array | None = None,
    weights: base.Array | None = None,
) -> base.Array:
    """Mean delay of the slowest member of each set.

        mean over k of sum over p of max over n in S of delays[k, p, n]

    For all sets the maxima come by the lattice: max(S + i) = max(max(S), i). Samples
    are taken a few at a time, so memory does not grow with K 2^N.

    Args:
      delays: not negative, ``[K, N]``, or with phases or tokens ``[K, P, N]``.
      masks: bool ``[S, N]``; None: all 2^N sets.
      weights: ``[K]`` of the samples, adding up to 1; None: 1 / K each.

    Returns:
      ``[S]``; 0 for the empty set.

    Raises:
      ValueError: all sets of more than 16 experts.

    Example:
      >>> expected_max(jnp.array([[1.0, 3.0], [2.0, 0.0]])).tolist()
      [0.0, 1.5, 1.5, 2.5]
    """
    delays = jnp.asarray(delays)
    num, num_experts = delays.shape[0], delays.shape[-1]
    weights = jnp.full(num, 1.0 / num) if weights is None else jnp.asarray(weights)
    rows = delays.reshape(-1, num_experts)
    weights = jnp.repeat(weights, len(rows) // num)
    num_sets = _num_sets(num_experts, masks)
    chunk = min(max(_ENTRIES // num_sets, 1), len(rows))
    return _weighted_maxima(rows, weights, masks, chunk)


def expected_sum(energies: base.Array, masks: base.Array | None = None) -> base.Array:
    """Mean energy of each set (MoE2, equation 10).

    Args:
      energies: ``[K, N]``, or with tokens ``[K, T, N]``.
      masks: bool ``[S, N]``; None: all 2^N sets.

    Returns:
      ``[S]``.

    Raises:
      ValueError: all sets of more than 16 experts.
    """
    energies = jnp.asarray(energies)
    means = jnp.sum(energies, axis=tuple(range(energies.ndim - 1))) / len(energies)
    _num_sets(len(means), masks)
    if masks is not None:
        # What is not finite is replaced before the product, as 0 times it is NaN, and
        # added for those who have it.
        rows, finite = jnp.asarray(masks).astype(bool), jnp.isfinite(means)
        known = jnp.where(finite, means, 0.0)
        sums = jnp.matmul(rows.astype(means.dtype), known, precision=_EXACT)
        return sums + jnp.sum(jnp.where(rows & ~finite, means, 0.0), axis=1)
    sums = jnp.zeros(1, means.dtype)
    for n in range(len(means)):
        sums = jnp.concatenate([sums, sums + means[n]])
    return sums


def feasible(
    drawn: responses.Responses, budget: Budget, masks: base.Array | None = None
) -> Feasibility:
    """Which sets keep a budget on average; a subset of one that does, does too.

    Args:
      drawn: responses as ``responses.draw`` gives them, not yet per token.
      budget: limits.
      masks: bool ``[S, N]``; None: all 2^N sets.

    Raises:
      ValueError: the budget makes no sense.
    """
    budget.validate()
    drawn = drawn.per(budget.per)
    if budget.taus_s:
        own = drawn.application == jnp.arange(len(budget.taus_s))[:, None]
        shares = own / jnp.maximum(jnp.sum(own, axis=1, keepdims=True), 1)
        delays = [expected_max(drawn.delays_s, masks, row) for row in shares]
    else:
        delays = [expected_max(drawn.delays_s, masks)]
    spent = jnp.stack([*delays, expected_sum(drawn.energies_j, masks)], axis=1)
    shares = spent / jnp.array(budget.limits)
    binding = jnp.argmax(shares, axis=1).astype(jnp.int32)
    return Feasibility(jnp.all(shares <= 1.0, axis=1), spent, binding)


@functools.partial(jax.jit, static_argnames="chunk")
def _weighted_maxima(rows, weights, masks, chunk: int) -> base.Array:
    """The sum over rows ``[K, N]`` of their weight times each set's maximum."""
    lacking = -len(rows) % chunk
    rows = jnp.pad(rows, ((0, lacking), (0, 0))).reshape(-1, chunk, rows.shape[-1])
    weights = jnp.pad(weights, (0, lacking)).reshape(-1, chunk)
    num_sets = _num_sets(rows.shape[-1], masks)

    def add(total, taken):
        values, shares = taken
        means = jnp.matmul(shares, _maxima(values, masks), precision=_EXACT)
        return total + means, None

    return lax.scan(add, jnp.zeros(num_sets, rows.dtype), (rows, weights))[0]


def _num_sets(num_experts: int, masks: base.Array | None) -> int:
    if masks is not None:
        return len(masks)
    if num_experts > MAX_EXPERTS:
        raise ValueError(
            f"{num_experts} experts have 2^{num_experts} sets; give masks of those that"
            f" matter, or at most {MAX_EXPERTS} experts"
        )
    return 2**num_experts


def _maxima(rows: base.Array, masks: base.Array | None) -> base.Array:
    """The greatest of each row ``[C, N]`` in each set, ``[C, S]``."""
    if masks is None:
        table = jnp.zeros((len(rows), 1), rows.dtype)
        for n in range(rows.shape[1]):
            more = jnp.maximum(table, rows[:, n, None])
            table = jnp.concatenate([table, more], axis=1)
        return table
    table = jnp.zeros((len(rows), len(masks)), rows.dtype)
    for n in range(rows.shape[1]):
        table = jnp.maximum(table, jnp.where(masks[:, n], rows[:, n, None], 0.0))
    return table
