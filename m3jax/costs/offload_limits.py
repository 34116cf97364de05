"""What an offloaded request may take, and which limit is broken (MSAO, equation 11)."""

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.costs import checks


class Bounds(NamedTuple):
    """Limits as numbers that may be traced; what they are is said by `Limits`.

    Attributes:
      quality_loss: epsilon_Q.
      edge_bytes: memory of the edge.
      cloud_bytes: memory of the cloud.
      send_s: ``[M]``, T_max.
    """

    quality_loss: base.Array
    edge_bytes: base.Array
    cloud_bytes: base.Array
    send_s: base.Array


@dataclasses.dataclass
class Limits:
    """The right-hand sides of equation 11.

    Plain and mutable, so that the command line can override a field.

    Attributes:
      modalities: names of the M modalities that may be sent.
      quality_loss: epsilon_Q, share of the cloud's quality that may be lost.
      edge_bytes: memory of the edge.
      cloud_bytes: memory of the cloud.
      send_s: T_max of each modality, ``[M]``; (): none has one.
    """

    modalities: tuple[str, ...] = ("image", "video", "audio")
    quality_loss: float = 0.02
    edge_bytes: float = 24e9
    cloud_bytes: float = 40e9
    send_s: tuple[float, ...] = ()

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        limits = {n: getattr(self, n) for n in ("quality_loss", "edge_bytes")}
        limits["cloud_bytes"] = self.cloud_bytes
        limits |= {f"send_s[{m}]": value for m, value in enumerate(self.send_s)}
        for name, value in limits.items():
            if not value > 0:
                raise ValueError(
                    f"limits.{name} is {value!r}; give a number above 0, or inf for no"
                    " limit"
                )
        if not self.modalities:
            raise ValueError("limits.modalities is empty; name at least one")
        if len(self.send_s) not in (0, len(self.modalities)):
            raise ValueError(
                f"limits.send_s has {len(self.send_s)} entries for"
                f" {len(self.modalities)} modalities; give one for each, or none"
            )

    @property
    def bounds(self) -> Bounds:
        """As numbers."""
        send_s = self.send_s or (math.inf,) * len(self.modalities)
        return Bounds(
            self.quality_loss, self.edge_bytes, self.cloud_bytes, jnp.array(send_s)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What each row of an excess is about."""
        return (
            "quality loss",
            "edge memory",
            "cloud memory",
            *(f"sending time of {name}" for name in self.modalities),
            *(f"retention of {name}" for name in self.modalities),
        )


class Taken(NamedTuple):
    """What a plan takes; arrays of any one shape, those of modalities with M before.

    Attributes:
      quality_loss: share of the cloud's quality, Delta Q.
      edge_bytes: at the most.
      cloud_bytes: at the most.
      send_s: ``[M, ...]``, T_comm; 0 of a modality that is not sent.
      retention: ``[M, ...]``, beta.
      sparsity: ``[M, ...]``, MAS: beta may not be below 1 - MAS.
    """

    quality_loss: base.Array
    edge_bytes: base.Array
    cloud_bytes: base.Array
    send_s: base.Array
    retention: base.Array
    sparsity: base.Array


class Verdict(NamedTuple):
    """Whether plans keep the limits.

    Attributes:
      within: bool ``[...]``.
      excess: ``[C, ...]``, above 0 where a limit is broken: the share of it that is
        too much; for retention, what is missing.
    """

    within: base.Array
    excess: base.Array

    def broken(self, limits: Limits, number: tuple[int, ...] = ()) -> list[str]:
        """Names of the limits that one plan breaks, the worst first; host only.

        Args:
          limits: that were asked about.
          number: which plan.
        """
        own = np.asarray(self.excess)[(slice(None), *number)]
        order = np.argsort(-own, kind="stable")
        return [limits.names[i] for i in order if own[i] > 0]


def excesses(bounds: Bounds, taken: Taken) -> base.Array:
    """By how much each limit is broken, ``[C, ...]``; differentiable.

    Args:
      bounds: of equation 11.
      taken: by plans.
    """
    shape = jnp.shape(taken.quality_loss)
    send_s = jnp.reshape(bounds.send_s, (-1, *(1,) * len(shape)))
    rows = (
        jnp.asarray(taken.quality_loss)[None] / bounds.quality_loss - 1.0,
        jnp.asarray(taken.edge_bytes)[None] / bounds.edge_bytes - 1.0,
        jnp.asarray(taken.cloud_bytes)[None] / bounds.cloud_bytes - 1.0,
        taken.send_s / send_s - 1.0,
        1.0 - taken.sparsity - taken.retention,
    )
    rows = [jnp.broadcast_to(row, (row.shape[0], *shape)) for row in rows]
    return jnp.concatenate(rows)


def feasible(limits: Limits, taken: Taken, tolerance: float = 1e-6) -> Verdict:
    """Which plans keep equation 11, and what the others break.

    Args:
      limits: of equation 11.
      taken: by plans.
      tolerance: of each limit, for rounding.

    Raises:
      ValueError: the limits make no sense.

    Example:
      >>> limits = Limits(modalities=("image",), send_s=(0.1,))
      >>> taken = Taken(0.01, 6e9, 50e9, np.array([0.3]), np.ones(1), np.zeros(1))
      >>> feasible(limits, taken).broken(limits)
      ['sending time of image', 'cloud memory']
    """
    limits.validate()
    checks.number("feasible", "tolerance", tolerance, least=0.0)
    found = excesses(limits.bounds, taken)
    return Verdict(jnp.all(found <= tolerance, axis=0), found)
