"""All rewards of one step of expert routing, from weights and links."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from m3jax import base
from m3jax.envs.expert_routing import judges, rewards, routing

LITERAL = frozenset(
    {
        *("fading_sign", "noise_power", "concentration", "stability", "balance"),
        *("efficiency", "product"),
    }
)
"""The equations that have a printed form: of 6 two, 11, 15, 16, 17 with 14, and 26."""


class RewardParams(NamedTuple):
    """Weights and thresholds; the defaults are M3LLM's section IV-A.

    Attributes:
      semantic_weights: alpha_1 to alpha_4 (equation 8).
      channel_weights: w_1 to w_4 (equation 13).
      semantic_share: alpha of the combined score.
      channel_share: beta.
      activation: theta_act, the weight from which an expert counts as active.
      suppression: theta_sup, the weight from which an expert is heard and a link used.
      min_snr_db: SNR_min.
      max_snr_db: SNR_max.
      judge: parameters of the judge.
    """

    semantic_weights: tuple[base.Array, ...] = (0.4, 0.3, 0.2, 0.1)
    channel_weights: tuple[base.Array, ...] = (0.4, 0.3, 0.2, 0.1)
    semantic_share: base.Array = 0.5
    channel_share: base.Array = 0.5
    activation: base.Array = 0.2
    suppression: base.Array = 0.1
    min_snr_db: base.Array = 5.0
    max_snr_db: base.Array = 25.0
    judge: Any = judges.ToyParams()


class Weights(NamedTuple):
    """What a routing decision is.

    Attributes:
      expert: [N], what the semantic rewards R_1 to R_3 look at.
      final: [N], what is sent and added up; R_4 and the channel rewards look at it.
    """

    expert: base.Array
    final: base.Array


class Scene(NamedTuple):
    """What the rewards of a step depend on besides the weights.

    Attributes:
      core: bool [N], for the task.
      irrelevant: bool [N].
      competence: [N], with the reliability of today.
      snr_db: [N], the true ones.
      live: bool [N].
    """

    core: base.Array
    irrelevant: base.Array
    competence: base.Array
    snr_db: base.Array
    live: base.Array


def single(weights: base.Array, scene: Scene) -> Weights:
    """One head: the same weights for both, those of experts that are not live lost."""
    valid = routing.normalise(weights, scene.live)
    return Weights(valid, valid)


def joined(
    heads: base.Array, scene: Scene, literal: frozenset[str] = frozenset()
) -> Weights:
    """Two heads ``[2, N]``, of experts and of channels, joined by equation 26."""
    expert, channel = (routing.normalise(head, scene.live) for head in heads)
    join = routing.literal_product if "product" in literal else routing.combine
    return Weights(expert, join(expert, channel, scene.live))


def semantic(
    weights: Weights,
    scene: Scene,
    params: RewardParams,
    judge: Callable[..., base.Array] = judges.success,
    literal: frozenset[str] = frozenset(),
) -> dict[str, base.Array]:
    """R_LLM and its four parts (equations 8 to 12).

    Args:
      weights: of the experts.
      scene: task and links.
      params: weights and thresholds.
      judge: R_4.
      literal: equations to take as printed.

    Returns:
      ``semantic`` and ``activation``, ``suppression``, ``concentration``, ``judged``.
    """
    parts = {
        "activation": rewards.activation(weights.expert, scene.core, params.activation),
        "suppression": rewards.suppression(
            weights.expert, scene.irrelevant, params.suppression
        ),
        "concentration": rewards.concentration(
            weights.expert, scene.core, "concentration" in literal
        ),
        "judged": judge(weights.final, scene.competence, scene.snr_db, params.judge),
    }
    total = rewards.weighted(tuple(parts.values()), params.semantic_weights)
    return {"semantic": total, **parts}


def channel(
    weights: Weights,
    scene: Scene,
    params: RewardParams,
    literal: frozenset[str] = frozenset(),
) -> dict[str, base.Array]:
    """R_channel and its four parts (equations 13 to 17).

    Active are the links of live experts whose final weight is at least theta_sup.

    Args:
      weights: of the experts.
      scene: task and links.
      params: weights and bounds.
      literal: equations to take as printed.

    Returns:
      ``channel`` and ``quality``, ``stability``, ``balance``, ``efficiency``.
    """
    active = rewards.passes(weights.final, params.suppression) & scene.live
    snr_db, bounds = scene.snr_db, (params.min_snr_db, params.max_snr_db)
    unit = "efficiency" in literal
    parts = {
        "quality": rewards.quality(snr_db, active, bounds, unit),
        "stability": rewards.stability(snr_db, active, bounds, "stability" in literal),
        "balance": rewards.balance(weights.final, active, "balance" in literal),
        "efficiency": rewards.efficiency(snr_db, active, params.max_snr_db, unit),
    }
    total = rewards.weighted(tuple(parts.values()), params.channel_weights)
    return {"channel": total, **parts}


def score(
    weights: Weights,
    scene: Scene,
    params: RewardParams,
    judge: Callable[..., base.Array] = judges.success,
    literal: frozenset[str] = frozenset(),
) -> tuple[base.Array, dict[str, base.Array]]:
    """The combined score ``alpha R_LLM + beta R_channel``, and all parts of it."""
    parts = {
        **semantic(weights, scene, params, judge, literal),
        **channel(weights, scene, params, literal),
    }
    total = params.semantic_share * parts["semantic"]
    total += params.channel_share * parts["channel"]
    return jnp.asarray(total, jnp.float32), parts
