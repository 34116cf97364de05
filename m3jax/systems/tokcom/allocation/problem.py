"""Several users who send tokens and share a band and a power budget.

    minimise sum_u  w T_u + (1 - w) loss_u(m_u),   T_u = m_u b_u / R_u,
             R_u = B_u log2(1 + p_u g_u / B_u)
    over     m_min <= m_u <= m_max,   sum_u B_u = B,   sum_u p_u = P

the weighted sum of latency and validation loss of "Task-Oriented Multimodal Token
Transmission in Resource-Constrained Multiuser Networks" (IEEE WCL 2025). Here are the
problem and what a plan costs; ``solve`` solves it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import latency_split, quantities
from m3jax.systems.tokcom.allocation import loss_curve

_SHARED = ("bandwidth", "power", "weight", "min_length", "max_length")
_MAY_BE_ZERO = ("weight", "curve.drop", "curve.floor")


class Problem(NamedTuple):
    """One problem, a pytree; ``make_problem`` makes and checks it.

    Attributes:
      gains: g, path gain over noise density, Hz/W, ``[U]``.
      curve: loss by number of tokens; its parameters are scalars or ``[U]``.
      bits_per_token: b, scalar or ``[U]``.
      bandwidth: B in Hz.
      power: P in W.
      weight: w in [0, 1]; ``w / (1 - w)`` is what a second costs in units of the loss.
      min_length: m_min, tokens.
      max_length: m_max, tokens.
    """

    gains: base.Array
    curve: loss_curve.ExponentialLoss | loss_curve.PowerLoss
    bits_per_token: base.Array
    bandwidth: base.Array
    power: base.Array
    weight: base.Array
    min_length: base.Array
    max_length: base.Array


class Plan(NamedTuple):
    """What each user gets.

    Attributes:
      lengths: m, tokens, ``[U]``, real.
      bandwidths: B_u in Hz, ``[U]``.
      powers: p_u in W, ``[U]``.
    """

    lengths: base.Array
    bandwidths: base.Array
    powers: base.Array


class Outcome(NamedTuple):
    """What a plan costs.

    Attributes:
      cost: scalar, the weighted sum.
      latencies: T_u in seconds, ``[U]``.
      losses: ``[U]``.
    """

    cost: base.Array
    latencies: base.Array
    losses: base.Array


def make_problem(
    gains,
    curve: loss_curve.ExponentialLoss | loss_curve.PowerLoss,
    *,
    bits_per_token,
    bandwidth: quantities.Hertz,
    power: quantities.Watt,
    weight: float,
    min_length: int = 1,
    max_length: int,
) -> Problem:
    """Makes a problem and checks it; host side.

    Within traced code, take one that was made here and ``_replace`` what is traced.

    Args:
      gains: ``[U]`` in Hz/W, such as ``drops.draw_users(...).gains``.
      curve: as of ``loss_curve.fit``.
      bits_per_token: scalar or ``[U]``.
      bandwidth: total.
      power: total.
      weight: w in [0, 1].
      min_length: fewest tokens of a user, at least 1.
      max_length: most tokens of a user.

    Returns:
      A ``Problem`` of float arrays.

    Raises:
      TypeError: if bandwidth or power is of another kind.
      ValueError: naming the field that makes no sense.

    Example:
      >>> problem = make_problem(
      ...     [1e9, 1e8],
      ...     loss_curve.ExponentialLoss(floor=0.5, drop=2.0, scale=8.0),
      ...     bits_per_token=256,
      ...     bandwidth=quantities.Hertz(1e6),
      ...     power=quantities.Dbm(23.0).to_w(),
      ...     weight=0.9,
      ...     max_length=64,
      ... )
      >>> problem.gains.shape
      (2,)
    """
    quantities.require(bandwidth, quantities.Hertz, "bandwidth")
    quantities.require(power, quantities.Watt, "power")
    fields = {
        "gains": gains,
        "bits_per_token": bits_per_token,
        "bandwidth": bandwidth.value,
        "power": power.value,
        "weight": weight,
        "min_length": min_length,
        "max_length": max_length,
    }
    fields = {name: np.asarray(value, np.float64) for name, value in fields.items()}
    _check(fields, curve)
    fields = {
        name: jnp.asarray(v, jnp.result_type(float)) for name, v in fields.items()
    }
    return Problem(curve=jax.tree.map(jnp.asarray, curve), **fields)


def equal_plan(problem: Problem, length: base.Array) -> Plan:
    """The same for everyone.

    Args:
      problem: U users.
      length: tokens of each.

    Returns:
      A ``Plan`` with ``1 / U`` of both budgets for each.
    """
    shape = problem.gains.shape
    even = jnp.ones(shape, problem.gains.dtype) / shape[0]
    return Plan(
        lengths=jnp.full(shape, length, problem.gains.dtype),
        bandwidths=even * problem.bandwidth,
        powers=even * problem.power,
    )


def evaluate(problem: Problem, plan: Plan) -> Outcome:
    """The cost of a plan, whether or not it keeps to the budgets.

    Args:
      problem: U users.
      plan: for them.

    Returns:
      An ``Outcome``.
    """
    latencies = latency_split.latency(
        plan.lengths * problem.bits_per_token,
        plan.bandwidths,
        plan.powers * problem.gains,
    )
    losses = problem.curve(plan.lengths)
    w = problem.weight
    return Outcome(jnp.sum(w * latencies + (1.0 - w) * losses), latencies, losses)


def _check(fields: dict[str, np.ndarray], curve) -> None:
    """Raises ValueError naming the first field that makes no sense."""
    shape = fields["gains"].shape
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"gains must be [U] with at least one user, got {shape}.")
    for name, value in fields.items():
        _check_field(name, value, () if name in _SHARED else shape)
    for name, value in vars(curve).items():
        _check_field(f"curve.{name}", np.asarray(value, np.float64), shape)
    if fields["weight"] > 1.0:
        raise ValueError(f"weight must lie in [0, 1], got {fields['weight']}.")
    low, high = float(fields["min_length"]), float(fields["max_length"])
    if not (low.is_integer() and high.is_integer() and low <= high):
        raise ValueError(
            "min_length and max_length must be whole numbers, the first not above the "
            f"second, got {low:g} and {high:g}."
        )


def _check_field(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    if value.shape not in ((), shape):
        wanted = f"a scalar or {list(shape)}" if shape else "a scalar"
        raise ValueError(f"{name} must be {wanted}, got shape {value.shape}.")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} must be finite, got {value}.")
    if name not in _MAY_BE_ZERO and (value <= 0.0).any():
        raise ValueError(f"{name} must be positive, got {value}.")
    if name in ("weight", "curve.drop") and (value < 0.0).any():
        raise ValueError(f"{name} must not be negative, got {value}.")
