r"""MoE2's experts: two base language models, and an adapter for each of eight experts.

    python launch/train.py --config=configs/edge_experts.py:base \
        --workdir=runs/edge_base
    python launch/train.py --config=configs/edge_experts.py:tuned \
        --workdir=runs/edge_experts

`base` learns the common part of EdgeText; `tuned` (default) starts from the shipped
base and gives each expert a cluster of prompts; `generalists` tunes one adapter of each
size on all clusters with the compute of all eight experts, for comparison. `smoke`
shows in seconds that it runs, `tiny` in no time.
"""

from m3jax.data.edgetext import dataset
from m3jax.experiments import over_snr, supervised
from m3jax.foundation import sizes
from m3jax.nn import lora
from m3jax.systems.moe2 import clusters, pool
from m3jax.testing import tiny_runs
from m3jax.train import config as train_config
from m3jax.train import optimizers

VARIANTS = ("base", "tuned", "generalists", "smoke", "tiny")
TUNING_STEPS = 450


def get_config(arg: str = "tuned") -> supervised.Supervised:
    """The experiment of a variant, one of ``VARIANTS``."""
    if arg == "base":
        return _base()
    if arg == "tuned":
        return _tuned()
    if arg == "generalists":
        return _generalists()
    if arg == "smoke":
        config = _base()
        config.data.config = "smoke"
        config.train.steps, config.learner.batch_size = 20, 32
        config.train.log_every, config.train.checkpoint_every = 5, 10
        return config
    if arg == "tiny":
        small = sizes.DecoderSizes(dim=8, num_heads=2, depth=1, ff_dim=8)
        return supervised.Supervised(
            system=pool.Config(
                small=small,
                large=small,
                placement=("large", "small"),
                lora=lora.LoraConfig(rank=1, pattern=pool.KERNELS),
            ),
            data=dataset.Config(config="smoke"),
            **tiny_runs.training(),
        )
    raise ValueError(
        f"configs/edge_experts.py knows {', '.join(VARIANTS)}, not {arg!r}"
    )


def _base() -> supervised.Supervised:
    return supervised.Supervised(
        system=pool.Config(lora=lora.LoraConfig()),
        data=dataset.Config(fresh=True, part="common"),
        train=train_config.TrainConfig(
            steps=2_400, log_every=100, checkpoint_every=400
        ),
        learner=train_config.LearnerConfig(
            batch_size=128, optimizer=_optimizer(learning_rate=2e-3)
        ),
        evaluator=over_snr.OverSnr(num_watched=900),
    )


def _tuned() -> supervised.Supervised:
    return supervised.Supervised(
        system=pool.Config(),
        data=clusters.Config(),
        train=train_config.TrainConfig(
            steps=TUNING_STEPS, log_every=50, checkpoint_every=TUNING_STEPS
        ),
        learner=train_config.LearnerConfig(
            batch_size=256,
            trainable="adapters",
            optimizer=optimizers.OptimizerConfig(
                learning_rate=5e-3, warmup_steps=40, weight_decay=0.0, b2=0.95
            ),
        ),
        evaluator=over_snr.OverSnr(num_watched=450),
        start="edge_base",
    )


def _generalists() -> supervised.Supervised:
    config = _tuned()
    config.system.placement = ("large", "small")
    config.data.num_experts, config.data.foreign = 2, 1.0
    # Each sees as many examples as all experts together.
    config.train.steps = len(pool.TABLE_I) * TUNING_STEPS
    config.train.checkpoint_every = config.train.steps // 2
    config.learner.batch_size = 64
    return config


def _optimizer(learning_rate: float) -> optimizers.OptimizerConfig:
    return optimizers.OptimizerConfig(
        name="muon",
        learning_rate=learning_rate,
        muon_learning_rate=1e-2,
        warmup_steps=50,
        weight_decay=1e-3,
        b2=0.95,
    )
