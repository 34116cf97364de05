"""CE-SAC: soft actor-critic with two heads and four critics (M3LLM, section III-B.2).

One policy network gives weights of experts and of channels; two critics value what the
semantic reward pays for them and two what the channel reward does (equations 23 to 25).
What the paper leaves open is SAC's (Haarnoja et al. 2018b), stream by stream:

    y_k = r_k + gamma (1 - terminated) (min_j Qbar_kj(s', a') + alpha_k H_k(s'))
    J = - sum_k kappa_k (min_j Q_kj(s, a) + alpha_k H_k(s))

with k the expert's or the channel's stream, H_k the entropy of the categorical under
head k, and a = (w_expert, w_channel) its Gumbel-softmax samples.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import layers
from m3jax.ops import gradient_surgery
from m3jax.rl import agents, losses, networks, policies, rollouts, sac, sac_config

STREAMS = ("semantic", "channel")
RELAXATIONS = ("gumbel_softmax", "binary_concrete")
_NUM_HEADS = 2


@dataclasses.dataclass
class CeSacConfig:
    """Settings of the agent.

    Attributes:
      sac: of the soft actor-critic; ``num_critics`` is that of each stream.
      is_decoupled: critics of their own for both rewards; else they learn the combined
        reward, and both heads share a temperature.
      is_split: every head has a trunk of its own.
      projects: takes out of each stream's gradient what works against the other's
        (PCGrad); needs ``is_decoupled``.
      kappas: weights of the two streams in the actor's loss.
      relaxation: "gumbel_softmax": a head's weights sum to one; "binary_concrete":
        each is a gate of its own.
      first_temperature, last_temperature: of the samples, annealed geometrically.
      anneal_steps: steps of the learner until the last one.
      entropy_ratio: target entropy of a head, of the largest there is in each state.
    """

    sac: sac_config.SacConfig = dataclasses.field(default_factory=sac_config.SacConfig)
    is_decoupled: bool = True
    is_split: bool = False
    projects: bool = False
    kappas: tuple[float, float] = (1.0, 1.0)
    relaxation: str = "gumbel_softmax"
    first_temperature: float = 1.0
    last_temperature: float = 0.1
    anneal_steps: int = 100
    entropy_ratio: float = 0.3

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        self.sac.validate()
        if self.relaxation not in RELAXATIONS:
            raise ValueError(
                f"relaxation must be one of {RELAXATIONS}, got {self.relaxation!r}"
            )
        if self.projects and not self.is_decoupled:
            raise ValueError(
                "projects needs two gradients: set is_decoupled=True, or projects=False"
            )
        checks = {
            "kappas": len(self.kappas) == len(STREAMS) and min(self.kappas) >= 0,
            "first_temperature": 0 < self.first_temperature < math.inf,
            "last_temperature": 0 < self.last_temperature <= self.first_temperature,
            "anneal_steps": self.anneal_steps >= 1,
            "entropy_ratio": 0 <= self.entropy_ratio <= 1,
        }
        for name, sensible in checks.items():
            if not sensible:
                raise ValueError(f"{name} is out of range: {getattr(self, name)!r}")

    @property
    def heads(self) -> "CeSacConfig":
        """What decides the policy: this."""
        return self

    def make_learner(self, env: Any, params: Any, made: Any) -> base.Learner:
        """The learner in a world, of which the environment is all it needs."""
        del made
        return make_learner(self, env, params)

    def temperature(self, step: base.Array) -> base.Array:
        """The temperature of samples at a step of the learner."""
        done = jnp.asarray(step, jnp.float32)
        share = jnp.minimum(done / self.anneal_steps, 1.0)
        ratio = self.last_temperature / self.first_temperature
        return self.first_temperature * ratio**share


class Actor(nn.Module):
    """Logits of both heads.

    Attributes:
      hidden: widths of the trunk.
      num_experts: N.
      is_split: whether each head has a trunk of its own.
    """

    hidden: tuple[int, ...]
    num_experts: int
    is_split: bool

    @nn.compact
    def __call__(self, x: base.Array) -> base.Array:
        """Maps ``x [..., D]`` to ``[..., 2, N]``."""
        names = [f"{stream}_head" for stream in STREAMS]
        if self.is_split:
            nets = [networks.Mlp(self.hidden, self.num_experts, name=n) for n in names]
        else:
            for i, width in enumerate(self.hidden):
                x = nn.relu(layers.Dense(width, name=f"trunk_{i}")(x))
            nets = [layers.Dense(self.num_experts, name=n) for n in names]
        return jnp.stack([net(x) for net in nets], axis=-2)


def make_agent(
    config: CeSacConfig, num_experts: int, temperature: base.Array
) -> agents.Agent:
    """Makes the networks.

    Args:
      config: settings.
      num_experts: N.
      temperature: of the samples, scalar; may be traced.

    Returns:
      An agent of the streams "semantic" and "channel", or of one reward; its actions
      are ``[B, 2, N]``.
    """
    actor_net = Actor(tuple(config.sac.hidden), num_experts, config.is_split)
    num_streams = len(STREAMS) if config.is_decoupled else 1
    num_critics = num_streams * config.sac.num_critics
    critic_net = networks.make_critics(tuple(config.sac.hidden), 1, num_critics)

    def critic_input(obs: Any, action: base.Array) -> base.Array:
        flat = action.reshape(*action.shape[:-2], _NUM_HEADS * num_experts)
        return jnp.concatenate([agents.features(obs), flat], axis=-1)

    def heads(logits: base.Array, obs: Any) -> Any:
        mask = agents.action_mask(obs)
        mask = None if mask is None else mask[..., None, :]
        if config.relaxation == "binary_concrete":
            return policies.BinaryConcrete(logits, temperature, mask)
        return policies.GumbelSoftmax(logits, temperature, mask, straight_through=False)

    def init(key: base.Array, obs: Any) -> base.Params:
        actor_key, critic_key = jax.random.split(key)
        x = agents.features(obs)
        shape = (*x.shape[:-1], _NUM_HEADS, num_experts)
        action = jnp.zeros(shape, jnp.float32)
        return {
            "actor": actor_net.init(actor_key, x)["params"],
            "critic": critic_net.init(critic_key, critic_input(obs, action))["params"],
        }

    def policy(actor: base.Params, obs: Any) -> Any:
        return heads(actor_net.apply({"params": actor}, agents.features(obs)), obs)

    def random_action(key: base.Array, obs: Any) -> base.Array:
        shape = (*agents.features(obs).shape[:-1], _NUM_HEADS, num_experts)
        return heads(jnp.zeros(shape, jnp.float32), obs).sample(seed=key)

    def q_values(critic: base.Params, obs: Any, action: base.Array) -> base.Array:
        q = critic_net.apply({"params": critic}, critic_input(obs, action))[..., 0]
        return q.reshape(num_streams, -1, *q.shape[1:]) if config.is_decoupled else q

    def soft_value(
        actor: base.Params, critic: base.Params, obs: Any, alpha: Any, key: base.Array
    ) -> tuple[base.Array, base.Array]:
        choice = policy(actor, obs)
        q = jnp.min(q_values(critic, obs, choice.sample(seed=key)), axis=-2)
        entropy = jnp.moveaxis(choice.entropy(), -1, 0)
        if not config.is_decoupled:
            entropy = jnp.sum(entropy, axis=0)
        return q + jnp.asarray(alpha)[..., None] * entropy, entropy

    def remembered(reward: base.Array, info: dict[str, base.Array]) -> base.Array:
        if not config.is_decoupled:
            return reward
        return jnp.stack([info[stream] for stream in STREAMS])

    target = config.entropy_ratio * _largest_entropy(config, num_experts)
    return agents.Agent(
        init,
        policy,
        random_action,
        lambda action: action,
        q_values,
        soft_value,
        (target,) * _NUM_HEADS if config.is_decoupled else _NUM_HEADS * target,
        remembered,
        STREAMS if config.is_decoupled else (),
        lambda obs: _reachable(config, agents.action_mask(obs)),
    )


def make_gradients(config: CeSacConfig) -> sac.Gradients:
    """How the actor's two gradients are measured and put together.

    Adds the metric ``gradient_cosine``, the cosine between the gradients of the two
    streams by the parameters of the shared trunk: below 0 they work against each
    other.
    """
    if not config.is_decoupled:
        return sac.plain_gradients

    def gradients(
        agent: agents.Agent,
        trained: Any,
        target_critic: base.Params,
        batch: rollouts.Transition,
        hyper: sac_config.Hyper,
        key: base.Array,
    ) -> tuple[Any, base.Metrics]:
        def both(trained):
            parts, metrics = losses.sac_losses(
                *(agent, *trained, target_critic, batch),
                *(hyper.discount, hyper.target_entropy, key),
            )
            kappas = jnp.asarray(config.kappas, jnp.float32)
            actor = kappas * parts.pop("actor_loss")
            return (sum(parts.values()), actor), metrics

        (_, actor), pull_back, metrics = jax.vjp(both, trained, has_aux=True)
        (rest,) = pull_back((jnp.float32(1.0), jnp.zeros_like(actor)))
        each = jax.vmap(lambda weights: pull_back((jnp.float32(0.0), weights))[0])(
            jnp.eye(len(STREAMS), dtype=actor.dtype)
        )
        metrics["gradient_cosine"] = _trunk_cosine(each[0]["actor"])
        if config.projects:
            each = gradient_surgery.project_conflicting(each)
        total = jax.tree.map(lambda one, rows: one + jnp.sum(rows, 0), rest, each)
        return total, metrics

    return gradients


def make_learner(
    config: CeSacConfig,
    env: Any,
    env_params: Any = None,
    hyper: sac_config.Hyper | None = None,
) -> base.Learner:
    """Makes the learner that routes experts in an environment.

    Args:
      config: settings.
      env: with actions ``[2, N]`` in [0, 1], and ``info`` that holds both rewards, such
        as ``m3jax.envs.expert_routing.wireless.Wireless(actions="heads")``.
      env_params: its parameters; None for its own.
      hyper: float hyper-parameters, possibly traced; None for the config's.

    Returns:
      A learner that takes no batches.

    Raises:
      ValueError: a setting makes no sense, or actions are of another shape.
    """
    config.validate()
    env_params = env.default_params if env_params is None else env_params
    shape = getattr(env.action_space(env_params), "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != _NUM_HEADS:
        raise ValueError(
            f"CE-SAC has two heads of N weights: actions must be [2, N], got {shape};"
            ' make the environment with actions="heads"'
        )
    return sac.make_learner(
        config.sac,
        lambda step: make_agent(config, shape[1], config.temperature(step)),
        env,
        env_params,
        hyper,
        make_gradients(config),
    )


def _largest_entropy(config: CeSacConfig, num_experts: int) -> float:
    """Of one head, in nats."""
    if config.relaxation == "binary_concrete":
        return num_experts * math.log(2.0)
    return math.log(num_experts)


def _reachable(config: CeSacConfig, mask: base.Array | None) -> base.Array | None:
    """Largest entropy of a head over the valid experts, over that over all."""
    if mask is None or config.relaxation == "gumbel_softmax":
        return agents.log_share(mask)
    return jnp.mean(mask, axis=-1, dtype=jnp.float32)


def _trunk_cosine(actor: base.Params) -> base.Array:
    """Between the two rows ``[2, ...]`` of the trunk's gradients; 0 without a trunk."""
    trunk = {name: part for name, part in actor.items() if name.startswith("trunk")}
    return gradient_surgery.cosines(trunk)[0, 1] if trunk else jnp.float32(0.0)
