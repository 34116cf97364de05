"""M3LLM's variants: what each knows and how it learns, and all that decides results."""

import dataclasses
from collections.abc import Mapping

from m3jax import base
from m3jax.envs.expert_routing import events, world
from m3jax.evals import axes
from m3jax.rl import sac_config
from m3jax.systems.m3llm import asem, router
from m3jax.systems.m3llm import ce_sac as ce_sac_lib
from m3jax.systems.m3llm import end_to_end as end_to_end_lib
from m3jax.systems.m3llm import world as world_lib
from m3jax.train import config as train_config

SYSTEM = "m3llm"
FULL = "M3LLM"
NO_ASEM = "without ASEM"
JOINT = "without decoupled critics"
NO_MCP = "without MCP"
PROJECTED = "with PCGrad"
SPLIT = "split trunks"
FAR = "discount 0.99"
END_TO_END = "end to end"
REFERENCES = "references"
LINEAR, BURSTY = "forecasts, linear", "forecasts, bursty"
LOCAL = "local (EdgeViT-like)"
CENTRAL = "centralised mixture (MoE-LLaVA-like)"
SEMANTIC, NETWORK, ORACLE = "semantic_first", "network_first", "oracle"
ALONE = ", one device each"
"""What a unit is called, and a claim, where each expert is on one device only."""
_UNITS = dict.fromkeys(
    (
        *("convergence_steps", "common_level_steps"),
        *("recovery_steps", "lost_in_burst_steps"),
    ),
    "step",
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to learn to route.

    Attributes:
      uses_asem: the policy sees ASEM's latents, or the reports themselves.
      uses_mcp: there are tags and coarse masks.
      is_decoupled: two critics for each reward, or two for their sum.
      projects: PCGrad.
      is_split: a trunk for each head.
      discount: gamma; None for that of the settings. Links and tasks move whatever is
        decided, so 0 loses nothing and learns sooner; the paper's is 0.99.
      is_end_to_end: trained through links and task model, without critics.
      has_copies: whether several devices host each expert, so that there is a choice of
        links for the same words.
      weight: about how long it takes, relative to others.
    """

    uses_asem: bool = True
    uses_mcp: bool = True
    is_decoupled: bool = True
    projects: bool = False
    is_split: bool = False
    discount: float | None = None
    is_end_to_end: bool = False
    has_copies: bool = True
    weight: float = 1.0

    @property
    def program(self) -> str:
        """What decides the programs that it compiles: all but its discount."""
        return repr(dataclasses.replace(self, discount=None, weight=1.0))


VARIANTS = {
    FULL: Variant(),
    NO_ASEM: Variant(uses_asem=False),
    JOINT: Variant(is_decoupled=False),
    NO_MCP: Variant(uses_mcp=False),
    PROJECTED: Variant(projects=True),
    SPLIT: Variant(is_split=True),
    FAR: Variant(discount=0.99),
    END_TO_END: Variant(is_end_to_end=True),
    FULL + ALONE: Variant(has_copies=False),
}


@dataclasses.dataclass
class Settings:
    """All that decides the study's results.

    Attributes:
      num_seeds: of every variant.
      world: what routers learn in; those with ``has_copies=False`` in the same world
        with one device for each expert.
      ce_sac: of the routers.
      looks: steps of the learner, each ``sac.chunk`` updates, after which the policy is
        played without noise; the last ends the training.
      test_envs: episodes of a look and of the test, whole ones.
      burst_from, burst_until: steps of the burst in its test.
      burst_share: of the links that it hits.
      failure_at: step of the failure in its test.
      end_to_end: of that router; as many environment steps as CE-SAC.
      left_out: variants that no claim rests on and that are not run.
      compiles_quickly: programs that run slower; right for a few steps.
    """

    num_seeds: int = 5
    left_out: tuple[str, ...] = ()
    world: world_lib.WorldConfig = dataclasses.field(
        default_factory=lambda: world_lib.WorldConfig(copies=2)
    )
    ce_sac: ce_sac_lib.CeSacConfig = dataclasses.field(
        default_factory=lambda: ce_sac_lib.CeSacConfig(
            sac=sac_config.SacConfig(
                hidden=(128, 128),
                num_envs=16,
                chunk=25,
                batch_size=256,
                capacity=64_000,
                warmup=1_600,
                learning_rate=2e-3,
                discount=0.0,
                initial_temperature=0.1,
            ),
            last_temperature=1.0,
            entropy_ratio=0.1,
        )
    )
    looks: tuple[int, ...] = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
    test_envs: int = 64
    burst_from: int = 40
    burst_until: int = 60
    burst_share: float = 0.5
    failure_at: int = 50
    end_to_end: end_to_end_lib.Config = dataclasses.field(
        default_factory=lambda: end_to_end_lib.Config(collect_steps=5, chunk=5)
    )
    compiles_quickly: bool = False

    @property
    def variants(self) -> dict[str, Variant]:
        """Those that are run, by name."""
        return {n: v for n, v in VARIANTS.items() if n not in self.left_out}

    def world_of(self, variant: Variant) -> world_lib.WorldConfig:
        """The world that a variant learns in."""
        if variant.has_copies:
            return self.world
        return dataclasses.replace(self.world, copies=1)

    def router(self, variant: Variant, seed: int) -> router.Router:
        """A variant as an experiment."""
        sac = self.ce_sac.sac
        if variant.discount is not None:
            sac = dataclasses.replace(sac, discount=variant.discount)
        heads = dataclasses.replace(
            self.ce_sac,
            sac=sac,
            is_decoupled=variant.is_decoupled,
            projects=variant.projects,
            is_split=variant.is_split,
        )
        through = dataclasses.replace(self.end_to_end, heads=heads)
        return router.Router(
            agent=through if variant.is_end_to_end else heads,
            world=self.world_of(variant),
            uses_asem=variant.uses_asem,
            uses_mcp=variant.uses_mcp,
            train=train_config.TrainConfig(steps=self.looks[-1], seed=seed),
        )


def smoke() -> Settings:
    """The same study in seconds: two seeds, tiny networks, hardly trained."""
    return Settings(
        num_seeds=2,
        left_out=(SPLIT, FAR),
        world=world_lib.WorldConfig(
            num_examples=4,
            num_steps=16,
            copies=2,
            calibration_snrs_db=(-10, 5, 25),
            asem=asem.Config(fast_dim=4, slow_dim=2, hidden_dim=8),
            asem_series=16,
            asem_length=12,
            asem_steps=6,
            asem_batch=4,
        ),
        ce_sac=ce_sac_lib.CeSacConfig(
            sac=sac_config.SacConfig(
                hidden=(8,),
                num_envs=4,
                chunk=4,
                batch_size=16,
                capacity=160,
                warmup=16,
                discount=0.0,
            ),
            anneal_steps=2,
        ),
        looks=(1, 2, 4),
        test_envs=4,
        burst_from=4,
        burst_until=8,
        failure_at=8,
        end_to_end=end_to_end_lib.Config(collect_steps=2, chunk=2),
        compiles_quickly=True,
    )


def with_events(params: world.Params, **values) -> world.Params:
    """The same world in which nothing goes wrong but what is named."""
    return params._replace(events=events.EventParams(**values))


def rows(
    variant: str, seed: int, values: Mapping[str, float], **at: float | str
) -> list[base.Record]:
    """Records of some metrics; those of policies stand at ``copies`` of each expert."""
    return [
        base.Record(
            *(SYSTEM, variant, axes.at(**at), seed),
            *(metric, value, _UNITS.get(metric, "1")),
        )
        for metric, value in values.items()
    ]
