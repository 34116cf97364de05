"""What soft actor-critic is told: sizes and lengths, and floats that may be traced."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import tracing


@dataclasses.dataclass
class SacConfig:
    """Sizes, lengths and starting values; SAC's usual ones.

    A plain dataclass, because command-line overrides set its attributes.

    Attributes:
      hidden: widths of the hidden layers of actor and critics.
      num_critics: how many critics; the smallest value counts.
      num_envs: environments stepped at once.
      collect_steps: steps of each environment between updates.
      updates: updates after each collection.
      chunk: collections in one step of the learner.
      batch_size: transitions in an update.
      capacity: transitions in the replay; num_envs * collect_steps divides it.
      warmup: transitions with random actions before the first update, at least.
      learning_rate: of Adam, for actor, critics and temperature.
      discount: gamma, in [0, 1].
      tau: how far the target critics move towards the critics in an update, in (0, 1].
      target_entropy: nats; None for what is usual: minus the number of continuous
        actions, or half of the largest entropy of discrete ones. In a state whose mask
        leaves n of A discrete actions it is log n / log A of that, which such a state
        can reach if one without a mask can.
      initial_temperature: alpha at the start.
    """

    hidden: tuple[int, ...] = (256, 256)
    num_critics: int = 2
    num_envs: int = 8
    collect_steps: int = 1
    updates: int = 1
    chunk: int = 128
    batch_size: int = 256
    capacity: int = 131_072
    warmup: int = 1_024
    learning_rate: float = 3e-4
    discount: float = 0.99
    tau: float = 0.005
    target_entropy: float | None = None
    initial_temperature: float = 1.0

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        given = tracing.known(self)
        for field in dataclasses.fields(given):
            value = getattr(given, field.name)
            if field.type is int and (type(value) is not int or value < 1):
                raise ValueError(
                    f"sac.{field.name} must be a whole number of 1 or more, got"
                    f" {value!r}"
                )
        entropy = given.target_entropy
        checks = {
            "hidden": all(width > 0 for width in given.hidden),
            "learning_rate": 0 < given.learning_rate < math.inf,
            "discount": 0 <= given.discount <= 1,
            "tau": 0 < given.tau <= 1,
            "target_entropy": entropy is None or math.isfinite(entropy),
            "initial_temperature": 0 < given.initial_temperature < math.inf,
        }
        for name, sensible in checks.items():
            if not sensible:
                raise ValueError(
                    f"sac.{name} is out of range: {getattr(given, name)!r}"
                )
        block = given.num_envs * given.collect_steps
        if given.capacity % block or given.capacity < given.warmup:
            raise ValueError(
                f"sac.capacity must be a multiple of num_envs * collect_steps = {block}"
                f" and at least sac.warmup = {given.warmup}, got {given.capacity}"
            )


class Hyper(NamedTuple):
    """The float hyper-parameters, as data; described at `SacConfig`."""

    learning_rate: base.Array
    discount: base.Array
    tau: base.Array
    target_entropy: base.Array
    initial_temperature: base.Array


def make_hyper(
    config: SacConfig, usual_target_entropy: float | tuple[float, ...]
) -> Hyper:
    """Takes the float hyper-parameters from a config, as scalars.

    Args:
      config: the config.
      usual_target_entropy: nats, taken where the config has None; one for each stream
        of rewards.
    """
    values = dataclasses.asdict(config)
    if config.target_entropy is None:
        values["target_entropy"] = usual_target_entropy
    return Hyper(*(jnp.asarray(values[n], jnp.float32) for n in Hyper._fields))


def spread(hyper: Hyper, num_members: int, **values: Any) -> Hyper:
    """Repeats settings for so many members, some fields replaced by one value each.

    Args:
      hyper: scalars, as `make_hyper` takes them from a config.
      num_members: P.
      **values: field -> P values, such as ``discount=(0.9, 0.99)``.

    Returns:
      float32 arrays ``[P]``; target entropies of S streams are [P, S].

    Raises:
      ValueError: a field is not known, or its values are not P.
    """
    for name, given in values.items():
        if name not in hyper._fields:
            raise ValueError(f"hyper-parameters are {hyper._fields}, not {name!r}")
        if np.shape(given) != (num_members,):
            raise ValueError(
                f"{name} needs {num_members} values, got shape {np.shape(given)}"
            )
    return Hyper(
        *(
            jnp.asarray(values[name], jnp.float32)
            if name in values
            else jnp.broadcast_to(row, (num_members, *jnp.shape(row)))
            for name, row in hyper._asdict().items()
        )
    )
