"""How the loss of a task falls with the number of tokens that are sent.

Both curves fall and are convex, so that the best number of tokens at a price for each
has a closed form. ``fit`` finds one from measured points.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from m3jax import base

_LEAST_PRICE = 1e-15
"""Below it, tokens are as good as free; its reciprocal squared is still a float32."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExponentialLoss:
    """An exponential curve.

        loss(m) = floor + drop exp(-m / scale)

    A pytree: all attributes may be traced, and ``[U]`` for users of different curves.

    Attributes:
      floor: the loss with unlimited tokens.
      drop: what no token at all adds to it, >= 0.
      scale: tokens that take the excess down by e, > 0.

    Example:
      >>> curve = ExponentialLoss(floor=0.5, drop=2.0, scale=8.0)
      >>> float(curve(jnp.inf)), round(float(curve.best_length(price=0.01)), 2)
      (0.5, 25.75)
    """

    floor: base.Array | float
    drop: base.Array | float
    scale: base.Array | float

    def __call__(self, lengths: base.Array) -> base.Array:
        """The loss at a number of tokens."""
        return self.floor + self.drop * jnp.exp(-lengths / self.scale)

    def best_length(self, price: base.Array) -> base.Array:
        """The length that minimises ``price m + loss(m)`` over all real m.

            m = scale log(drop / (price scale))

        Args:
          price: loss that a token is worth, >= 0.

        Returns:
          Tokens, of either sign; very many at a price of 0.
        """
        return self.scale * _log_ratio(self.drop / self.scale, price)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PowerLoss:
    """A power law, as losses of networks often follow.

        loss(m) = floor + drop m^-exponent

    Attributes:
      floor: the loss with unlimited tokens.
      drop: what a single token leaves above it, >= 0.
      exponent: > 0.
    """

    floor: base.Array | float
    drop: base.Array | float
    exponent: base.Array | float

    def __call__(self, lengths: base.Array) -> base.Array:
        """The loss at a number of tokens, > 0."""
        return self.floor + self.drop * jnp.exp(-self.exponent * jnp.log(lengths))

    def best_length(self, price: base.Array) -> base.Array:
        """The length that minimises ``price m + loss(m)`` over ``m > 0``.

            m = (exponent drop / price)^(1 / (exponent + 1))

        Args:
          price: loss that a token is worth, >= 0.

        Returns:
          Tokens; very many at a price of 0.
        """
        ratio = _log_ratio(self.exponent * self.drop, price)
        return jnp.exp(ratio / (self.exponent + 1.0))


def _log_ratio(steepness: base.Array, price: base.Array) -> base.Array:
    """Each logarithm on its own, since the slope of a quotient squares the price."""
    steepness, price = (jnp.maximum(x, _LEAST_PRICE) for x in (steepness, price))
    return jnp.log(steepness) - jnp.log(price)


class Fit(NamedTuple):
    """A curve and how well it fits.

    Attributes:
      curve: the curve, of Python floats.
      rmse: root of the mean square of the residuals, in the unit of the loss.
      r2: share of the variance of the losses that it explains.
    """

    curve: ExponentialLoss | PowerLoss
    rmse: float
    r2: float


_CURVES = {"exponential": ExponentialLoss, "power": PowerLoss}
_NUM_STARTS = 60


def fit(lengths, losses, kind: str = "exponential") -> Fit:
    """Fits a curve to measured points by least squares; host side, NumPy.

    For a given scale (or exponent) the curve is linear in floor and drop, so those have
    a closed form, and one number is left to search: on a grid first, then by Brent's
    method (variable projection: Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973). The
    drop is kept at 0 at least, so that the curve never rises.

    Args:
      lengths: numbers of tokens ``[n]``, positive, at least three different ones.
      losses: the loss at each, ``[n]``, finite.
      kind: "exponential" or "power".

    Returns:
      A ``Fit``.

    Raises:
      ValueError: for an unknown kind, or points that no curve can be fitted to.

    Example:
      >>> lengths = np.array([4, 8, 16, 32])
      >>> found = fit(lengths, 0.5 + 2.0 * np.exp(-lengths / 10.0))
      >>> round(found.curve.scale, 3), round(found.r2, 3)
      (10.0, 1.0)
    """
    if kind not in _CURVES:
        raise ValueError(f"kind must be one of {sorted(_CURVES)}, got {kind!r}.")
    lengths, losses = _points(lengths, losses)

    def basis(log_shape: float) -> np.ndarray:
        if kind == "exponential":
            return np.exp(-lengths / np.exp(log_shape))
        return lengths ** -np.exp(log_shape)

    def error(log_shape: float) -> float:
        floor, drop = _line(basis(log_shape), losses)
        return float(np.mean((floor + drop * basis(log_shape) - losses) ** 2))

    grid = np.linspace(*_shape_range(lengths, kind), _NUM_STARTS)
    best = int(np.argmin([error(point) for point in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    options = {"xatol": 1e-10}
    found = optimize.minimize_scalar(
        error, bounds=around, method="bounded", options=options
    ).x
    floor, drop = _line(basis(found), losses)
    variance = float(np.var(losses))
    r2 = 1.0 - error(found) / variance if variance > 0.0 else 1.0
    curve = _CURVES[kind](float(floor), float(drop), float(np.exp(found)))
    return Fit(curve, float(np.sqrt(error(found))), r2)


def _points(lengths, losses) -> tuple[np.ndarray, np.ndarray]:
    lengths, losses = np.asarray(lengths, np.float64), np.asarray(losses, np.float64)
    if lengths.ndim != 1 or lengths.shape != losses.shape:
        raise ValueError(
            "a loss curve needs one loss for each length, got shapes "
            f"{lengths.shape} and {losses.shape}."
        )
    if not (np.isfinite(lengths) & np.isfinite(losses) & (lengths > 0.0)).all():
        raise ValueError(
            f"lengths must be positive and losses finite, got {lengths} and {losses}."
        )
    if len(np.unique(lengths)) < 3:
        raise ValueError(
            "three unknowns need three different lengths at least, got "
            f"{np.unique(lengths)}."
        )
    return lengths, losses


def _line(basis: np.ndarray, losses: np.ndarray) -> tuple[float, float]:
    """Floor and drop >= 0 of least squares."""
    centred = basis - basis.mean()
    spread = float(centred @ centred)
    drop = max(float(centred @ losses) / spread, 0.0) if spread > 0.0 else 0.0
    return float(losses.mean() - drop * basis.mean()), drop


def _shape_range(lengths: np.ndarray, kind: str) -> tuple[float, float]:
    """Logarithms of the scales (exponents) from very steep to almost straight."""
    if kind == "exponential":
        return np.log(lengths.min() / 10.0), np.log(lengths.max() * 10.0)
    return np.log(1e-2), np.log(10.0)
