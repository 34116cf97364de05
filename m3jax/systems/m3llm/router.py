"""A run of M3LLM's router: an agent that learns in a world of experts and links."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

from m3jax import base
from m3jax.systems.m3llm import ce_sac, end_to_end, evaluation, playing, routing_env
from m3jax.systems.m3llm import world as world_lib
from m3jax.train import config as train_config
from m3jax.train import typed_json

FILTER = "filter"
"""Where a router's parameters hold the ASEM that it sees the links through."""


@dataclasses.dataclass
class Router:
    """All that decides a run.

    Attributes:
      agent: CE-SAC, or a router trained end to end through the links.
      world: what it learns in.
      uses_asem: it sees ASEM's latents, or the reports themselves.
      uses_mcp: there are tags and coarse masks.
      train: ``steps`` are those of the learner, each of ``agent.sac.chunk`` collections
        (or, end to end, ``agent.chunk`` updates).
    """

    agent: ce_sac.CeSacConfig | end_to_end.Config = dataclasses.field(
        default_factory=ce_sac.CeSacConfig
    )
    world: world_lib.WorldConfig = dataclasses.field(
        default_factory=world_lib.WorldConfig
    )
    uses_asem: bool = True
    uses_mcp: bool = True
    train: train_config.TrainConfig = dataclasses.field(
        default_factory=train_config.TrainConfig
    )

    name: ClassVar[str] = "m3llm"
    start: ClassVar[str] = ""  # its experts are trained already

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        self.agent.validate()
        self.world.validate()
        self.train.validate()

    def build(self, own: Callable[[], base.Params] | None = None) -> base.Run:
        """Makes the run; the world is made, or read from disk, when it is needed."""
        del own
        act = playing.make_act(self.agent.heads, self.world.num_links)

        @functools.cache
        def watched():
            env = surround(self).env
            return evaluation.mean_reward(env, act, self.world.num_steps)

        def watch(params: base.Params) -> Mapping[str, float]:
            training = seen_by(surround(self).params, params)
            return {"validation_reward": watched()(params["actor"], training)}

        def evaluate(params, grid, tell):
            around = surround(self)
            tested = around.params._replace(bank=around.made.test_bank)
            tested = seen_by(tested, params)
            given = around.made, around.env, tested, act, params["actor"]
            return evaluation.over_snr(self.name, *given, grid, tell)

        return base.Run(
            make_learner=lambda: make_learner(self, surround(self)),
            predict={"route": self._route},
            evaluate=evaluate,
            watch=watch,
            best="validation_reward",
            shown=("task_accuracy", *evaluation.SHOWN)
            if self.world.drawn is None
            else evaluation.SHOWN,
            pack=_own,
        )

    def _route(self, params: base.Params, batch: base.Batch, key) -> base.Array:
        """Weights of experts and channels ``[B, 2, N]``, without noise.

        The batch holds ``observation`` [B, D] and ``action_mask`` bool [B, N], as
        ``RoutingEnv`` shows them.
        """
        del key
        heads = self.agent.heads
        num_links = self.world.num_links
        agent = ce_sac.make_agent(heads, num_links, heads.last_temperature)
        return agent.policy(params["actor"], batch).mode()


class Surroundings(NamedTuple):
    """Where a router routes.

    Attributes:
      made: the world.
      env: as the router sees it.
      params: of that, with the bank that routers train on.
    """

    made: world_lib.World
    env: routing_env.RoutingEnv
    params: routing_env.Params


def surround(config: Router) -> Surroundings:
    """A router's world, and the ASEM that it is seen through; the newest few are kept.

    So runs of a sweep, and the training, evaluation and restoring of one run, share
    them.
    """
    return _surround(
        typed_json.dumps(typed_json.to_json(config.world)),
        *(config.uses_asem, config.uses_mcp, config.train.seed),
    )


@functools.lru_cache(maxsize=4)
def _surround(world: str, uses_asem: bool, uses_mcp: bool, seed: int) -> Surroundings:
    made = world_lib.make_world(typed_json.from_json(json.loads(world)), seed)
    return place(made, uses_asem, uses_mcp, seed)


def place(
    made: world_lib.World, uses_asem: bool, uses_mcp: bool, seed: int
) -> Surroundings:
    """Puts a router into a world; ASEM is trained at the seed."""
    env, filtered = world_lib.make_env(made, uses_asem, uses_mcp, seed)
    params = routing_env.Params(made.params, made.train_bank, filtered)
    return Surroundings(made, env, params)


class Given(NamedTuple):
    """The data of a world that a learner reads.

    Attributes:
      params: of the environment.
      said: what experts say of its examples; None without experts.
    """

    params: routing_env.Params
    said: end_to_end.Said | None


class Programs(NamedTuple):
    """A learner as functions of its data, the same for all seeds.

    Attributes:
      init: ``(given, key) -> state``.
      step: ``(given, state, key) -> (state, metrics)``.
    """

    init: Callable[[Given, base.Array], base.TrainState]
    step: Callable[..., tuple[base.TrainState, base.Metrics]]


def make_programs(config: Router, around: Surroundings) -> Programs:
    """The functions of a router's learner, which carries its ASEM as parameters.

    So a checkpoint, or a router that is shipped, sees links as it did in training,
    wherever it is restored.
    """

    def make(given: Given, params: routing_env.Params) -> base.Learner:
        made = around.made._replace(train_said=given.said)
        return config.agent.make_learner(around.env, params, made)

    def init(given: Given, key: base.Array) -> base.TrainState:
        state = make(given, given.params).init(key, ())
        return state._replace(params={**state.params, **_kept(given.params)})

    def step(
        given: Given, state: base.TrainState, key: base.Array
    ) -> tuple[base.TrainState, base.Metrics]:
        kept = {n: part for n, part in state.params.items() if n == FILTER}
        trained = {n: part for n, part in state.params.items() if n != FILTER}
        learner = make(given, seen_by(given.params, state.params))
        state, metrics = learner.step(state._replace(params=trained), (), key)
        return state._replace(params={**state.params, **kept}), metrics

    return Programs(init, step)


def make_learner(config: Router, around: Surroundings) -> base.Learner:
    """The learner of a router in its world; it takes no batches."""
    programs = make_programs(config, around)
    given = Given(around.params, around.made.train_said)
    return base.Learner(
        init=lambda key, batch: programs.init(given, key),
        step=lambda state, batch, key: programs.step(given, state, key),
    )


def _kept(params: routing_env.Params) -> dict[str, base.Params]:
    return {} if params.filter is None else {FILTER: params.filter._asdict()}


def seen_by(params: routing_env.Params, router: base.Params) -> routing_env.Params:
    """Parameters of the environment, seen through the ASEM of a router."""
    if FILTER not in router:
        return params
    return params._replace(filter=routing_env.Filter(**router[FILTER]))


def _own(params: base.Params) -> base.Params:
    """What acts: the critics are for training alone."""
    return {name: params[name] for name in ("actor", FILTER) if name in params}
