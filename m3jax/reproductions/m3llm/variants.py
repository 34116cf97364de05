"""M3LLM's variants: what each knows and how it learns, and all that decides results."""

import dataclasses

from m3jax import routing
from m3jax.envs import events, world
from m3jax.rl import sac_config
from m3jax.systems.m3llm import asem
from m3jax.systems.m3llm import ce_sac as ce_sac_lib
from m3jax.systems.m3llm import end_to_end as end_to_end_lib

FULL = "M3LLM"
NO_ASEM = "without ASEM"
JOINT = "without decoupled critics"
NO_MCP = "without MCP"
PROJECTED = "with PCGrad"
SPLIT = "split trunks"
END_TO_END = "end to end"
REFERENCES = "references"
LINEAR, BURSTY = "forecasts, linear", "forecasts, bursty"
LOCAL = "local (EdgeViT-like)"
CENTRAL = "centralised mixture (MoE-LLaVA-like)"
SEMANTIC, NETWORK, ORACLE = "semantic_first", "network_first", "oracle"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to learn to route.

    Attributes:
      uses_asem: the policy sees ASEM's latents, or the reports themselves.
      uses_mcp: there are tags and coarse masks.
      is_decoupled: two critics for each reward, or two for their sum.
      projects: PCGrad.
      is_split: a trunk for each head.
      is_end_to_end: trained through links and task model, without critics.
      weight: about how long it takes, relative to others.
    """

    uses_asem: bool = True
    uses_mcp: bool = True
    is_decoupled: bool = True
    projects: bool = False
    is_split: bool = False
    is_end_to_end: bool = False
    weight: float = 1.0


VARIANTS = {
    FULL: Variant(),
    NO_ASEM: Variant(uses_asem=False),
    JOINT: Variant(is_decoupled=False),
    NO_MCP: Variant(uses_mcp=False),
    PROJECTED: Variant(projects=True),
    SPLIT: Variant(is_split=True),
    END_TO_END: Variant(is_end_to_end=True),
}


@dataclasses.dataclass
class Settings:
    """All that decides the study's results.

    Attributes:
      num_seeds: of every variant.
      world: what routers learn in.
      ce_sac: of the routers.
      learner_steps: steps of the learner; one is ``sac.chunk`` updates.
      look_every: learner steps between two looks.
      look_envs, look_steps: episodes of a look and their length.
      test_envs: episodes of the test, whole ones.
      burst_from, burst_until: steps of the burst in its test.
      failure_at: step of the failure in its test.
      end_to_end: of that router.
      compiles_quickly: programs that run slower; right for a few steps.
    """

    num_seeds: int = 5
    world: routing.WorldConfig = dataclasses.field(default_factory=routing.WorldConfig)
    ce_sac: ce_sac_lib.CeSacConfig = dataclasses.field(
        default_factory=lambda: ce_sac_lib.CeSacConfig(
            sac=sac_config.SacConfig(
                hidden=(128, 128),
                num_envs=16,
                chunk=100,
                batch_size=256,
                capacity=48_000,
                warmup=1_600,
                learning_rate=7e-4,
                initial_temperature=0.1,
            ),
            anneal_steps=20,
        )
    )
    learner_steps: int = 40
    look_every: int = 2
    look_envs: int = 64
    look_steps: int = 20
    test_envs: int = 32
    burst_from: int = 40
    burst_until: int = 60
    failure_at: int = 50
    end_to_end: end_to_end_lib.Config = dataclasses.field(
        default_factory=lambda: end_to_end_lib.Config(collect_steps=4, chunk=25)
    )
    compiles_quickly: bool = False


def smoke() -> Settings:
    """The same study in seconds: two seeds, tiny networks, hardly trained."""
    return Settings(
        num_seeds=2,
        world=routing.WorldConfig(
            num_examples=4,
            num_steps=16,
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
            ),
            anneal_steps=2,
        ),
        learner_steps=4,
        look_envs=4,
        look_steps=4,
        test_envs=4,
        burst_from=4,
        burst_until=8,
        failure_at=8,
        end_to_end=end_to_end_lib.Config(collect_steps=1, chunk=2),
        compiles_quickly=True,
    )


def with_events(params: world.Params, **values) -> world.Params:
    """The same world in which nothing goes wrong but what is named."""
    return params._replace(events=events.EventParams(**values))
